"""Predictions as JSON, with their map where it was asked for."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from threecad.evaluation.predictions import PNG_STEPS

if TYPE_CHECKING:
    import numpy.typing as npt

    from cfrg.inference.prediction import Prediction

__all__ = ["MAP_FORMATS", "describe", "encode_map"]

MAP_FORMATS = ("npy", "png16")
"""How a map can be sent: every bit of it, or in 65,536 steps."""


def describe(prediction: Prediction, map_format: str | None = None) -> dict[str, Any]:
    """Return a prediction as a line of ``predictions.jsonl`` has it, and ``map`` where asked for.

    Args:
        prediction: What a predictor said.
        map_format: One of ``MAP_FORMATS``; no map when ``None``.
    """
    said = prediction.to_dict()
    if map_format is not None and prediction.map is not None:
        said["map"] = encode_map(prediction.map, map_format)
    return said


def encode_map(anomaly_map: npt.NDArray[np.float32], map_format: str) -> dict[str, Any]:
    """Return an anomaly map (h, w) as JSON-able data.

    ``data`` is a file in base64: ``npy`` for ``numpy.load``, or ``png16``, a 16-bit grey PNG whose
    values stand for ``offset + scale · value``, from the lowest to the highest of this map.
    """
    height, width = anomaly_map.shape
    said: dict[str, Any] = {"format": map_format, "size": [width, height]}
    buffer = io.BytesIO()
    if map_format == "npy":
        np.save(buffer, anomaly_map, allow_pickle=False)
    else:
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        scale = (high - low) / PNG_STEPS if high > low else 1.0
        steps = np.rint((anomaly_map.astype(np.float64) - low) / scale)
        Image.fromarray(steps.astype(np.uint16)).save(buffer, "PNG")
        said |= {"scale": scale, "offset": low}
    return {**said, "data": base64.b64encode(buffer.getvalue()).decode()}
