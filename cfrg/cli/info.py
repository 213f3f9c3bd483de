"""``cfrg info``."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import examples, json_option, print_json

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
    from cfrg.evaluation.complexity import measure_complexity, print_complexity
    from cfrg.network.config import CFRGConfig
    from cfrg.network.pretrained import read_config

    config = read_config(run) if run else CFRGConfig.preset(preset)
    complexity = measure_complexity(config, (image_size, image_size) if image_size else None)
    if as_json:
        print_json(complexity.to_dict())
    else:
        print_complexity(complexity)
