"""What a CFRG network is made of, as plain data that travels as ``config.json``."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from cfrg.network.interest import decode_region
from cfrg.teachers.backbones import STUDENTS, TEACHERS
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "CFRGConfig"]

CHOICES = {  # the paper's first
    "segmentation_input": ["weighted", "difference", "both"],
    "recovery_loss": ["image", "pixel"],
    "recovery_distance": ["cosine", "euclidean"],
    "segmentation_map": ["probability", "logit"],
}


# A configuration may come from anyone: within these, it asks for no absurd memory or time.
MOST_PIXELS, MOST_BLOCKS, MOST_CHANNELS, MOST = 8192, 100, 16_384, 1000
MOST_VECTORS = 1_000_000
MOST_SCALES = 4


@dataclass(frozen=True, kw_only=True)
class CFRGConfig:
    """Configuration of a CFRG network; the defaults are the paper's network.

    Tuples with one entry per feature level run from level 1 (H/4, fine) to level 3 (H/16, deep).

    Attributes:
        image_size: Height and width the data are resized to; one number stands for a square. The
            network itself takes any size.
        tile: Side of the square tiles that a full-resolution image is cut into, in its pixels;
            each is resized to ``image_size``. 0 resizes the whole image.
        tile_overlap: Pixels of the full-resolution image that neighbouring tiles share.
        bits: Of 16 that images have a channel, how many the camera uses; the upper eight of them
            are seen. 8 takes any image.
        teacher: Key of ``cfrg.teachers.backbones.TEACHERS``.
        student: Key of ``cfrg.teachers.backbones.STUDENTS``.
        fusion_blocks: Bottleneck blocks of the feature fusion.
        fusion_width: Channels inside them.
        fusion_channels: Channels that leave them, at H/32.
        decoder_blocks: Bottleneck blocks of the recovery decoder, per level.
        decoder_widths: Channels inside them, per level.
        decoder_channels: Channels that leave each level; where they are not the teacher's, or the
            teacher's features can be negative, a 1×1 convolution maps them.
        unet_channels: Channels of the four up-blocks of the segmentation U-Net, deep to fine.
        standardize_features: Put each channel of the teacher on mean 0, deviation 1 over good
            images (``CFRG.fit_features``) before anything sees it.
        calibrate_maps: Put each branch's map on mean 0, deviation 1 over good images
            (``CFRG.fit_calibration``) before they are summed.
        segmentation_input: What the U-Net sees: ``"weighted"``, the teacher's features weighted by
            both disagreements; ``"difference"``, those minus what was recovered of them;
            ``"both"``.
        recovery_loss: Cosine distance of the recovery loss over the whole image (``"image"``) or
            at each place (``"pixel"``).
        recovery_mse: Weight of a mean squared error beside it.
        recovery_distance: What the recovery's maps show: ``"cosine"`` or ``"euclidean"``.
        segmentation_map: What stands for the segmentation in the anomaly map: its
            ``"probability"`` or its ``"logit"``.
        recovery_weights: Weight of each level's recovery map in the anomaly map.
        segmentation_weight: Weight of the segmentation map in the anomaly map.
        coarse_weights: Weight of each level's teacher-student map in the anomaly map.
        smoothing_sigma: Standard deviation of the Gaussian that smooths the anomaly map, pixels.
        score_fraction: The image score is the mean over this fraction of the largest pixels of
            the smoothed map; 0 takes the maximum.
        scales: Weights of the anomaly maps of an image as it is, at half its size, at a quarter, …
        memory: Number of feature vectors of good images that are remembered (at each scale).
        memory_weight: Weight of the distance to them in the anomaly map of a CFRG network; with 0
            and a ``memory`` there is no network but a nearest-neighbour memory, which uses
            ``teacher`` and the fields about images and maps.
        by_place: Maps are measured by what is usual at their place.
        region: Where on the image to look, see ``cfrg.network.interest``; all of it if empty.
        mean: Channel means of the input normalisation, on [0, 1] RGB; the teacher's own if empty.
        std: Channel deviations of the input normalisation; the teacher's own if empty.

    Raises:
        ModelError: Values that make no network; all of them are named at once.
    """

    image_size: tuple[int, int] = (256, 256)
    tile: int = 0
    tile_overlap: int = 0
    bits: int = 8
    teacher: str = "wide_resnet50_2"
    student: str = "efficientnet_b0"
    fusion_blocks: int = 3
    fusion_width: int = 1024
    fusion_channels: int = 2048
    decoder_blocks: tuple[int, int, int] = (6, 4, 3)
    decoder_widths: tuple[int, int, int] = (128, 256, 512)
    decoder_channels: tuple[int, int, int] = (256, 512, 1024)
    unet_channels: tuple[int, int, int, int] = (512, 256, 128, 64)
    standardize_features: bool = False
    calibrate_maps: bool = False
    segmentation_input: str = "weighted"
    recovery_loss: str = "image"
    recovery_mse: float = 0.0
    recovery_distance: str = "cosine"
    segmentation_map: str = "probability"
    recovery_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    segmentation_weight: float = 1.0
    coarse_weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    smoothing_sigma: float = 4.0
    score_fraction: float = 0.0
    scales: tuple[float, ...] = (1.0,)
    memory: int = 0
    memory_weight: float = 0.0
    by_place: bool = False
    region: str = ""
    mean: tuple[float, float, float] | tuple[()] = ()
    std: tuple[float, float, float] | tuple[()] = ()

    def __post_init__(self) -> None:
        if isinstance(self.image_size, int):
            object.__setattr__(self, "image_size", (self.image_size, self.image_size))
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):  # what JSON makes of a tuple
                object.__setattr__(self, field.name, tuple(value))
        if isinstance(self.teacher, str) and (teacher := TEACHERS.get(self.teacher)):
            object.__setattr__(self, "mean", self.mean or teacher.mean)
            object.__setattr__(self, "std", self.std or teacher.std)
        if problems := self._problems():
            raise ModelError("Wrong configuration:\n  " + "\n  ".join(problems))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> CFRGConfig:
        """A named configuration, with some values replaced.

        Args:
            name: ``"paper"``, the published network; ``"lite"``, the same algorithm at a size that
                trains on a CPU; ``"memory"``, a nearest-neighbour memory, which learns nothing;
                ``"dino"``, ``lite``'s algorithm on a transformer at 448 × 448, not measured yet.
            **overrides: Values of the fields to replace.

        Raises:
            ModelError: No such preset, no such field, or values that make no network.
        """
        if name not in PRESETS:
            raise ModelError(f"No preset {name!r}. There are: {', '.join(PRESETS)}.")
        tiled = TILED if name == "lite" and overrides.get("tile") else {}
        return cls.from_dict({**PRESETS[name], **tiled, **overrides})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CFRGConfig:
        """The configuration that ``to_dict`` wrote.

        Raises:
            ModelError: Unknown fields or values that make no network.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise ModelError(
                "Wrong configuration:\n  "
                + "\n  ".join(f"no field {key!r}{_suggest(key, known)}" for key in unknown)
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them (lists for tuples)."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @property
    def nonnegative(self) -> bool:
        """Whether the teacher's features are never negative, so that a ReLU can imitate them."""
        return TEACHERS[self.teacher].nonnegative and not self.standardize_features

    @property
    def is_memory(self) -> bool:
        """Whether this is a nearest-neighbour memory instead of a CFRG network."""
        return bool(self.memory) and not self.memory_weight

    def departures(self) -> dict[str, tuple[Any, Any]]:
        """The fields that are not the paper's: this value and the paper's, by name."""
        paper = CFRGConfig()
        names = [field.name for field in dataclasses.fields(self)]
        pairs = {name: (getattr(self, name), getattr(paper, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def _region_problems(self) -> list[str]:
        if not isinstance(self.region, str):
            return [f"region is {str(self.region)[:40]!r}, expected text"]
        try:
            if self.region:
                decode_region(self.region)
        except ModelError as error:
            return [f"region: {error}"]
        return []

    def _problems(self) -> list[str]:
        known_teacher = isinstance(self.teacher, str) and self.teacher in TEACHERS
        problems = [
            f"{field} is {name!r}, expected one of {', '.join(known)}{_suggest(name, known)}"
            for field, name, known in (
                ("teacher", self.teacher, list(TEACHERS)),
                ("student", self.student, list(STUDENTS)),
                *((field, getattr(self, field), known) for field, known in CHOICES.items()),
            )
            if name not in known
        ]
        for field, length, most in (
            ("image_size", 2, MOST_PIXELS),
            ("fusion_blocks", 0, MOST_BLOCKS),
            ("fusion_width", 0, MOST_CHANNELS),
            ("fusion_channels", 0, MOST_CHANNELS),
            ("decoder_blocks", 3, MOST_BLOCKS),
            ("decoder_widths", 3, MOST_CHANNELS),
            ("decoder_channels", 3, MOST_CHANNELS),
            ("unet_channels", 4, MOST_CHANNELS),
        ):
            if not _is_numbers(getattr(self, field), length, whole=True, least=1, most=most):
                what = f"integer from 1 to {most}"
                problems.append(_expected(field, getattr(self, field), length, what))
        if not _is_numbers(self.memory, 0, whole=True, least=0, most=MOST_VECTORS):
            what = f"integer from 0 to {MOST_VECTORS}"
            problems.append(_expected("memory", self.memory, 0, what))
        count = len(self.scales) if isinstance(self.scales, tuple) else 0
        if not 1 <= count <= MOST_SCALES or not _is_numbers(
            self.scales, count, least=1 / MOST, most=MOST
        ):
            what = f"1 to {MOST_SCALES} numbers from {1 / MOST} to {MOST}"
            problems.append(_expected("scales", self.scales, 0, what))
        if not _is_numbers(self.bits, 0, whole=True, least=8, most=16):
            problems.append(_expected("bits", self.bits, 0, "integer from 8 to 16"))
        problems += [
            _expected(field, getattr(self, field), 0, "integer ≥ 0")
            for field in ("tile", "tile_overlap")
            if not _is_numbers(getattr(self, field), 0, whole=True, least=0)
        ]
        for field, length in (
            ("recovery_mse", 0),
            ("recovery_weights", 3),
            ("segmentation_weight", 0),
            ("memory_weight", 0),
            ("coarse_weights", 3),
            ("smoothing_sigma", 0),
            ("score_fraction", 0),
            *((("mean", 3),) if known_teacher else ()),
        ):
            if not _is_numbers(getattr(self, field), length, least=0, most=MOST):
                what = f"number from 0 to {MOST}"
                problems.append(_expected(field, getattr(self, field), length, what))
        if known_teacher and not _is_numbers(self.std, 3, least=1 / MOST, most=MOST):
            problems.append(_expected("std", self.std, 3, f"number from {1 / MOST} to {MOST}"))
        problems += [
            f"{field} is {getattr(self, field)!r}, expected true or false"
            for field in ("standardize_features", "calibrate_maps", "by_place")
            if not isinstance(getattr(self, field), bool)
        ]
        problems += self._region_problems()
        if _is_numbers(self.score_fraction, 0, least=0) and self.score_fraction > 1:
            problems.append(f"score_fraction is {self.score_fraction}, expected at most 1")
        if not problems and self.memory_weight and not self.memory:
            problems.append("memory_weight needs a memory, such as memory=15000")
        if not problems and min(self.image_size) >> (count - 1) < 1:
            problems.append(f"scales has {count} numbers, too many for {self.image_size}")
        if not problems and self.tile_overlap >= max(self.tile, 1):
            problems.append(
                f"tile_overlap is {self.tile_overlap}, expected less than tile ({self.tile})"
            )
        return problems


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "lite": {
        "image_size": 128,
        "teacher": "efficientnet_lite0",
        "student": "small_resnet",
        "fusion_blocks": 3,
        "fusion_width": 128,
        "fusion_channels": 256,
        "decoder_blocks": (2, 2, 2),
        "decoder_widths": (32, 64, 128),
        "decoder_channels": (64, 128, 256),
        "unet_channels": (64, 32, 16, 8),
        "segmentation_input": "both",
        "segmentation_map": "logit",
        "segmentation_weight": 2.0,
        "recovery_loss": "pixel",
        "recovery_mse": 0.5,
        "recovery_weights": (0.0, 0.0, 0.0),
        "calibrate_maps": True,
        "scales": (1.0, 0.5),
        "memory": 15_000,
        "memory_weight": 1.0,
        "score_fraction": 0.001,
    },
    "memory": {
        "teacher": "efficientnet_lite0",
        "memory": 15_000,
        "smoothing_sigma": 4.0,
        "score_fraction": 0.001,
    },
}

TILED: dict[str, Any] = {
    "recovery_weights": (0.0, 1.0, 1.0),
    "recovery_distance": "euclidean",
    "smoothing_sigma": 2.0,
    "score_fraction": 0.0,
    "scales": (1.0,),
    "memory": 0,
    "memory_weight": 0.0,
}
"""What ``"lite"`` is instead where it sees tiles, which show no place of the part."""

# Not measured yet. The decoder is as wide as the features, and smoothing as wide in the part.
PRESETS["dino"] = {
    **PRESETS["lite"],
    **TILED,  # a transformer sees whole images, and none of them like a crop
    "image_size": 448,
    "teacher": "dinov2_s",
    "student": "efficientnet_b0",
    "fusion_width": 256,
    "fusion_channels": 512,
    "decoder_widths": (96, 96, 96),
    "decoder_channels": (384, 384, 384),
    "unet_channels": (256, 128, 64, 32),
    "smoothing_sigma": 7.0,
}


def _is_numbers(
    value: object, length: int, *, whole: bool = False, least: float, most: float = math.inf
) -> bool:
    """Whether value is one number (length 0) or a tuple of that many, all in [least, most]."""
    numbers = value if length else (value,)
    kinds = int if whole else (int, float)
    return (
        isinstance(numbers, tuple)
        and len(numbers) == max(length, 1)
        and all(
            isinstance(number, kinds) and not isinstance(number, bool) and least <= number <= most
            for number in numbers
        )
    )


def _expected(field: str, value: object, length: int, what: str) -> str:
    count = f"{length} of: {what}" if length else f"one {what}"
    return f"{field} is {value!r}, expected {count}"


def _suggest(name: object, known: list[str]) -> str:
    close = get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
