"""``cfrg calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cfrg.cli.options import computing_options, tile_options
from threecad.cli.group import (
    examples,
    json_option,
    print_json,
    seed_option,
    selection_options,
)

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection

__all__ = ["calibrate"]


@click.command(
    epilog=examples(
        "cfrg calibrate run 3cad --false-alarm-rate 0.3 --on test-good",
        "cfrg calibrate run 3cad --false-alarm-rate 0.3 --review-rate 0.3 --on test-good --defects",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--false-alarm-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    metavar="R",
    help="Largest share of good images that may be called defective.",
)
@click.option(
    "--review-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="R2",
    help="Largest share of good images that may be sent to review.  [default: no review]",
)
@click.option(
    "--least-area",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="PX",
    help="Regions of fewer pixels of the full image stop no part.",
)
@click.option(
    "--roi",
    metavar="AREA",
    help="Region of interest: a mask, or LabelMe or COCO file; nothing outside it is looked at. "
    "It becomes the run's; none: all of the image.",
)
@click.option(
    "--per-category", is_flag=True, help="Find thresholds of each category on its good images."
)
@click.option(
    "--defects", is_flag=True, help="Count how the tree's defective test images are decided."
)
@click.option(
    "--on",
    default="held-out",
    show_default=True,
    metavar="IMAGES",
    help="Good images: held-out (of the training), test-good, train-good, or a folder.",
)
@selection_options(category=None)
@click.option(
    "--hard-negatives",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="What RUN was trained with, where some of it was held out.",
)
@tile_options
@computing_options
@seed_option
@json_option
def calibrate(run: Path, selection: Selection, as_json: bool, **options: Any) -> None:
    """Find the thresholds of RUN on good images that it was not trained on.

    With 95 % confidence, at most R of unseen good images score above the image threshold, and at
    most R show a region above the pixel threshold. Written to RUN/calibration.json, which `cfrg
    predict` uses, and drawn in RUN/figures/calibration.png.
    """
    from cfrg.calibration.calibrating import calibrate

    calibration = calibrate(run, **selection.arguments(), **options)
    if calibration.warning:
        click.echo(f"Warning: {calibration.warning}", err=True)
    if as_json:
        print_json(calibration.to_dict())
    else:
        click.echo(str(calibration))
