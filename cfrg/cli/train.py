"""``cfrg train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from threecad.cli.group import (
    examples,
    force_option,
    selection_options,
)

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection

__all__ = ["train"]


def _read_side(context: click.Context, option: click.Parameter, text: Any) -> Any:
    """Return a side in pixels, or the word that leaves the choice to the images."""
    return text if text in (None, "auto") else click.IntRange(min=32).convert(text, option, context)


def _read_bits(context: click.Context, option: click.Parameter, text: Any) -> Any:
    """Return a number of bits, or the word that leaves it to the images."""
    return text if text in (None, "auto") else click.IntRange(8, 16).convert(text, option, context)


@click.command(
    epilog=examples(
        "cfrg train 3cad --category Copper_Stator --preset lite --steps 2 --batch-size 2 "
        "--device cpu --out new-run",
        "cfrg train 3cad --category Copper_Stator --steps 2 --batch-size 2 --tile 64 "
        "--set foreground=true --set validation_fraction=0.2 --set validate_every=1 "
        "--set select=best --device cpu --out tiled-run",
        "cfrg train 3cad --category Copper_Stator --preset memory --out memory-run",
    )
)
@click.option("--category", required=True, metavar="C", help="The category to train on, or 'all'.")
@click.option(
    "--preset",
    type=click.Choice(["dino", "lite", "memory", "paper"]),
    default="lite",
    show_default=True,
    help="lite: small, input size from the images, trains on a CPU. memory: a nearest-neighbour "
    "memory, no training, seconds to minutes. paper: the published network, 256 × 256. dino: on a "
    "DINOv2 transformer, 448 × 448, for a GPU; not measured yet.",
)
@click.option(
    "--out",
    "run",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run folder to write.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Optimiser steps.  [default: the preset's]"
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the images instead.")
@click.option(
    "--image-size",
    callback=_read_side,
    metavar="S|auto",
    help="Input size, pixels; auto: from the images, aspect kept.  [default: the preset's]",
)
@click.option(
    "--tile",
    type=click.IntRange(min=1),
    metavar="S",
    help="Train on crops of S × S pixels of the full image instead of on whole images.",
)
@click.option(
    "--bits",
    callback=_read_bits,
    metavar="N|auto",
    help="Of 16 that images have a channel, how many the camera uses; auto: from the images.",
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="K",
    help="Pixels that neighbouring tiles share in prediction.  [default: a quarter of S]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="B",
    help="Pairs of images, per process.  [default: the preset's]",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="R",
    help="Its largest value.  [default: the preset's]",
)
@click.option("--clip", type=click.FloatRange(min=0), help="Largest norm of the gradient.")
@click.option("--precision", type=click.Choice(["no", "bf16", "fp16"]), help="Mixed precision.")
@click.option("--compile", is_flag=True, default=None, help="Compile the network.")
@click.option("--accumulate", type=click.IntRange(min=1), help="Batches per optimiser step.")
@click.option("--checkpoint-every", type=click.IntRange(min=1), metavar="N", help="Steps.")
@click.option("--workers", type=click.IntRange(min=0), metavar="W", help="Data workers.")
@click.option("--seed", type=click.IntRange(min=0), metavar="K", help="Random seed.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1, …  [default: CUDA if there is one]")
@click.option(
    "--teacher", help="Another teacher; `cfrg info --teachers` lists them.", metavar="NAME"
)
@click.option(
    "--teacher-weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The teacher's weights, where they cannot be fetched.",
)
@click.option(
    "--textures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Texture photographs, such as DTD's images/, for the synthetic defects.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other field of CFRGConfig or TrainingOptions; can be repeated.",
)
@click.option(
    "--log-with",
    multiple=True,
    type=click.Choice(["comet", "mlflow", "tensorboard", "trackio", "wandb"]),
    help="An experiment tracker that gets the log, too; can be repeated.",
)
@click.option("--tensorboard", is_flag=True, default=None, help="Log for TensorBoard, too.")
@selection_options(category=None)
@click.option(
    "--hard-negatives",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Good parts that were wrongly stopped; they join the good images.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@force_option
def train(
    selection: Selection,
    run: Path,
    category: str,
    preset: str,
    image_size: int | Literal["auto"] | None,
    tile: int | None,
    bits: int | Literal["auto"] | None,
    overlap: int | None,
    settings: tuple[str, ...],
    teacher: str | None,
    teacher_weights: Path | None,
    textures: Path | None,
    hard_negatives: Path | None,
    resume: bool,
    force: bool,
    **training: Any,
) -> None:
    """Train CFRG on the good images of one category, or remember them.

    Ctrl-C stops after the current step and saves; the same command with --resume goes on and ends
    as if it had never been stopped.
    """
    if training["steps"] and training["epochs"]:
        raise click.UsageError("Give --steps or --epochs, not both.")
    if overlap is not None and tile is None:
        raise click.UsageError("--overlap needs --tile.")
    from cfrg.cli.settings import parse_settings
    from cfrg.network.config import CFRGConfig
    from cfrg.training import runs
    from cfrg.training.loop import Interrupted, TrainingOptions
    from cfrg.training.options import AREAS

    if tile is not None and overlap is None:
        overlap = tile // 4
    if "image_size=auto" in settings:
        settings = tuple(one for one in settings if one != "image_size=auto")
        image_size = "auto"
    if image_size == "auto":
        training["area"], image_size = AREAS[preset], None
    elif tile or image_size is not None or any(s.startswith("image_size=") for s in settings):
        training["area"] = 0
    if bits == "auto":
        training["find_bits"], bits = True, None
    network = {
        "image_size": image_size, "tile": tile, "tile_overlap": overlap, "bits": bits,
        "teacher": teacher,
    }  # fmt: skip
    for_network, for_training = parse_settings(settings)
    training["log_with"] = training["log_with"] or None
    config = CFRGConfig.preset(preset, **_merge(network, for_network))
    options = TrainingOptions.preset(preset, **_merge(training, for_training))
    try:
        runs.train(
            run=run,
            category=category,
            config=config,
            options=options,
            textures=textures,
            **selection.arguments(),
            hard_negatives=hard_negatives,
            teacher_weights=teacher_weights,
            resume=resume,
            force=force,
            say=partial(click.echo, err=True),
        )
    except Interrupted as stop:
        click.echo(f"Stopped after step {stop.step}; run the same command with --resume.", err=True)
        raise SystemExit(130) from None
    click.echo(
        f"Trained: {run}. Next: cfrg evaluate {run} {selection.root or ''}".rstrip(), err=True
    )


def _merge(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given and the settings; nothing may be in both."""
    given = {name: value for name, value in given.items() if value is not None}
    if twice := sorted(given.keys() & settings.keys()):
        raise click.UsageError(f"{', '.join(twice)} is given by an option and by --set.")
    return {**given, **settings}
