"""``threecad demo``: the main job end to end."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import category_option, examples, force_option, seed_option

__all__ = ["demo"]


@click.command(epilog=examples("threecad demo --out new-demo --per-category 4 --steps 2"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for the data, the detector and the report.",
)
@category_option
@click.option(
    "--per-category",
    type=click.IntRange(min=2),
    default=30,
    show_default=True,
    metavar="N",
    help="Images of each kind in the sample.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=250, show_default=True, help="Training steps."
)
@seed_option
@force_option
def demo(
    out: Path,
    categories: tuple[str, ...],
    per_category: int,
    steps: int,
    seed: int,
    force: bool,
) -> None:
    """Draw a sample dataset, train a detector on it, evaluate it, write a report.

    Offline, on the CPU, in a few minutes. Every step is a command you could type, and is shown.
    """
    from threecad.cli.demonstration import run_demo

    run_demo(
        out,
        categories=categories,
        per_category=per_category,
        steps=steps,
        seed=seed,
        force=force,
        say=click.echo,
    )
