"""``threecad sample``: a procedural miniature of 3CAD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    category_option,
    examples,
    force_option,
    seed_option,
    workers_option,
)

if TYPE_CHECKING:
    from threecad.dataset.archive_facts import Edition
    from threecad.procedural.planning import Like


@click.command(
    epilog=examples(
        "threecad sample miniature --per-category 2",
        "threecad sample stators --category Copper_Stator --category Iron_Stator --size 128",
        "threecad sample stand-in --like genuine --category Copper_Stator",
    )
)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--per-category",
    type=click.IntRange(min=1),
    metavar="N",
    help="Good training, good test and defective test images a category: N of each.  [default: 12]",
)
@click.option(
    "--size",
    type=click.IntRange(min=64),
    metavar="S",
    help="Longer side of the largest images, in pixels.  [default: 256; 64 with --like]",
)
@click.option(
    "--like",
    type=click.Choice(["genuine"]),
    help="An image for each of the genuine archive, under its name: 38,501 small files.",
)
@click.option(
    "--edition",
    type=click.Choice(["english", "pinyin"]),
    default="english",
    show_default=True,
    help="Names of the defect folders; in pinyin they are known for Aluminum_Camera_Cover alone.",
)
@category_option
@seed_option
@workers_option
@force_option
def sample(
    out: Path,
    per_category: int | None,
    size: int | None,
    like: Like | None,
    edition: Edition,
    categories: tuple[str, ...],
    seed: int,
    workers: int | None,
    force: bool,
) -> None:
    """Draw a small 3CAD with exact masks into the new folder OUT, without any download.

    All eight categories and their defect types, in the layout and under the names of the real
    data. The images are drawn, not photographed. The same seed gives the same pixels on every
    machine.
    """
    from threecad.procedural import write_sample

    if like is not None and per_category is not None:
        raise click.UsageError("--like says how many images there are; leave --per-category out.")
    root = write_sample(
        out,
        per_category=per_category or 12,
        size=size,
        seed=seed,
        categories=categories or None,
        edition=edition,
        like=like,
        workers=workers,
        force=force,
        progress=True,
    )
    click.echo(f"Sample written to {root}")
