"""``cfrg predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cfrg.cli.options import computing_options, runtime_option, tile_options
from threecad.cli.group import (
    errata_option,
    examples,
    fold_option,
    force_option,
    split_file_option,
)

if TYPE_CHECKING:
    from cfrg.inference.folder import MapFormat

__all__ = ["predict"]


@click.command(
    epilog=examples(
        "cfrg predict run 3cad --out new-predictions",
        "cfrg predict run 3cad/Copper_Stator/test/good --out good-predictions --format tiff",
        "cfrg predict run 3cad --out marked --threshold 3 --pixel-threshold 3 --masks --overlays",
    )
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN] PATH…")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for maps, scores and decisions.",
)
@click.option("--model", metavar="OWNER/NAME", help="A model of the Hub, in place of RUN.")
@click.option("--revision", metavar="R", help="Its branch, tag or commit.")
@click.option("--category", metavar="C", help="Of a tree, this category.  [default: the run's]")
@click.option("--split", default="test", show_default=True, help="Of a tree, this split.")
@split_file_option
@fold_option
@errata_option
@click.option(
    "--threshold",
    type=float,
    metavar="T",
    help="Scores above T are defective.  [default: what `cfrg calibrate` found]",
)
@click.option(
    "--pixel-threshold",
    type=float,
    metavar="P",
    help="Map values above P make regions.  [default: what `cfrg calibrate` found]",
)
@tile_options
@click.option(
    "--format",
    "map_format",
    type=click.Choice(["npy", "npz", "tiff", "png16"]),
    default="npy",
    show_default=True,
    help="Format of the anomaly maps.",
)
@click.option("--masks", is_flag=True, help="Write masks of the regions, too.")
@click.option("--overlays", is_flag=True, help="Write the maps over their images, too.")
@click.option(
    "--annotations",
    type=click.Choice(["coco", "labelme", "label-studio", "cvat"]),
    help="Write outlines of the regions for this annotation tool, to correct by hand.",
)
@computing_options
@runtime_option
@force_option
def predict(
    paths: tuple[Path, ...],
    out: Path,
    model: str | None,
    map_format: MapFormat,
    **options: Any,
) -> None:
    """Find the defects in images, folders, or a tree in the 3CAD layout.

    DIR then holds predictions.jsonl (score, decision, regions, times; a line per image, as they
    come), and maps/<id>.npy and scores.csv, which `threecad evaluate` reads. A broken image is
    reported and the others go on.
    """
    if model is None:
        if not paths:
            raise click.UsageError("Name a run folder, or --model, and images.")
        model, paths = str(paths[0]), paths[1:]
        if not Path(model).is_dir():
            raise click.ClickException(
                f"There is no run folder {model}. A model of the Hub is named with --model."
            )
    if not paths:
        raise click.UsageError("Name images, folders or a tree.")
    from cfrg.inference.folder import predict_to_folder

    written = predict_to_folder(model, paths, out, map_format=map_format, **options)
    for prediction in written.broken:
        click.echo(f"{prediction.id}: {prediction.error}", err=True)
    decided = "" if written.defective is None else f", {written.defective:,} defective"
    if written.review:
        decided += f", {written.review:,} to review"
    click.echo(f"{out}: {written.images:,} images{decided}, {len(written.broken):,} broken")
    if written.broken:
        raise SystemExit(1)
