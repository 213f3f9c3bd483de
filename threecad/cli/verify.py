"""``threecad verify``: is this tree complete and sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import (
    category_option,
    cluster_option,
    examples,
    json_option,
    mask_rule_option,
    name_flags,
    print_json,
    root_argument,
    workers_option,
)

if TYPE_CHECKING:
    from threecad.dataset.findings import FindingsReport


@click.command(
    epilog=examples(
        "threecad verify 3cad",
        "threecad verify 3cad --deep",
        "threecad verify 3cad --manifest files.csv --json",
    )
)
@root_argument
@click.option(
    "--expect",
    type=click.Choice(["auto", "published", "none"]),
    default="auto",
    show_default=True,
    help="Compare counts with the published table: differences are warnings (auto) or errors "
    "(published). auto leaves samples and imported trees out.",
)
@click.option("--deep", is_flag=True, help="Read and decode every image to the last byte.")
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Table of all files (.csv or .parquet): written the first time, compared afterwards.  "
    "[default with --deep: ROOT/.threecad/manifest.csv]",
)
@click.option("--force", "renew", is_flag=True, help="Write the manifest anew.")
@mask_rule_option
@category_option
@workers_option
@cluster_option
@json_option
def verify(
    root: Path | None,
    categories: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Check structure, counts, files and masks of ROOT.

    Exits with 1 if an error was found.
    """
    from threecad.verification import verify as check

    report = check(root, categories=categories or None, progress=True, **options)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


def _print(report: FindingsReport) -> None:
    from threecad.cli.findings import print_findings

    print_findings(report)
    summary = report.summary
    read = "decoded" if summary["deep"] else "opened (--deep decodes them)"
    rules = ", ".join(f"{name} {n:,}" for name, n in sorted(summary["mask_rules"].items()))
    click.echo(f"{summary['images']:,} images {read}, {summary['masks']:,} masks decoded", nl=False)
    click.echo(f" by rule: {rules}" if rules else "")
    if manifest := summary.get("manifest"):
        if "compared" in manifest:
            click.echo(f"{manifest['path']}: compared by {name_flags(manifest['compared'])}")
        elif manifest["written"]:
            click.echo(f"{manifest['path']}: written, {manifest['files']:,} files")
