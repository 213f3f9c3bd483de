"""What a detector says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cfrg.images.appearance import Appearance
    from cfrg.inference.policy import Decision
    from cfrg.inference.regions import FlaggedRegion

__all__ = ["Prediction"]


@dataclass(frozen=True)
class Prediction:
    """What a detector says about one image.

    Attributes:
        id: Sample id, or relative path without suffix for a loose file.
        map: (h, w) float32 smoothed anomaly map at the size of the network's input, or of the
            canvas that tiles are cut from; higher is more anomalous. ``None`` when the image could
            not be read.
        score: The image score.
        error: Why there is no map.
        size: Height and width of the image.
        decision: ``"good"``, ``"review"`` or ``"defective"``; ``None`` without a threshold.
        regions: Where the map is above the pixel threshold, those below the least area left out;
            ``None`` without a threshold.
        seconds: Time by step: ``read``, ``network`` (its share of the batch), ``regions``.
        appearance: What the image looks like, for ``cfrg monitor``.
    """

    id: str
    map: npt.NDArray[np.float32] | None
    score: float
    error: str | None = None
    size: tuple[int, int] = (0, 0)
    decision: Decision | None = None
    regions: tuple[FlaggedRegion, ...] | None = None
    seconds: tuple[tuple[str, float], ...] = ()
    appearance: Appearance | None = None

    @property
    def defective(self) -> bool | None:
        """Whether the image is called defective; ``None`` without a threshold."""
        return None if self.decision is None else self.decision == "defective"

    def to_dict(self) -> dict[str, Any]:
        """Return all but the map as JSON-able data, times in milliseconds."""
        if self.error is not None:
            return {"id": self.id, "error": self.error}
        return {
            "id": self.id,
            "score": self.score,
            "decision": self.decision,
            "size": [self.size[1], self.size[0]],
            "regions": None if self.regions is None else [r.to_dict() for r in self.regions],
            "appearance": None if self.appearance is None else self.appearance.to_dict(),
            "milliseconds": {step: round(1000 * seconds, 2) for step, seconds in self.seconds},
        }
