"""``cfrg info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import examples, json_option, print_json

if TYPE_CHECKING:
    from cfrg.evaluation.complexity import Complexity

__all__ = ["info"]


@click.command(
    epilog=examples(
        "cfrg info",
        "cfrg info --preset lite --image-size 256 --json",
        "cfrg info run",
        "cfrg info --teachers",
    )
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--preset",
    type=click.Choice(["dino", "lite", "memory", "paper"]),
    default="paper",
    show_default=True,
    help="The network to describe when no RUN is given. dino is not measured yet.",
)
@click.option("--image-size", type=click.IntRange(min=32), metavar="S", help="Input size, pixels.")
@click.option("--teachers", is_flag=True, help="List the teachers there are, instead.")
@json_option
def info(
    run: Path | None, preset: str, image_size: int | None, teachers: bool, as_json: bool
) -> None:
    """Print the size of each part of a network, its teacher, and how it departs from the paper's.

    RUN is a run folder. One multiplication and one addition count as two operations; only
    convolutions and matrix products of transformers are counted.
    """
    if teachers:
        _list_teachers(as_json)
        return
    from cfrg.evaluation.complexity import measure_complexity
    from cfrg.network.cards import describe_teacher
    from cfrg.network.config import CFRGConfig
    from cfrg.network.pretrained import read_config
    from cfrg.run_folder import RunFolder
    from cfrg.teachers.backbones import TEACHERS

    config = read_config(run) if run else CFRGConfig.preset(preset)
    record = RunFolder(run).read_record() if run and RunFolder(run).record.is_file() else {}
    complexity = measure_complexity(config, (image_size, image_size) if image_size else None)
    if as_json:
        about = {"name": config.teacher, **TEACHERS[config.teacher].describe()}
        about["read"] = record.get("teacher_weights")
        print_json({**complexity.to_dict(), "teacher": about})
        return
    _print_complexity(complexity)
    if not run and preset == "dino":
        click.echo("The preset dino is not measured yet.\n")
    click.echo(describe_teacher(config.teacher, record))


def _list_teachers(as_json: bool) -> None:
    """Print every teacher, where its weights come from and under which terms."""
    from cfrg.teachers.backbones import TEACHERS

    if as_json:
        print_json({name: teacher.describe() for name, teacher in TEACHERS.items()})
        return
    for name, teacher in TEACHERS.items():
        digest = teacher.sha256 or "not known here"
        lines = [
            f"weights  {teacher.origin}",
            f"licence  {teacher.licence}",
            f"sha256   {digest}" + ("…" if 0 < len(teacher.sha256) < 64 else ""),
        ]
        if teacher.find is None:
            lines.append("fetched  never: give the file with --teacher-weights")
        if teacher.extra:
            lines.append(f'needs    pip install "threecad[{teacher.extra}]"')
        if not teacher.measured:
            lines.append("figures  none: not measured yet")
        click.echo("\n  ".join([name, *lines]))


def _print_complexity(complexity: Complexity) -> None:
    """Print the parts as a table on stdout, and how the network differs from the paper's."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    height, width = complexity.image_size
    table = Table(box=box.SIMPLE, title=f"per image of {height}×{width}")
    table.add_column("part")
    for column in ("parameters, M", "trained, M", "GFLOP"):
        table.add_column(column, justify="right")
    for part in (*complexity.parts, complexity.total):
        if part.name == "total":
            table.add_section()
        figures = (part.parameters / 1e6, part.trained / 1e6, part.flops / 1e9)
        table.add_row(part.name, *(f"{figure:.2f}" for figure in figures))
    console = Console()
    console.print(table)
    if departures := complexity.config.departures():
        table = Table(box=box.SIMPLE, title="departs from the paper")
        for column in ("field", "here", "paper"):
            table.add_column(column)
        for name, values in departures.items():
            table.add_row(name, *(json.dumps(value) for value in values))
        console.print(table)
