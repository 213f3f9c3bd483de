"""``threecad view``: the dataset as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    examples,
    mask_rule_option,
    selection_options,
    workers_option,
)

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection
    from threecad.images.masks import MaskRule


@click.command(
    epilog=examples(
        "threecad view 3cad",
        "threecad view 3cad --category Copper_Stator --out stators.html",
        "threecad view 3cad --predictions predictions --split test --out predictions.html",
    )
)
@selection_options()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="gallery.html",
    show_default=True,
    metavar="FILE",
    help="The page to write.",
)
@click.option(
    "--predictions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Show the scores and anomaly maps of this predictions folder.",
)
@click.option(
    "--scale",
    type=(float, float),
    metavar="LOW HIGH",
    help="Anomaly values at the ends of the colours.  [default: from the good images]",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "val", "test"]),
    help="Only this split. May be given several times.",
)
@click.option(
    "--thumbnail",
    type=click.IntRange(16, 1024),
    default=160,
    show_default=True,
    metavar="PIXELS",
    help="Longer side of a thumbnail.",
)
@mask_rule_option
@workers_option
def view(
    selection: Selection,
    out: Path,
    predictions: Path | None,
    scale: tuple[float, float] | None,
    splits: tuple[str, ...],
    thumbnail: int,
    mask_rule: MaskRule | None,
    workers: int | None,
) -> None:
    """Write one HTML page with every image of ROOT, to filter, sort and look at.

    Masks are drawn as outlines. The page holds thumbnails and loads nothing from the network; a
    closer look shows the image files themselves, where they still lie. With --predictions it finds
    the worst misses and false alarms.
    """
    from threecad.pages.gallery import write_gallery

    index = selection.scan()
    if splits:
        index = index.select(split=splits)
    page = write_gallery(
        index,
        out,
        predictions=predictions,
        scale=scale,
        thumbnail=thumbnail,
        mask_rule=mask_rule,
        workers=workers,
        progress=True,
    )
    click.echo(f"{page}: {len(index):,} images, {page.stat().st_size / 1e6:,.1f} MB")
