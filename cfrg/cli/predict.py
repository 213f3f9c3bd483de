"""``cfrg predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    errata_option,
    examples,
    fold_option,
    force_option,
    split_file_option,
)

if TYPE_CHECKING:
    from threecad.predictions import MapFormat

__all__ = ["predict"]


@click.command(
    epilog=examples(
        "cfrg predict run 3cad --out new-predictions",
        "cfrg predict run 3cad/Copper_Stator/test/good --out good-predictions --format tiff",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option("--category", metavar="C", help="Of a tree, this category.  [default: the run's]")
@click.option("--split", default="test", show_default=True, help="Of a tree, this split.")
@split_file_option
@fold_option
@errata_option
@click.option(
    "--format",
    "map_format",
    type=click.Choice(["npy", "npz", "tiff"]),
    default="npy",
    show_default=True,
    help="Format of the anomaly maps.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, metavar="W")
@click.option("--device", metavar="D")
@force_option
def predict(
    run: Path,
    paths: tuple[Path, ...],
    out: Path,
    category: str | None,
    split: str,
    split_file: Path | None,
    fold: int | None,
    errata: Path | None,
    map_format: MapFormat,
    batch_size: int,
    workers: int,
    device: str | None,
    force: bool,
) -> None:
    """Write the anomaly maps and scores of images, folders or a tree in the 3CAD layout.

    DIR then holds maps/<id>.npy and scores.csv, which `threecad evaluate` reads. A broken image is
    reported and the others go on.
    """
    from cfrg.evaluating import predict_to_folder

    broken = predict_to_folder(
        run,
        paths,
        out,
        category=category,
        split=split,
        split_file=split_file,
        fold=fold,
        errata=errata,
        map_format=map_format,
        batch_size=batch_size,
        workers=workers,
        device=device,
        force=force,
    )
    for prediction in broken:
        click.echo(f"{prediction.id}: {prediction.error}", err=True)
    if broken:
        raise SystemExit(1)
