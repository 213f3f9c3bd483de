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
    epilog=examples("cfrg info", "cfrg info --preset lite --image-size 256 --json", "cfrg info run")
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--preset",
    type=click.Choice(["lite", "memory", "paper"]),
    default="paper",
    show_default=True,
    help="The network to describe when no RUN is given.",
)
@click.option("--image-size", type=click.IntRange(min=32), metavar="S", help="Input size, pixels.")
@json_option
def info(run: Path | None, preset: str, image_size: int | None, as_json: bool) -> None:
    """Print the size of each part of a network, and how it departs from the paper's.

    RUN is a run folder. One multiplication and one addition count as two operations; only
    convolutions are counted.
    """
    from cfrg.evaluation.complexity import measure_complexity
    from cfrg.network.config import CFRGConfig
    from cfrg.network.pretrained import read_config

    config = read_config(run) if run else CFRGConfig.preset(preset)
    complexity = measure_complexity(config, (image_size, image_size) if image_size else None)
    if as_json:
        print_json(complexity.to_dict())
    else:
        _print_complexity(complexity)


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
