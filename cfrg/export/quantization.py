"""Eight-bit integers for the segmentation U-Net of an ONNX graph, by ONNX Runtime's quantisation.

All else stays in float32. Teacher, student and recovery are compared with each other, and what is
left of nearly equal features in eight bits is mostly rounding (see ``docs/export.md``); the resize
is exact only in float32.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cfrg.runtimes.sessions import import_extra

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["quantize"]


def quantize(
    source: Path,
    path: Path,
    batches: Iterable[npt.NDArray[Any]],
    parts: Collection[str] = ("unet",),
) -> None:
    """Write an eight-bit copy of an ONNX graph.

    Weights have a scale for each channel, activations one for all; both are signed and symmetric
    about zero. The range of activations is that of their values on good images.

    Args:
        source: The float32 graph.
        path: The eight-bit graph.
        batches: Good images as the graph takes them.
        parts: Modules of ``CFRG`` whose convolutions to quantise.

    Raises:
        UsageError: If the extra ``onnx`` is not installed.
    """
    onnx = import_extra("onnx", "onnx")
    tools = import_extra("onnxruntime.quantization", "onnx")
    preparation = import_extra("onnxruntime.quantization.shape_inference", "onnx")
    samples = ({"image": batch} for batch in batches)
    reader = _make_reader(tools.CalibrationDataReader, samples)
    prepared = path.with_name(f"prepared-{path.name}")
    with _quiet():
        preparation.quant_pre_process(
            str(source), str(prepared), skip_symbolic_shape=True, skip_optimization=False
        )
        tools.quantize_static(
            str(prepared),
            str(path),
            reader,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_find_others(onnx.load(prepared), parts),
            per_channel=True,
            activation_type=tools.QuantType.QInt8,
            weight_type=tools.QuantType.QInt8,
            extra_options={"ActivationSymmetric": True},
        )
    prepared.unlink()


def _find_others(model: Any, parts: Collection[str]) -> list[str]:
    """Names of the convolutions outside the parts, told by the names of their weights."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and not any(f".{part}." in node.input[1] for part in parts)
    ]


def _make_reader(base: Any, samples: Iterator[dict[str, Any]]) -> Any:
    class Reader(base):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(samples, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, written for its own command line, out of ours."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
