"""The authors' network, written out as plain function calls on a state dict with their keys.

A second, independent reading of the specification: no modules, no sharing of code with ``cfrg``.
Every parameter is named where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


State = dict[str, Tensor]

BLOCKS = [  # kernel, stride, expansion, input and output channels of the 16 MBConv blocks of B0
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
]


def batch_norm(sd: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, var = sd[f"{name}.running_mean"], sd[f"{name}.running_var"]
    x = (x - mean[None, :, None, None]) / torch.sqrt(var[None, :, None, None] + eps)
    return x * sd[f"{name}.weight"][None, :, None, None] + sd[f"{name}.bias"][None, :, None, None]


def conv(sd: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, sd[f"{name}.weight"], sd.get(f"{name}.bias"), stride, padding)


def bottleneck(sd: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    y = F.relu(batch_norm(sd, f"{name}.bn1", conv(sd, f"{name}.conv1", x)))
    y = F.relu(batch_norm(sd, f"{name}.bn2", conv(sd, f"{name}.conv2", y, stride, 1)))
    y = batch_norm(sd, f"{name}.bn3", conv(sd, f"{name}.conv3", y))
    if f"{name}.downsample.0.weight" in sd:
        x = batch_norm(sd, f"{name}.downsample.1", conv(sd, f"{name}.downsample.0", x, stride))
    return F.relu(y + x)


def teacher(sd: State, x: Tensor) -> list[Tensor]:
    x = F.relu(batch_norm(sd, "teacher.bn1", conv(sd, "teacher.conv1", x, 2, 3)))
    x = F.max_pool2d(x, 3, 2, 1)
    levels = []
    for layer, count in ((1, 3), (2, 4), (3, 6)):
        for block in range(count):
            stride = 2 if layer > 1 and block == 0 else 1
            x = bottleneck(sd, f"teacher.layer{layer}.{block}", x, stride)
        levels.append(x)
    return levels


def same_conv(sd: State, name: str, x: Tensor, stride: int, groups: int = 1) -> Tensor:
    """Static "same" padding of TensorFlow, from the size of the input as it comes."""
    weight = sd[f"{name}.weight"]
    kernel = weight.shape[-1]
    padding = []
    for size in (x.shape[-1], x.shape[-2]):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, padding), weight, None, stride, groups=groups)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def student(sd: State, x: Tensor) -> list[Tensor]:
    x = same_conv(sd, "student._conv_stem", x, 2)
    x = swish(batch_norm(sd, "student._bn0", x, 1e-3))
    levels = []
    for i, (_, stride, expansion, inputs, outputs) in enumerate(BLOCKS[:11]):
        name = f"student._blocks.{i}"
        y = x
        if expansion != 1:
            y = same_conv(sd, f"{name}._expand_conv", y, 1)
            y = swish(batch_norm(sd, f"{name}._bn0", y, 1e-3))
        y = same_conv(sd, f"{name}._depthwise_conv", y, stride, inputs * expansion)
        y = swish(batch_norm(sd, f"{name}._bn1", y, 1e-3))
        squeezed = y.mean((2, 3), keepdim=True)
        squeezed = swish(conv(sd, f"{name}._se_reduce", squeezed))
        y = torch.sigmoid(conv(sd, f"{name}._se_expand", squeezed)) * y
        y = batch_norm(sd, f"{name}._bn2", same_conv(sd, f"{name}._project_conv", y, 1), 1e-3)
        x = y + x if stride == 1 and inputs == outputs else y
        if i in (2, 4, 10):
            levels.append(x)
    return levels


def adapter(sd: State, name: str, x: Tensor) -> Tensor:
    x = F.conv2d(x, sd[f"{name}.op.0.weight"], None, 1, 1, groups=x.shape[1])
    x = F.relu(batch_norm(sd, f"{name}.op.2", conv(sd, f"{name}.op.1", x)))
    x = conv(sd, f"{name}.op.4", x, 1, 1)
    return F.relu(batch_norm(sd, f"{name}.op.6", conv(sd, f"{name}.op.5", x)))


def fusion(sd: State, levels: list[Tensor]) -> Tensor:
    one = F.relu(batch_norm(sd, "bn.bn1", conv(sd, "bn.conv1", levels[0], 2, 1)))
    one = F.relu(batch_norm(sd, "bn.bn2", conv(sd, "bn.conv2", one, 2, 1)))
    two = F.relu(batch_norm(sd, "bn.bn3", conv(sd, "bn.conv3", levels[1], 2, 1)))
    x = torch.cat([one, two, levels[2]], dim=1)
    for block in range(3):
        x = bottleneck(sd, f"bn.bn_layer.{block}", x, 2 if block == 0 else 1)
    return x


def decoder(sd: State, x: Tensor) -> list[Tensor]:
    levels = []
    for layer, count in ((1, 3), (2, 4), (3, 6)):
        x = up_bottleneck(sd, f"decoder.layer{layer}.0", x)
        for block in range(1, count):
            x = bottleneck(sd, f"decoder.layer{layer}.{block}", x)
        levels.append(x)
    return levels[::-1]


def up_bottleneck(sd: State, name: str, x: Tensor) -> Tensor:
    y = F.relu(batch_norm(sd, f"{name}.bn1", conv(sd, f"{name}.conv1", x)))
    y = F.conv_transpose2d(y, sd[f"{name}.conv2.weight"], None, 2)
    y = F.relu(batch_norm(sd, f"{name}.bn2", y))
    y = batch_norm(sd, f"{name}.bn3", conv(sd, f"{name}.conv3", y))
    shortcut = F.conv_transpose2d(x, sd[f"{name}.upsample.0.weight"], None, 2)
    return F.relu(y + batch_norm(sd, f"{name}.upsample.1", shortcut))


def unet(sd: State, levels: list[Tensor]) -> Tensor:
    x = levels[2]
    for up, skip in ((1, levels[1]), (2, levels[0]), (3, None), (4, None)):
        name = f"segment.up{up}"
        weight, bias = sd[f"{name}.upconv.weight"], sd[f"{name}.upconv.bias"]
        x = F.conv_transpose2d(x, weight, bias, 2, 1)
        if skip is not None:
            x = torch.cat((x, skip), 1)
        x = F.relu(batch_norm(sd, f"{name}.bn1", conv(sd, f"{name}.conv1", x, 1, 1)))
        x = F.relu(batch_norm(sd, f"{name}.bn2", conv(sd, f"{name}.conv2", x, 1, 1)))
    return conv(sd, "segment.conv_final.0", x, 1, 1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N, C, h, w) twice → (N, 1, h, w)."""
    norms = a.square().sum(1, keepdim=True).sqrt() * b.square().sum(1, keepdim=True).sqrt()
    return (a * b).sum(1, keepdim=True) / norms


class Detection(NamedTuple):
    anomaly_map: Tensor  # (N, 1, H, W) before smoothing
    logits: Tensor  # (N, 1, H, W)
    teacher: list[Tensor]
    student: list[Tensor]
    recovery: list[Tensor]


def detect(sd: State, image: Tensor) -> Detection:
    t = teacher(sd, image)
    s = [adapter(sd, f"adapter{i + 1}", level) for i, level in enumerate(student(sd, image))]
    r = decoder(sd, fusion(sd, t))
    in_t = [(1 - cosine(a, b)) * a for a, b in zip(t, s, strict=True)]
    in_s = [(1 - cosine(a, b)) * c for a, b, c in zip(t, r, in_t, strict=True)]
    logits = unet(sd, in_s)
    anomaly = torch.sigmoid(logits)
    for a, b in zip(t, r, strict=True):
        distance = 1 - cosine(a, b)
        anomaly = anomaly + F.interpolate(
            distance, image.shape[-2:], mode="bilinear", align_corners=True
        )
    return Detection(anomaly, logits, t, s, r)


def keys_and_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every key of an authors' checkpoint and its shape, with what is never used."""
    yield from _prefixed("teacher", _resnet_keys())
    yield from _prefixed("bn", _fusion_keys())
    yield from _prefixed("decoder", _decoder_keys())
    yield from _prefixed("student", _student_keys())
    for i, (up, down, skip) in enumerate(
        ((512, 1024, 512), (256, 512, 256), (128, 256, 0), (64, 128, 0)), start=1
    ):
        name = f"segment.up{i}"
        yield from ((f"{name}.upconv.weight", (down, up, 4, 4)), (f"{name}.upconv.bias", (up,)))
        yield from _biased(f"{name}.conv1", (up, up + skip, 3, 3))
        yield from _norm(f"{name}.bn1", up)
        yield from _biased(f"{name}.conv2", (up, up, 3, 3))
        yield from _norm(f"{name}.bn2", up)
    yield from _biased("segment.conv_final.0", (1, 64, 3, 3))
    for i, (inputs, outputs) in enumerate(((24, 256), (40, 512), (112, 1024)), start=1):
        yield f"adapter{i}.op.0.weight", (inputs, 1, 3, 3)
        yield f"adapter{i}.op.1.weight", (inputs, inputs, 1, 1)
        yield from _norm(f"adapter{i}.op.2", inputs)
        yield f"adapter{i}.op.4.weight", (inputs, inputs, 3, 3)
        yield f"adapter{i}.op.5.weight", (outputs, inputs, 1, 1)
        yield from _norm(f"adapter{i}.op.6", outputs)


def write_blank(path: Path) -> None:
    """A checkpoint of zeros, small on disk: every tensor is one number, expanded."""
    state = {key: torch.zeros(()).expand(shape) for key, shape in keys_and_shapes()}
    torch.save({"model": state}, path)


def _prefixed(
    prefix: str, keys: Iterator[tuple[str, tuple[int, ...]]]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for key, shape in keys:
        yield f"{prefix}.{key}", shape


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _biased(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _bottleneck_keys(
    name: str, inputs: int, width: int, outputs: int, *, kernel: int = 3, shortcut: str = ""
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.conv1.weight", (width, inputs, 1, 1)
    yield from _norm(f"{name}.bn1", width)
    yield f"{name}.conv2.weight", (width, width, kernel, kernel)
    yield from _norm(f"{name}.bn2", width)
    yield f"{name}.conv3.weight", (outputs, width, 1, 1)
    yield from _norm(f"{name}.bn3", outputs)
    if shortcut == "downsample":
        yield f"{name}.downsample.0.weight", (outputs, inputs, 1, 1)
    if shortcut == "upsample":
        yield f"{name}.upsample.0.weight", (inputs, outputs, 2, 2)
    if shortcut:
        yield from _norm(f"{name}.{shortcut}.1", outputs)


def _resnet_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "conv1.weight", (64, 3, 7, 7)
    yield from _norm("bn1", 64)
    inputs = 64
    for layer, count in ((1, 3), (2, 4), (3, 6), (4, 3)):
        width, outputs = 64 * 2**layer, 128 * 2**layer
        for block in range(count):
            shortcut = "" if block else "downsample"
            name = f"layer{layer}.{block}"
            yield from _bottleneck_keys(name, inputs, width, outputs, shortcut=shortcut)
            inputs = outputs
    yield from _biased("fc", (1000, 2048))


def _fusion_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    for block in range(3):
        inputs, shortcut = (2048, "") if block else (3072, "downsample")
        yield from _bottleneck_keys(f"bn_layer.{block}", inputs, 1024, 2048, shortcut=shortcut)
    for i, shape in enumerate(
        ((512, 256, 3, 3), (1024, 512, 3, 3), (1024, 512, 3, 3), (2048, 4096, 1, 1)), start=1
    ):
        yield f"conv{i}.weight", shape
        yield from _norm(f"bn{i}", shape[0])


def _decoder_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    inputs = 2048
    for layer, count in ((1, 3), (2, 4), (3, 6)):
        width, outputs = 1024 // 2**layer, 2048 // 2**layer
        for block in range(count):
            kernel, shortcut = (3, "") if block else (2, "upsample")
            name = f"layer{layer}.{block}"
            yield from _bottleneck_keys(
                name, inputs, width, outputs, kernel=kernel, shortcut=shortcut
            )
            inputs = outputs


def _student_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "_conv_stem.weight", (32, 3, 3, 3)
    yield from _norm("_bn0", 32)
    for i, (kernel, _, expansion, inputs, outputs) in enumerate(BLOCKS):
        name, width = f"_blocks.{i}", inputs * expansion
        if expansion != 1:
            yield f"{name}._expand_conv.weight", (width, inputs, 1, 1)
            yield from _norm(f"{name}._bn0", width)
        yield f"{name}._depthwise_conv.weight", (width, 1, kernel, kernel)
        yield from _norm(f"{name}._bn1", width)
        yield from _biased(f"{name}._se_reduce", (inputs // 4, width, 1, 1))
        yield from _biased(f"{name}._se_expand", (width, inputs // 4, 1, 1))
        yield f"{name}._project_conv.weight", (outputs, width, 1, 1)
        yield from _norm(f"{name}._bn2", outputs)
    yield "_conv_head.weight", (1280, 320, 1, 1)
    yield from _norm("_bn1", 1280)
    yield from _biased("_fc", (1000, 1280))
