"""Thresholds: from the scores of good images to a decision, with a false-alarm rate.

``RUN/calibration.json`` holds them. It has nothing to do with ``CFRGConfig.calibrate_maps``, which
puts the branches of the network on one scale and lives in its weights.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfrg.inference.policy import DecisionPolicy
from cfrg.network.digest import digest_tensors
from cfrg.run_folder import CALIBRATION, RunFolder
from threecad.errors import ModelError, UsageError
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    import os

    from cfrg.inference.loading import TrainedModel

__all__ = ["Threshold", "digest_weights", "read_policy", "read_threshold"]

FILE = CALIBRATION
SCHEMA = "cfrg.calibration/1"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Where good ends, and how that was found.

    An image is called defective if its score is above ``image_threshold``; a pixel belongs to a
    region if the smoothed anomaly map is above ``pixel_threshold`` there.

    Attributes:
        image_threshold: For image scores. With 95 % confidence, at most ``false_alarm_rate`` of
            unseen good images are above.
        pixel_threshold: For anomaly maps. With 95 % confidence, at most ``false_alarm_rate`` of
            unseen good images have any pixel above; where some are sent to review, at most as
            many as both rates together, with 90 % confidence.
        false_alarm_rate: The rate that was asked for.
        interval: The rate that ``image_threshold`` reaches on unseen good images: 95 % interval.
        images: Number of different good images it was found on.
        copies: Copies of these, which were left out.
        source: What these were: ``"held-out"``, ``"test-good"``, ``"train-good"`` or a path.
        data_fingerprint: Of these images.
        weights_digest: Of the weights and the configuration it belongs to.
        tile: Side of the tiles that images were predicted in, pixels of the full image; 0 for
            whole images.
        tile_overlap: Of neighbouring tiles, pixels of the full image.
        region: The region of interest that scores were taken in, as ``CFRGConfig.region``.
        version: The version of threecad that wrote it.
        policy: What is decided with them; without review and categories in files of versions that
            did not know these.
    """

    image_threshold: float
    pixel_threshold: float
    false_alarm_rate: float
    interval: tuple[float, float]
    images: int
    source: str
    data_fingerprint: str
    weights_digest: str
    tile: int = 0
    tile_overlap: int = 0
    copies: int = 0
    region: str = ""
    version: str
    policy: DecisionPolicy = field(default_factory=DecisionPolicy)

    def __post_init__(self) -> None:
        if self.policy.defective is None:
            policy = DecisionPolicy(
                defective=self.image_threshold,
                pixel_threshold=self.pixel_threshold,
                false_alarm_rate=self.false_alarm_rate,
                confidence=0.95,
            )
            object.__setattr__(self, "policy", policy)

    @classmethod
    def from_dict(cls, values: Any, where: str = FILE) -> Threshold:
        """Return what ``to_dict`` gave; keys of later versions are passed over.

        Args:
            values: The parsed JSON.
            where: Named in errors.

        Raises:
            ModelError: If it holds no thresholds.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f"its schema is {values['schema']!r}, expected {SCHEMA!r}")
            low, high = values["interval"]
            policy = DecisionPolicy()
            if (stored := values.get("policy")) is not None:
                policy = DecisionPolicy.from_dict(stored, where)
            found = cls(
                image_threshold=_number(values["image_threshold"]),
                pixel_threshold=_number(values["pixel_threshold"]),
                false_alarm_rate=_number(values["false_alarm_rate"]),
                interval=(_number(low), _number(high)),
                images=_whole(values["images"]),
                source=_text(values["source"]),
                data_fingerprint=_text(values["data_fingerprint"]),
                weights_digest=_text(values["weights_digest"]),
                tile=_whole(values["tile"]),
                tile_overlap=_whole(values["tile_overlap"]),
                copies=_whole(values.get("copies", 0)),
                region=_text(values.get("region", "")),
                version=_text(values["version"]),
                policy=policy,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ModelError(
                f"{where} holds no thresholds: {reason}. Write it anew with `cfrg calibrate`."
            ) from None
        return found

    def check(self, weights_digest: str, tile: int, overlap: int, region: str) -> None:
        """Refuse to be used with another model, tiles or region than those it was found with.

        Args:
            weights_digest: From ``digest_weights``.
            tile: Side of the tiles; 0 for whole images.
            overlap: Of the tiles.
            region: Of interest.

        Raises:
            ModelError: If the weights, the configuration or the region are other ones.
            UsageError: If the tiles are.
        """
        if weights_digest != self.weights_digest:
            raise ModelError(
                "The thresholds in calibration.json belong to other weights or another "
                "configuration. Run `cfrg calibrate` again, or give both thresholds yourself."
            )
        if region != self.region:
            raise ModelError(
                "The thresholds in calibration.json belong to another region of interest than that "
                "in config.json. Run `cfrg calibrate` again, or give both thresholds yourself."
            )
        if (tile, overlap) != (self.tile, self.tile_overlap):
            raise UsageError(
                f"The thresholds in calibration.json belong to {_say_tiles(self.tile)}, not to "
                f"{_say_tiles(tile)} with an overlap of {overlap} pixels. Run `cfrg calibrate` "
                "with the same tiles, or give both thresholds yourself."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``calibration.json`` holds."""
        values = dataclasses.asdict(self)
        values |= {"interval": list(self.interval), "policy": self.policy.to_dict()}
        return {"schema": SCHEMA, **values}


def read_threshold(run: str | os.PathLike[str]) -> Threshold | None:
    """Return the thresholds of a run folder; ``None`` where it was never calibrated.

    Raises:
        ModelError: If ``calibration.json`` is damaged.
    """
    path = RunFolder(run).calibration
    try:
        values = read_object(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}. Write it anew with `cfrg calibrate`."
        ) from None
    return Threshold.from_dict(values, str(path))


def read_policy(run: str | os.PathLike[str]) -> DecisionPolicy | None:
    """Return what a run folder decides by; ``None`` where it was never calibrated.

    Raises:
        ModelError: If ``calibration.json`` is damaged.
    """
    threshold = read_threshold(run)
    return None if threshold is None else threshold.policy


def digest_weights(model: TrainedModel) -> str:
    """Return the SHA-256 over a model's tensors and its configuration, see ``digest_tensors``."""
    return digest_tensors(model.config, model.state_dict())


def _say_tiles(tile: int) -> str:
    return f"tiles of {tile} pixels" if tile else "whole images"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise ValueError(f"{str(value)[:40]!r} is no finite number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no number of images or pixels")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value
