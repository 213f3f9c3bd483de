"""Predictions that end in time, however many tiles are left."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cfrg.inference.predictor import MapPredictor, Predictor

__all__ = ["ending"]


def ending(predictor: Predictor, until: float) -> Predictor:
    """Return a predictor that says the same, but no more from some moment on.

    Args:
        predictor: Shares its detector with the one returned.
        until: By ``time.monotonic``. Batches that begin later raise ``TimeoutError``.
    """
    ended = copy.copy(predictor)
    ended._network = _Ending(predictor._network, until)
    return ended


class _Ending:
    def __init__(self, detector: MapPredictor, until: float) -> None:
        self.config = detector.config
        self._detector, self._until = detector, until

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        if time.monotonic() > self._until:
            raise TimeoutError
        return self._detector.predict_maps(image)
