"""The models that anomalib offers, fitted and asked as the benchmark does.

They run as anomalib's authors wrote them, with three differences that the results state: no test
image takes part in training or selection (no early stopping on test metrics), all images are
resized to one size, and the backbone and the number of steps can be set.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torchvision.transforms import v2

from threecad.benchmark.backbones import (
    BackboneSource,
    find_weights,
    level_names,
    normalization,
    read_weights,
)
from threecad.errors import ModelError, UsageError
from threecad.images.files import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from threecad.benchmark.interface import Trial
    from threecad.dataset.pytorch import ThreeCAD

__all__ = ["MODELS", "AnomalibDetector", "Recipe"]

BATCH = 32
"""Images at a time when predicting."""

HELD_OUT = 0.1
"""Share of the training images on which a method calibrates itself, if it does."""


@dataclass(frozen=True)
class Recipe:
    """How one of anomalib's models is built and trained.

    Attributes:
        model: Name of the class in ``anomalib.models``.
        title: The method's name and where it was published.
        epochs: Passes over the training images, as its authors train it; ``None`` where they count
            steps.
        steps: Optimiser steps, as its authors train it.
        batch_size: Images per step.
        backbone: Its own backbone, by timm's name.
        strides: Levels of the backbone that it uses, when they have to be named.
        backbone_argument: Name of the argument that takes the backbone.
        any_backbone: Whether it works with other backbones than its own.
        stand_in: Its backbone can be exchanged, but only behind this name.
        normalize: Whether its input is normalised.
        image_size: The input size that it insists on.
        arguments: Further arguments of the class.
    """

    model: str
    title: str
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 32
    backbone: str | None = None
    strides: tuple[int, ...] = ()
    backbone_argument: str = "backbone"
    any_backbone: bool = False
    stand_in: str | None = None
    normalize: bool = True
    image_size: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


MODELS = {
    "padim": Recipe(
        "Padim", "PaDiM, arXiv 2011.08785", epochs=1, backbone="resnet18", strides=(4, 8, 16),
        any_backbone=True,
    ),
    "patchcore": Recipe(
        "Patchcore", "PatchCore, arXiv 2106.08265", epochs=1, backbone="wide_resnet50_2",
        strides=(8, 16), any_backbone=True,
    ),
    "stfpm": Recipe(
        "Stfpm", "STFPM, arXiv 2103.04257", epochs=100, backbone="resnet18", strides=(4, 8, 16),
        any_backbone=True,
    ),
    "fastflow": Recipe(
        "Fastflow", "FastFlow, arXiv 2111.07677", epochs=500, backbone="resnet18",
        any_backbone=True, stand_in="resnet18",
    ),
    "supersimplenet": Recipe(
        "Supersimplenet", "SuperSimpleNet, arXiv 2408.03143", epochs=300,
        backbone="wide_resnet50_2.tv_in1k", strides=(8, 16), any_backbone=True,
    ),
    "rd": Recipe(
        "ReverseDistillation", "RD (RD4AD), arXiv 2201.10703", epochs=200, batch_size=16,
        backbone="wide_resnet50_2", strides=(4, 8, 16),
    ),
    "cfa": Recipe(
        "Cfa", "CFA, arXiv 2206.04325", epochs=30, batch_size=4, backbone="wide_resnet50_2",
    ),
    "draem": Recipe(
        "Draem", "DRAEM, arXiv 2108.07610", epochs=700, batch_size=8, normalize=False,
    ),
    "efficientad": Recipe(
        "EfficientAd", "EfficientAD-S, arXiv 2303.14535", steps=70_000, batch_size=1,
        normalize=False,
    ),
    "uflow": Recipe(
        "Uflow", "U-Flow, arXiv 2211.12353", epochs=200, batch_size=8, backbone="mcait",
        image_size=448,
    ),
    "dinomaly": Recipe(
        "Dinomaly", "Dinomaly, arXiv 2405.14573", steps=5_000, batch_size=16,
        backbone="vit_base_patch14_reg4_dinov2", backbone_argument="encoder_name", image_size=392,
    ),
}  # fmt: skip
"""Method → recipe. Epochs, steps and batch sizes are those of the publications or, for Dinomaly and
U-Flow, of anomalib's configurations."""

RESNETS = ("resnet18", "wide_resnet50_2")
"""Backbones between which the methods that take no other can choose."""

PADIM_FEATURES = {"resnet18": 100, "wide_resnet50_2": 550}
OTHER_PADIM_FEATURES = 100


class AnomalibDetector:
    """One of ``MODELS``.

    Options (``--set METHOD.KEY=VALUE``): ``epochs``, ``steps``, ``batch_size`` and ``backbone``
    replace those of the recipe; everything else is an argument of anomalib's class.

    Args:
        trial: What to run.

    Raises:
        UsageError: If anomalib is not installed, or an option does not fit.
        ModelError: If pretrained weights are missing.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.recipe = recipe = MODELS[trial.method]
        options = dict(trial.options)
        self.batch_size = int(options.pop("batch_size", recipe.batch_size))
        self.epochs = options.pop("epochs", None if "steps" in options else recipe.epochs)
        self.steps = options.pop("steps", recipe.steps)
        self.size = recipe.image_size or trial.image_size
        self.backbone = options.pop("backbone", _choose_backbone(trial, recipe))
        self.source = BackboneSource(
            trial.backbone_weights,
            {recipe.stand_in: self.backbone} if recipe.stand_in and self.backbone else None,
        )
        self.model = self._build(options)
        self.facts: dict[str, Any] = {}

    def fit(self, images: ThreeCAD) -> None:
        """Train on the good images."""
        from lightning.pytorch import Trainer

        pictures = _load(images, self.size)
        unseen = pictures[:0]
        if self.trial.method == "efficientad":
            pictures, unseen = _hold_out(pictures, self.trial.seed)
        data = _data_module(pictures, unseen, self.batch_size, self.trial.seed)
        steps = self._count_steps(len(pictures))
        arguments = {**self.model.trainer_arguments, "num_sanity_val_steps": 0}
        arguments.pop("max_epochs", None)
        arguments.pop("val_check_interval", None)
        trainer = Trainer(
            **{**arguments, "devices": 1},
            accelerator=self.trial.device.partition(":")[0],
            max_epochs=self.epochs or -1,
            max_steps=steps,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.trial.folder,
        )
        trainer.fit(self.model, datamodule=data)
        self.model.to(self.trial.device).eval()
        if len(unseen):
            self.model.model.quantiles.update(self.model.map_norm_quantiles(data.val_dataloader()))
        self.facts = {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "input": f"{self.size} × {self.size}",
            "backbone": self.backbone,
            "weights": self.source.used,
            "steps": 0 if self.epochs == 1 and self.recipe.epochs == 1 else trainer.global_step,
            "own_budget": self._own_budget(len(pictures)),
            "batch_size": self.batch_size,
        }

    @torch.inference_mode()
    def predict(self, paths: Sequence[Path]) -> Iterator[tuple[NDArray[np.floating[Any]], float]]:
        """Yield a map of the input size and a score for every file."""
        for first in range(0, len(paths), BATCH):
            batch = [_resize(_read(path), self.size) for path in paths[first : first + BATCH]]
            images = torch.stack(batch).to(self.trial.device).float() / 255
            output = self.model(images)
            maps = output.anomaly_map.reshape(len(batch), *output.anomaly_map.shape[-2:])
            scores = output.pred_score
            scores = maps.flatten(1).amax(1) if scores is None else scores.reshape(len(batch))
            yield from zip(maps.float().cpu().numpy(), scores.float().cpu().tolist(), strict=True)

    def _build(self, options: dict[str, Any]) -> Any:
        """Make anomalib's model, with pretrained weights where it has a backbone."""
        recipe = self.recipe
        try:
            # Its progress and telemetry belong into no one's terminal.
            logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import anomalib.models
                from anomalib.pre_processing import PreProcessor
        except ImportError as error:
            raise UsageError(
                f"{recipe.title} needs anomalib, which cannot be imported ({error}). "
                "Run: pip install 'threecad[bench]'"
            ) from error
        steps: list[Any] = [v2.Resize((self.size, self.size), antialias=True)]
        if recipe.normalize:
            mean, std = normalization(self.backbone or "")
            steps.append(v2.Normalize(mean=list(mean), std=list(std)))
        arguments = {**recipe.arguments, **self._own_arguments(), **options}
        with self.source.installed():
            try:
                model = getattr(anomalib.models, recipe.model)(
                    **arguments,
                    pre_processor=PreProcessor(v2.Compose(steps)),
                    post_processor=False,
                    evaluator=False,
                    visualizer=False,
                )
            except (TypeError, ValueError) as error:
                raise UsageError(f"{recipe.model} refuses its arguments: {error}") from error
        if self.trial.method == "efficientad":
            model.prepare_pretrained_model = lambda: self._load_efficientad_teacher(model)
        return model

    def _own_arguments(self) -> dict[str, Any]:
        """Return the arguments that depend on the backbone, the textures and the like."""
        trial, recipe = self.trial, self.recipe
        arguments: dict[str, Any] = {}
        if self.backbone:
            arguments[recipe.backbone_argument] = recipe.stand_in or self.backbone
        if self.backbone and recipe.strides:
            arguments["layers"] = level_names(self.backbone, recipe.strides)
        if trial.method == "padim" and self.backbone:
            arguments["n_features"] = PADIM_FEATURES.get(self.backbone, OTHER_PADIM_FEATURES)
        if trial.method == "draem":
            if trial.textures is None:
                raise UsageError("DRAEM draws defects from texture photographs: give `textures`.")
            arguments["dtd_dir"] = trial.textures
        if trial.method == "efficientad" and not _is_folder(trial.options.get("imagenet_dir")):
            raise UsageError(
                "EfficientAD trains beside photographs of ImageNet: name a folder of them (one "
                "folder per class, such as Imagenette) with "
                "`threecad benchmark --set efficientad.imagenet_dir=DIR`."
            )
        return arguments

    def _load_efficientad_teacher(self, model: Any) -> None:
        name = "pretrained_teacher_small"
        path = find_weights(name, self.trial.backbone_weights)
        if path is None:
            raise ModelError(
                f"EfficientAD's teacher {name}.pth is not on this machine. Take it from anomalib's "
                "release efficientad_pretrained_weights, and name its folder with "
                "`backbone_weights`."
            )
        model.model.teacher.load_state_dict(read_weights(path))
        self.source.used[name] = path.name

    def _count_steps(self, images: int) -> int:
        """Return how many optimiser steps to take: the method's own, or fewer."""
        own = int(self.steps or self.epochs * math.ceil(images / self.batch_size))
        one_pass = self.recipe.epochs == 1  # nothing is optimised: every image is seen once
        return own if one_pass or not self.trial.max_steps else min(own, self.trial.max_steps)

    def _own_budget(self, images: int) -> str:
        if self.recipe.epochs == 1:
            return "one pass"
        if self.recipe.epochs is None:
            return f"{self.recipe.steps:,} steps"
        steps = self.recipe.epochs * math.ceil(images / self.recipe.batch_size)
        return f"{self.recipe.epochs} epochs, here {steps:,} steps"


def _is_folder(path: Any) -> bool:
    return path is not None and Path(path).is_dir()


def _choose_backbone(trial: Trial, recipe: Recipe) -> str | None:
    """Return the backbone asked for where the method can take it, else its own."""
    if recipe.backbone is None or trial.backbone is None or trial.backbone == recipe.backbone:
        return recipe.backbone
    if recipe.any_backbone or (recipe.backbone in RESNETS and trial.backbone in RESNETS):
        return trial.backbone
    return recipe.backbone


def _read(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_image(path)).permute(2, 0, 1)


def _resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Return (3, size, size) uint8, antialiased bilinear."""
    resized: torch.Tensor = v2.functional.resize(image, [size, size], antialias=True)
    return resized


def _load(images: ThreeCAD, size: int) -> torch.Tensor:
    """Return all images (N, 3, size, size) uint8."""
    stack = [_resize(torch.as_tensor(images[i]["image"]), size) for i in range(len(images))]
    return torch.stack(stack)


def _hold_out(images: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    count = max(1, round(HELD_OUT * len(images)))
    return images[order[count:]], images[order[:count]]


def _data_module(images: torch.Tensor, unseen: torch.Tensor, batch_size: int, seed: int) -> Any:
    """Return what the trainer draws batches from."""
    from anomalib.data import ImageBatch
    from lightning.pytorch import LightningDataModule
    from torch.utils.data import DataLoader

    def collate(batch: list[torch.Tensor]) -> Any:
        # Labels and empty masks: some models ask for them, and all images are good.
        pictures = torch.stack(batch).float() / 255
        masks = torch.zeros((len(batch), *pictures.shape[-2:]), dtype=torch.bool)
        return ImageBatch(
            image=pictures, gt_label=torch.zeros(len(batch), dtype=torch.bool), gt_mask=masks
        )

    class Data(LightningDataModule):  # type: ignore[misc]
        train_batch_size = batch_size

        def train_dataloader(self) -> Any:
            order = torch.Generator().manual_seed(seed)
            return DataLoader(
                images,  # type: ignore[arg-type]
                batch_size,
                shuffle=True,
                collate_fn=collate,
                generator=order,
            )

        def val_dataloader(self) -> Any:
            return DataLoader(unseen, batch_size, collate_fn=collate)  # type: ignore[arg-type]

    return Data()
