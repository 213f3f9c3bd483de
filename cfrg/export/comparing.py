"""A model and its exported graph side by side, on images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cfrg.inference.predictor import Predictor
from cfrg.network import processing
from cfrg.runtimes.parity import ModelAndGraph
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from cfrg.inference.loading import TrainedModel
    from cfrg.runtimes.sessions import Session

    Predict = Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], float]]

__all__ = ["compare_each"]


def compare_each(
    session: Session,
    model: TrainedModel,
    images: Iterable[tuple[str, npt.NDArray[np.uint8]]],
) -> Iterator[ModelAndGraph]:
    """Yield model and exported graph side by side, image by image.

    Args:
        session: The exported graph.
        model: The model, which resizes with Pillow, normalises, and keeps its batch normalisations.
        images: Ids and images (H, W, 3) of the size that the graph takes.
    """
    predict = _whole(model) if not model.config.tile else _in_tiles(model)
    for name, image in images:
        expected, score = predict(image)
        found = dict(
            zip(
                session.outputs,
                session.run(_as_taken(image, model.config.bits)[None]),
                strict=False,
            )
        )
        yield ModelAndGraph(
            id=name,
            expected=expected,
            found=found["anomaly_map"][0],
            expected_score=score,
            found_score=float(found["score"][0]),
            decision=bool(found["decision"][0]) if "decision" in found else None,
        )


def _as_taken(image: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[Any]:
    """Return an image as the camera of the run gives it, all bits below the eight set."""
    below = bits - 8
    return image.astype(np.uint16) << below | (1 << below) - 1 if below else image


def _whole(model: TrainedModel) -> Predict:
    def predict(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
        with torch.inference_mode():
            maps, scores = model.predict(processing.prepare(image, model.config))
        return maps[0, 0].numpy(), float(scores[0])

    return predict


def _in_tiles(model: TrainedModel) -> Predict:
    predictor = Predictor(model, device="cpu", batch_size=1)
    predictor.tiling = replace(predictor.tiling, bits=8)  # those of the images given
    predictor.any_shape = True  # as a graph for any size

    def predict(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
        prediction = next(predictor.predict([image]))
        if prediction.map is None:
            raise ModelError(f"The model has no answer to compare with: {prediction.error}")
        return prediction.map, prediction.score

    return predict
