"""``threecad audit``: can figures measured on this tree be trusted?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    across_categories_option,
    cluster_option,
    examples,
    force_option,
    json_option,
    mask_rule_option,
    print_json,
    selection_options,
    workers_option,
)
from threecad.errors import UsageError

if TYPE_CHECKING:
    from threecad.auditing import Audit
    from threecad.auditing.corrections import DifferentMasks
    from threecad.dataset.scanning import Selection
    from threecad.images.masks import MaskRule


@click.command(
    epilog=examples(
        "threecad audit 3cad",
        "threecad audit 3cad --near --html audit.html",
        "threecad audit 3cad --write-errata errata.json",
        "threecad audit 3cad --across-categories",
    )
)
@selection_options()
@click.option("--near", is_flag=True, help="Look for images that look the same, too.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with the pictures side by side.",
)
@click.option(
    "--write-errata",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the corrections that follow from the findings; other commands apply them with "
    "--errata.",
)
@click.option(
    "--different-masks",
    type=click.Choice(("keep", "union", "first", "exclude")),
    default="keep",
    show_default=True,
    help="With --write-errata: what becomes of one picture with different masks under one type.",
)
@across_categories_option
@mask_rule_option
@workers_option
@cluster_option
@force_option
@json_option
def audit(
    selection: Selection,
    near: bool,
    html: Path | None,
    write_errata: Path | None,
    different_masks: DifferentMasks,
    across_categories: bool,
    mask_rule: MaskRule | None,
    workers: int | None,
    cluster: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find duplicates and odd masks in ROOT.

    Images with equal pixels (and, with --near, images that look the same) are named by what they
    mean: leaks between training and test, one picture both good and defective, one under several
    defect types or with different masks, in several categories, or simply twice. A picture in two
    categories is no leak for detectors of one category; --across-categories counts it as one. Exits
    with 1 if an error was found.
    """
    from threecad.auditing import audit as examine

    if write_errata is not None and selection.errata is not None:
        raise UsageError("--write-errata and --errata do not go together: audit the data as it is.")
    if write_errata is not None and write_errata.exists() and not force:
        raise UsageError(f"{write_errata} is there already. Replace it with --force.")
    if different_masks != "keep" and write_errata is None:
        raise UsageError("--different-masks says what --write-errata writes; give both.")
    result = examine(
        selection.scan(),
        near=near,
        across_categories=across_categories,
        mask_rule=mask_rule,
        workers=workers,
        cluster=cluster,
        progress=True,
    )
    if as_json:
        print_json(result.report.to_dict())
    else:
        _print(result)
    _write(result, html, write_errata, different_masks)
    if not result.report.ok:
        raise click.exceptions.Exit(1)


def _print(result: Audit) -> None:
    from threecad.cli.findings import print_findings

    print_findings(result.report)
    summary = result.report.summary
    click.echo(
        f"{summary['images']:,} images decoded; {summary['duplicate_images']:,} of them in "
        f"{summary['duplicate_groups']:,} groups of equal pixels"
    )
    if near := summary.get("near"):
        click.echo(
            f"{near['pairs']:,} pairs look the same, in {near['groups']:,} groups "
            f"(limit: {near['fraction']:.0%})"
        )


def _write(
    result: Audit, html: Path | None, errata: Path | None, different_masks: DifferentMasks
) -> None:
    if html is not None:
        from threecad.pages.audit_page import write_page

        write_page(result, html)
        click.echo(f"Pictures: {html}", err=True)
    if errata is not None:
        from threecad.auditing.corrections import write_errata

        written = write_errata(result, errata, different_masks=different_masks)
        click.echo(f"Corrections: {errata} ({len(written.entries):,} entries)", err=True)
