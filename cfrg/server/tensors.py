"""Requests and answers of the Open Inference Protocol, version 2, with its binary extension.

The input ``image`` is a tensor BYTES (N) of image files (in JSON as base64), or pixels UINT8
(H, W, 3) or (N, H, W, 3), RGB. The protocol: https://github.com/kserve/open-inference-protocol;
the extension: "Binary Tensor Data Extension" of Triton and KServe.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.server.photographs import Photograph
from cfrg.server.refusals import RefusedError
from threecad.system.json_files import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cfrg.inference.prediction import Prediction

__all__ = ["INPUTS", "OUTPUTS", "TensorRequest", "answer", "parse"]

INPUTS = [{"name": "image", "datatype": "BYTES", "shape": [-1]}]

OUTPUTS = [
    {"name": "score", "datatype": "FP32", "shape": [-1]},
    {"name": "decision", "datatype": "BYTES", "shape": [-1]},
    {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
    {"name": "anomaly_map", "datatype": "FP32", "shape": [-1, -1, -1]},
]

MOST_AXES = 4


@dataclass(frozen=True)
class TensorRequest:
    """What was asked.

    Attributes:
        id: Of the request, handed back; ``None`` without one.
        photographs: The images.
        outputs: Names of the wanted outputs, and whether each is wanted in binary.
    """

    id: str | None
    photographs: list[Photograph]
    outputs: dict[str, bool]


def parse(body: bytes, json_length: str | None, most: int) -> TensorRequest:
    """Return what a request asks.

    Args:
        body: Of the request.
        json_length: The header ``Inference-Header-Content-Length``: bytes of JSON at the beginning
            of the body, tensors follow; all of it is JSON when ``None``.
        most: Images a request may hold.

    Raises:
        RefusedError: 400 with what is wrong; 413 for too many images.
    """
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 12):
            raise RefusedError(400, "Inference-Header-Content-Length is no number.")
        length = int(json_length)
        if length > len(body):
            raise RefusedError(400, "Inference-Header-Content-Length is more than was sent.")
    request = _parse(body[:length])
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise RefusedError(400, "`inputs` must list one tensor, image.")
    photographs = _read_input(_object(inputs[0], "An input"), body[length:], most)
    name = request.get("id")
    if name is not None and not isinstance(name, str):
        raise RefusedError(400, "`id` must be text.")
    return TensorRequest(name, photographs, _read_outputs(request))


def answer(
    request: TensorRequest, model: str, predictions: Sequence[Prediction]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the bytes of its JSON if tensors follow in binary.

    Args:
        request: What was asked.
        model: The name of the run.
        predictions: Of each image, without errors.

    Raises:
        RefusedError: 400 if maps of several sizes are asked for at once.
    """
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in OUTPUTS:
        name = str(output["name"])
        if name not in request.outputs:
            continue
        values = _output(name, predictions)
        said: dict[str, Any] = {
            "name": name,
            "datatype": output["datatype"],
            "shape": list(values.shape),
        }
        if request.outputs[name]:
            binary.append(_pack(values))
            said["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            said["data"] = values.ravel().tolist()
        described.append(said)
    document: dict[str, Any] = {"model_name": model, "outputs": described}
    if request.id is not None:
        document["id"] = request.id
    text = json.dumps(document).encode()
    return b"".join([text, *binary]), len(text) if binary else None


def _output(name: str, predictions: Sequence[Prediction]) -> npt.NDArray[Any]:
    if name == "score":
        return np.array([each.score for each in predictions], np.float32)
    if name == "decision":
        return np.array([each.to_dict()["decision"] or "none" for each in predictions], object)
    if name == "prediction":
        return np.array([json.dumps(each.to_dict()) for each in predictions], object)
    maps = [each.map for each in predictions if each.map is not None]
    if len({each.shape for each in maps}) > 1:
        raise RefusedError(
            400, "The maps of these images have several sizes. Ask for one image at a time."
        )
    return np.stack(maps)


def _pack(values: npt.NDArray[Any]) -> bytes:
    """Return a tensor in the binary extension's form."""
    if values.dtype == object:
        texts = [text.encode() for text in values.ravel()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return values.astype("<f4").tobytes()


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return parse_object(text.decode())
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The request cannot be read: {str(error)[:200]}.") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(400, f"{what} must be an object.")
    return value


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    return _object(holder.get("parameters") or {}, "`parameters`")


def _read_outputs(request: dict[str, Any]) -> dict[str, bool]:
    """Return the wanted outputs: all of them where none are named."""
    binary = _parameters(request).get("binary_data_output") is True
    known = [str(output["name"]) for output in OUTPUTS]
    listed = request.get("outputs") or [{"name": name} for name in known]
    if not isinstance(listed, list):
        raise RefusedError(400, "`outputs` must be a list.")
    wanted = {}
    for output in listed:
        name = _object(output, "An output").get("name")
        if name not in known:
            raise RefusedError(400, f"The outputs are {', '.join(known)}.")
        wanted[name] = _parameters(output).get("binary_data", binary) is True
    return wanted


def _read_input(tensor: dict[str, Any], binary: bytes, most: int) -> list[Photograph]:
    if tensor.get("name") != "image":
        raise RefusedError(400, "The input is called image.")
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MOST_AXES
        or not all(isinstance(n, int) and 0 < n < 1 << 31 and n is not True for n in shape)
    ):
        raise RefusedError(400, "`shape` must list one to four positive numbers.")
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        if size != len(binary) or isinstance(size, bool):
            raise RefusedError(400, "`binary_data_size` is not what follows the JSON.")
    elif "data" not in tensor:
        raise RefusedError(400, "The input has no `data`.")
    data = binary if size is not None else tensor["data"]
    if tensor.get("datatype") == "BYTES":
        return _read_files(data, math.prod(shape), most)
    if tensor.get("datatype") == "UINT8":
        return _read_pixels(data, shape, most)
    raise RefusedError(400, "`datatype` must be BYTES (image files) or UINT8 (pixels).")


def _read_files(data: Any, count: int, most: int) -> list[Photograph]:
    _check_count(count, most)
    if isinstance(data, bytes):
        files = _unpack(data, most)
    else:
        files = [_decode_text(text) for text in _flatten(data)]
    if len(files) != count:
        raise RefusedError(400, f"`shape` says {count} images, {len(files)} were sent.")
    return [Photograph(str(n), content) for n, content in enumerate(files)]


def _read_pixels(data: Any, shape: list[int], most: int) -> list[Photograph]:
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise RefusedError(400, "UINT8 pixels have the shape (H, W, 3) or (N, H, W, 3).")
    count = shape[0] if len(shape) == 4 else 1
    _check_count(count, most)
    if isinstance(data, bytes):
        values = np.frombuffer(data, np.uint8)
    else:
        try:
            values = np.array(data)
        except (ValueError, OverflowError):  # lists of several lengths
            values = np.array([], object)
        if values.dtype.kind not in "iu" or not ((values >= 0) & (values <= 255)).all():
            raise RefusedError(400, "UINT8 data are whole numbers from 0 to 255.")
    if values.size != math.prod(shape):
        raise RefusedError(400, f"`shape` says {math.prod(shape)} values, {values.size} were sent.")
    images = values.astype(np.uint8).reshape(count, *shape[-3:])
    return [Photograph(str(n), image) for n, image in enumerate(images)]


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RefusedError(413, f"This server takes up to {most} images a request.")


def _unpack(data: bytes, most: int) -> list[bytes]:
    """Return the elements of a binary BYTES tensor: each its length in four bytes, then itself."""
    found: list[bytes] = []
    start = 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if end > len(data):
            raise RefusedError(400, "The binary tensor ends before its last element does.")
        found.append(data[start + 4 : end])
        _check_count(len(found), most)
        start = end
    return found


def _flatten(data: Any) -> list[Any]:
    """Return the elements of a tensor of one or two axes, nested or flat."""
    if not isinstance(data, list):
        raise RefusedError(400, "`data` must be a list.")
    if data and all(isinstance(row, list) for row in data):
        return [element for row in data for element in row]
    return data


def _decode_text(text: Any) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, UnicodeError, binascii.Error):
        raise RefusedError(400, "An image file is sent in JSON as text in base64.") from None
