"""``threecad benchmark``: methods side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import (
    errata_option,
    examples,
    fold_option,
    json_option,
    mask_rule_option,
    print_json,
    root_argument,
    split_file_option,
)

if TYPE_CHECKING:
    from threecad.evaluation.results import Result

__all__ = ["benchmark"]


@click.command(
    epilog=examples(
        "threecad benchmark --list",
        "threecad benchmark 3cad --methods cfrg --categories Copper_Stator --image-size 64 "
        "--max-steps 1 --set cfrg.batch_size=2 --bootstrap 0 --out side-by-side",
    )
)
@root_argument
@click.option("--methods", metavar="A,B", help="Methods, see --list, or your own: module:Class.")
@click.option("--categories", metavar="A,B", help="Only these categories.")
@click.option(
    "--protocol",
    type=click.Choice(["full", "paper", "both"]),
    default="both",
    show_default=True,
    help="Which figures the tables show; both are always computed.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="K",
    help="Run every method with the seeds 0 to K-1.",
)  # fmt: skip
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where all results go; what is in it already is not run again.",
)
@split_file_option
@fold_option
@errata_option
@mask_rule_option
@click.option(
    "--image-size", type=click.IntRange(min=32), default=256, show_default=True, metavar="S",
    help="Input size for all methods that do not insist on one, pixels.",
)  # fmt: skip
@click.option(
    "--max-steps", type=click.IntRange(min=1), metavar="N",
    help="At most so many optimiser steps per trial.  [default: each method's own]",
)  # fmt: skip
@click.option("--backbone", metavar="NAME", help="timm's name, for methods that take any backbone.")
@click.option(
    "--backbone-weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Weights that cannot be fetched: NAME.safetensors or NAME.pth.",
)
@click.option(
    "--textures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Texture photographs, such as DTD's images/, for synthetic defects.",
)
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, cuda, …")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, metavar="N",
    help="Replicates for the confidence intervals; 0 for none.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="METHOD.KEY=VALUE",
    help="An option of one method. May be given several times.",
)  # fmt: skip
@click.option(
    "--results", "result_files", multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Add a result of threecad evaluate --out. May be given several times.",
)  # fmt: skip
@click.option("--keep-predictions", is_flag=True, help="Keep maps and scores in DIR/trials.")
@click.option("--retry", is_flag=True, help="Run the trials that failed once more.")
@click.option("--list", "list_only", is_flag=True, help="List the methods and stop.")
@json_option
def benchmark(
    root: Path | None,
    methods: str | None,
    categories: str | None,
    protocol: str,
    out: Path | None,
    settings: tuple[str, ...],
    result_files: tuple[Path, ...],
    retry: bool,
    list_only: bool,
    as_json: bool,
    **plan: Any,
) -> None:
    """Fit, time and evaluate methods on the same images, and put them side by side.

    DIR gets trials.jsonl, report.md, report.tex, report.html and results/*.json. The same command
    goes on where it was interrupted; more methods, categories or seeds can be added later.
    """
    from threecad.benchmark.detectors import list_methods

    if list_only:
        described = list_methods()
        if as_json:
            print_json(described)
        else:
            width = max(map(len, described))
            click.echo("\n".join(f"{name:{width}}  {text}" for name, text in described.items()))
        return
    if methods is None or out is None:
        raise click.UsageError("Give --methods and --out, or --list.")
    from threecad.benchmark import Plan, make_report, run_benchmark

    names = tuple(_split(methods))
    chosen = tuple(_split(categories)) if categories is not None else None
    if not names or chosen == ():
        raise click.UsageError("--methods and --categories name nothing.")
    results = _read_results(result_files, names)
    planned = Plan(
        methods=names,
        categories=chosen,
        options=_parse_settings(settings),
        **plan,
    )
    records = run_benchmark(root, planned, out, retry=retry, progress=True)
    report = make_report(
        records.values(),
        protocols=("full", "paper") if protocol == "both" else (protocol,),
        results=results,
        methods=names,
        index=replace(planned, categories=None).scan(root),
    )
    report.write(out)
    if as_json:
        print_json([record.to_dict() for record in records.values()])
    else:
        click.echo(report.to_markdown(), nl=False)
    if not any(record.error is None for record in records.values() if record.method in names):
        raise click.exceptions.Exit(1)


def _read_results(files: tuple[Path, ...], methods: tuple[str, ...]) -> dict[str, Result]:
    """Return the results by the names of their files, which must be told apart in the tables."""
    from threecad.evaluation.results import Result

    results: dict[str, Result] = {}
    for path in files:
        if path.stem in results or path.stem in methods:
            raise click.UsageError(
                f"{path} would stand in the tables as {path.stem}, and so would another row. "
                "Rename it."
            )
        results[path.stem] = Result.from_json(path)
    return results


def _split(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _parse_settings(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return METHOD.KEY=VALUE as method → key → value; values are JSON where they can be."""
    import json

    options: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        method, dot, key = name.rpartition(".")
        if not (equals and dot and method and key):
            raise click.BadParameter(
                f"{setting!r}; expected METHOD.KEY=VALUE.", param_hint="'--set'"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        options.setdefault(method, {})[key] = value
    return options
