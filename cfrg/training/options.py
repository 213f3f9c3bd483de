"""How to train: options, presets, and the learning rate that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

import torch

from cfrg.defects.switches import Switches
from threecad.errors import UsageError

__all__ = ["AREAS", "PRESETS", "TrainingOptions", "learning_rate"]

AREAS = {"dino": 448**2, "lite": 512**2, "memory": 512**2, "paper": 256**2}
"""Pixels of an input whose size is chosen from the images, by preset: what their cost allows."""

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Switches):
    """How to train; the defaults are the paper's.

    The switches of the synthetic defects are options, too.

    Attributes:
        steps: Optimiser steps; when ``None``, ``epochs`` of them.
        epochs: Passes over the training images.
        batch_size: Pairs per process and step.
        accumulate: Batches whose gradients are averaged into one step.
        learning_rate: Highest learning rate of Adam.
        betas: Adam's averaging coefficients.
        schedule: ``"steps"``: × 0.2 at 80 % and again at 90 % of the run; ``"cosine"``: a short
            linear warm-up, then half a cosine down to zero.
        weight_decay: Decoupled weight decay (AdamW); 0 is plain Adam.
        average: Decay of the moving average of the weights that is kept at the end; 0 keeps the
            last weights.
        fused: Let one kernel do all of an optimiser step: several times faster, and equal up to
            rounding.
        clip: Largest norm of the gradient; 0 does not clip.
        precision: ``"no"`` (float32), ``"bf16"`` or ``"fp16"`` mixed precision.
        compile: Compile the network with ``torch.compile``.
        seed: Seed of initial weights, order, defects and drop-connect.
        area: Pixels of the input whose height and width are chosen from the training images, their
            aspect kept (``cfrg.images.geometry``); 0 takes the network's ``image_size``.
        crop: Side of the random crops of images at that size that are trained on; 0 trains on whole
            images. The network reads whole images in either case.
        find_bits: Find out from the training images how many of 16 bits the camera uses, instead of
            taking the network's ``bits``.
        workers: Processes that draw pairs; 0 draws them in the training process.
        synthesis: Recipe of the synthetic defects. ``"paper"``: one patch of blended texture;
            ``"varied"``: up to three, of textures and of changed brightness, contrast or shape,
            some with soft borders.
        draw_defects_on: ``"workers"``: data workers draw the pairs; ``"device"``: the device that
            trains draws the defects of a whole batch, which the recipe ``"paper"`` allows with
            ``clean_share``, ``fixed_textures`` and ``repeat_rotations``; ``"auto"``: the device
            where it is CUDA and can, else the workers. The pairs are the same up to rounding.
        foreground: Keep defects on the part, as ``cfrg.images.foregrounds.find_part`` finds it.
        validation_fraction: Share of the good training images that is held out of training. Maps
            are calibrated on them (``CFRGConfig.calibrate_maps``), and models validated.
        validate_every: Steps between validations on the held-out images with synthetic defects;
            the last step is validated, too. 0 never validates.
        select: ``"last"``: keep the weights at the end; ``"best"``: those with the best mean of
            image AUROC and pixel AP in a validation. Averaged weights in either case, if
            ``average`` is set.
        device: ``"cpu"``, ``"cuda"``, …; chosen by Accelerate when ``None``.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of the log.
        tensorboard: Also write the log for TensorBoard, to ``RUN/tensorboard/``.
        log_with: Experiment trackers that also get the log, such as ``("mlflow",)``.
    """

    steps: int | None = None
    epochs: int = 50
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Literal["steps", "cosine"] = "steps"
    weight_decay: float = 0.0
    average: float = 0.0
    fused: bool = False
    clip: float = 0.0
    precision: Precision = "no"
    compile: bool = False
    seed: int = 42
    area: int = 0
    crop: int = 0
    find_bits: bool = False
    workers: int = 0
    synthesis: Literal["paper", "varied"] = "paper"
    draw_defects_on: Literal["auto", "workers", "device"] = "auto"
    foreground: bool = False
    validation_fraction: float = 0.0
    validate_every: int = 0
    select: Literal["last", "best"] = "last"
    device: str | None = None
    checkpoint_every: int = 200
    log_every: int = 10
    tensorboard: bool = False
    log_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        if self.area < 0:
            raise UsageError(f"area is {self.area}; expected 0 or a number of pixels.")
        if self.crop and not 32 <= self.crop <= 8192:
            raise UsageError(f"crop is {self.crop}; expected 0, or a side of 32 to 8192 pixels.")
        if not 0 <= self.average < 1:
            raise UsageError(f"average is {self.average}; expected 0 to below 1, such as 0.99.")
        for name in ("clean_share", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 0 to below 1.")
        if not self.smallest_defect > 0:
            raise UsageError(f"smallest_defect is {self.smallest_defect}; expected above 0 pixels.")
        if self.validate_every < 0:
            raise UsageError(f"validate_every is {self.validate_every}; expected 0 or more.")
        if self.validate_every and not self.validation_fraction:
            raise UsageError(
                "validate_every needs images to validate on: set validation_fraction, such as 0.1."
            )
        if self.select == "best" and not self.validate_every:
            raise UsageError("select is 'best'; set validate_every, such as 100, to compare.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}; expected 1 or more.")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> TrainingOptions:
        """Return the options of a named preset, with some values replaced.

        ``epochs`` given without ``steps`` takes the place of the preset's ``steps``.

        Raises:
            UsageError: If there is no such preset or option.
        """
        if name not in PRESETS:
            raise UsageError(f"No preset {name!r}. There are: {', '.join(PRESETS)}.")
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in overrides if key not in known]:
            close = get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"There is no training option {unknown[0]!r}.{hint}")
        values = {**PRESETS[name], **overrides}
        if "epochs" in overrides and "steps" not in overrides:
            values["steps"] = None
        return cls(**values)

    def total_steps(self, images: int, processes: int = 1) -> int:
        """Return the number of optimiser steps for so many training images."""
        if self.steps is not None:
            return self.steps
        per_step = self.batch_size * self.accumulate * processes
        return max(1, -(-self.epochs * images // per_step))

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers asked for, each once."""
        return tuple(dict.fromkeys((*self.log_with, *("tensorboard",) * self.tensorboard)))

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-able data."""
        return asdict(self)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "lite": {
        "area": AREAS["lite"],
        "crop": 128,
        "steps": 1600,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-4,
        "average": 0.99,
        "schedule": "cosine",
        "clip": 5.0,
        "clean_share": 0.2,
        "structural": True,
        "several_scales": True,
        "augment_textures": True,
        "validation_fraction": 0.1,
    },
    "memory": {"area": AREAS["memory"], "validation_fraction": 0.1},
}
PRESETS["dino"] = {**PRESETS["lite"], "area": 0, "crop": 0}


def learning_rate(step: int, total: int, options: TrainingOptions) -> float:
    """Return the learning rate of a step, counted from 0, of ``total``.

    Both drops of ``"steps"`` happen in a run of any length of at least three steps.
    """
    if options.schedule == "steps":
        first = min(int(total * 0.8), total - 2)
        second = min(max(int(total * 0.9), first + 1), total - 1)
        drops = (step >= max(first, 1)) + (step >= max(second, 1))
        return float(options.learning_rate * 0.2**drops)
    warm_up = max(1, min(100, total // 20))
    if step < warm_up:
        return options.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    cosine = torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))
    return float(options.learning_rate * 0.5 * (1 + cosine))
