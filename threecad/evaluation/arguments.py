"""What is given to an ``Evaluator``, checked before anything of it is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.counting.maps import ArrayMap, PartialMap, as_array, as_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.evaluation.counting.maps import AnomalyMap

__all__ = [
    "ONLY_CATEGORY",
    "check_image",
    "check_map",
    "leave_out",
    "read_groups",
    "read_list",
    "read_numbers",
]

ONLY_CATEGORY = "all"
"""Name of the category of images that were given without one."""

FLOATS = ("float16", "bfloat16", "float32", "float64")

HOST_DEVICES = ("cpu", "mps")
"""Torch devices whose maps are counted by the processor. MPS has no float64."""


def read_numbers(name: str, values: Any, *, truth: bool = False) -> list[float]:
    """Return a batch of numbers, ``(N,)`` or N scalars, NumPy, torch or plain.

    Args:
        name: What they are, for errors.
        values: The numbers.
        truth: Take true and false for 1 and 0.

    Raises:
        EvaluationError: If one of them is no number.
    """
    if hasattr(values, "detach"):  # one transfer from a GPU, not N
        values = as_array(values)
    expected = f"The {name} are {_show(values)}; expected a number per image"
    if isinstance(values, (str, bytes, Mapping)) or not _is_iterable(values):
        raise EvaluationError(f"{expected}.")
    numbers = []
    for i, value in enumerate(values):
        try:
            numbers.append(as_number(value, truth=truth))
        except TypeError:
            raise EvaluationError(f"{expected}, but that of image {i} is {_show(value)}.") from None
    return numbers


def read_list(name: str, values: Any) -> list[Any]:
    """Return the maps or masks of a batch, one per image.

    Raises:
        EvaluationError: If they are nothing of the kind.
    """
    if isinstance(values, (str, bytes, Mapping)) or not _is_iterable(values):
        kind = type(values).__name__
        raise EvaluationError(f"The {name} are {kind}; expected (N, H, W), or N arrays (H, W).")
    return list(values)


def _is_iterable(values: Any) -> bool:
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def check_map(value: Any, i: int) -> AnomalyMap:
    """Return map ``i`` of a batch, where it is.

    Raises:
        EvaluationError: If it is no map.
    """
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if kind not in FLOATS or (kind == "bfloat16" and not hasattr(value, "detach")):
        raise EvaluationError(
            f"The anomaly map of image {i} is {kind}; expected float16, 32 or 64."
        )
    shape = tuple(np.shape(value))
    if len(shape) != 2 or 0 in shape:
        raise EvaluationError(f"The anomaly map of image {i} has shape {shape}; expected (H, W).")
    if hasattr(value, "detach") and value.device.type not in HOST_DEVICES:
        from threecad.evaluation.counting.device_maps import DeviceMap

        return DeviceMap(value)
    scores = as_array(value)
    return ArrayMap(scores.astype(np.float32) if scores.dtype == np.float16 else scores)


def leave_out(i: int, anomaly_map: AnomalyMap, ignored: Any) -> AnomalyMap:
    """Return map ``i`` of a batch without the pixels that are to be ignored.

    Args:
        i: Named in errors.
        anomaly_map: The map.
        ignored: ``(H, W)``, non-zero where pixels are ignored; none are when ``None``.

    Raises:
        EvaluationError: If that is no mask of the map's shape, or nothing is left.
    """
    if ignored is None:
        return anomaly_map
    hidden = as_array(ignored)
    if hidden.dtype.kind not in "biuf" or hidden.shape != anomaly_map.shape:
        raise EvaluationError(
            f"What is ignored of image {i} is {hidden.dtype} of shape {hidden.shape}; expected "
            f"booleans of the shape of its anomaly map, {anomaly_map.shape}."
        )
    counted = hidden == 0
    if not counted.any():
        raise EvaluationError(f"All of image {i} is ignored: leave it out of the evaluation.")
    return PartialMap(anomaly_map.to_numpy(), counted)


def check_image(
    i: int,
    anomaly_map: AnomalyMap,
    mask: Any,
    score: float,
    label: float,
    size: tuple[int, int] | None,
) -> NDArray[np.bool_] | None:
    """Check one image of a batch, and return its mask as booleans.

    With a mask, the map must be of its size, and of ``size`` where one is given.

    Raises:
        EvaluationError: Says what is wrong with the image.
    """
    if label not in (0, 1):
        raise EvaluationError(f"The label of image {i} is {label:g}; expected 0 or 1.")
    if not anomaly_map.is_finite():
        raise EvaluationError(
            f"The anomaly map of image {i} holds NaN or infinite values; expected finite ones."
        )
    if not np.isfinite(score):
        raise EvaluationError(f"The score of image {i} is {score}; expected a finite number.")
    if mask is None:
        return None
    defect = as_array(mask)
    if defect.dtype.kind not in "biuf":
        raise EvaluationError(
            f"The mask of image {i} is {defect.dtype}; expected booleans or numbers, non-zero in "
            "defects."
        )
    if defect.shape != anomaly_map.shape:
        raise EvaluationError(
            f"The mask of image {i} has shape {defect.shape} but its anomaly map "
            f"{anomaly_map.shape}. Resize the map to the mask first."
        )
    if size is not None and anomaly_map.shape != size:
        raise EvaluationError(
            f"The anomaly map of image {i} has shape {anomaly_map.shape}; the paper's protocol "
            f"takes {size}. Resize map and mask first, as threecad.evaluate does."
        )
    if defect.dtype != np.bool_:
        defect = defect != 0
    if label == 0 and defect.any():
        raise EvaluationError(
            f"Image {i} is labelled good but its mask has {int(defect.sum())} defective pixels."
        )
    return defect & anomaly_map.counted if isinstance(anomaly_map, PartialMap) else defect


def read_groups(groups: Mapping[str, Any] | None, n: int) -> tuple[list[str], list[str | None]]:
    """Return category and defect type of each of ``n`` images.

    Raises:
        EvaluationError: If there are not as many names as images.
        UsageError: If there are other groups.
    """
    groups = {} if groups is None else groups
    if not isinstance(groups, Mapping):
        raise UsageError(
            f"groups is {type(groups).__name__}; expected a mapping with category or defect_type."
        )
    if unknown := sorted(map(str, set(groups) - {"category", "defect_type"})):
        raise UsageError(f"Unknown group {unknown[0]!r}; expected category or defect_type.")
    names: dict[str, list[str | None]] = {}
    for group in ("category", "defect_type"):
        values = as_array(groups.get(group, [None] * n)).reshape(-1).tolist()
        if len(values) != n:
            raise EvaluationError(f"There are {len(values)} names of {group!r} for {n} labels.")
        names[group] = [None if value is None else str(value) for value in values]
    return [name or ONLY_CATEGORY for name in names["category"]], names["defect_type"]
