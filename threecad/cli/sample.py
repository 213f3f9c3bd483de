"""``threecad sample``: a procedural miniature of 3CAD."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import (
    category_option,
    examples,
    force_option,
    seed_option,
    workers_option,
)


@click.command(
    epilog=examples(
        "threecad sample miniature --per-category 2",
        "threecad sample stators --category Copper_Stator --category Iron_Stator --size 128",
    )
)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--per-category",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    metavar="N",
    help="Good training, good test and defective test images a category: N of each.",
)
@click.option(
    "--size",
    type=click.IntRange(min=64),
    default=256,
    show_default=True,
    metavar="S",
    help="Longer side of the largest images, in pixels.",
)
@category_option
@seed_option
@workers_option
@force_option
def sample(
    out: Path,
    per_category: int,
    size: int,
    categories: tuple[str, ...],
    seed: int,
    workers: int | None,
    force: bool,
) -> None:
    """Draw a small 3CAD with exact masks into the new folder OUT, without any download.

    All eight categories, in the layout of the real data. The images are drawn, not photographed,
    and the names of the defect types are the sample's own. The same seed gives the same pixels on
    every machine.
    """
    from threecad.procedural import write_sample

    root = write_sample(
        out,
        per_category=per_category,
        size=size,
        seed=seed,
        categories=categories or None,
        workers=workers,
        force=force,
        progress=True,
    )
    click.echo(f"Sample written to {root}")
