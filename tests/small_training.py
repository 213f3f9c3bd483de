"""Trainings small enough for tests: noise with squares on it, a network of 32 × 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cfrg import CFRG, CFRGConfig, TrainingOptions, fit
from cfrg.defects.pairs import VALIDATION_STREAM, TrainingPairs
from cfrg.training.validation import Validation


class Noise(torch.utils.data.Dataset):
    """Twelve images of noise."""

    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> np.ndarray:
        return self.images[position]


def square(
    image: np.ndarray, rng: np.random.Generator, *_: object
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a square of one random colour at a random place."""
    top, left = rng.integers(0, 24, 2)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[top : top + 8, left : left + 8] = 1
    defective = image.copy()
    defective[mask == 1] = rng.integers(0, 256, 3)
    return defective, mask


CONFIG = CFRGConfig.preset("lite", image_size=32, memory=16)


def options(**changes: object) -> TrainingOptions:
    values = {"steps": 4, "batch_size": 3, "device": "cpu", "checkpoint_every": 9, "log_every": 1}
    return TrainingOptions.preset("lite", **{**values, **changes})


def fresh_model(seed: int = 0) -> CFRG:
    torch.manual_seed(seed)
    model = CFRG(CONFIG)
    model.load_teacher()
    return model


def train(run: Path, *, resume: bool = False, stop_after: int | None = None, **changes) -> CFRG:
    model = fresh_model()
    pairs = TrainingPairs(Noise(), square, seed=5)
    given = options(**changes)
    fit(
        model,
        pairs,
        run,
        given,
        resume=resume,
        validation=held_out() if given.validate_every else None,
        stop_after=stop_after,
    )
    return model


def held_out() -> Validation:
    return Validation(TrainingPairs(Noise(), square, seed=5, purpose=VALIDATION_STREAM), 5)


VALIDATED = {"validation_fraction": 0.1, "validate_every": 2, "average": 0.9, "select": "best"}


def weights(model: CFRG) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in model.state_dict().items()}


def assert_same(a: CFRG, b: CFRG) -> None:
    first, second = weights(a), weights(b)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different
