"""What the benchmark asks of a method, and what it gives it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from threecad.dataset.pytorch import ThreeCAD

__all__ = ["Detector", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One method on one category with one seed: what a detector is made from.

    Attributes:
        method: Name of the method.
        category: Name of the category.
        seed: Random seed; Python's, NumPy's and torch's generators are seeded with it already.
        folder: Folder of this trial, for whatever the detector wants to keep.
        image_size: Height and width of the network's input, pixels.
        device: ``cpu``, ``cuda``, …
        max_steps: At most so many optimiser steps; ``None`` for the method's own budget.
        backbone: Backbone instead of the method's own, for methods that let it be chosen.
        backbone_weights: Folder with files of pretrained weights.
        textures: Folder of texture photographs, for methods that draw synthetic defects.
        options: What was given with ``--set METHOD.KEY=VALUE``.
    """

    method: str
    category: str
    seed: int
    folder: Path
    image_size: int = 256
    device: str = "cpu"
    max_steps: int | None = None
    backbone: str | None = None
    backbone_weights: Path | None = None
    textures: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Trial:
        """Return the trial that ``to_dict`` wrote."""
        paths = {
            key: Path(plain[key])
            for key in ("folder", "backbone_weights", "textures")
            if plain[key] is not None
        }
        return cls(**{**plain, **paths})


class Detector(Protocol):
    """A method under test: a class that is called with a ``Trial``.

    It may have an attribute ``facts``, a dict of JSON values that say how it was run, such as
    ``parameters``, ``steps``, ``backbone`` or ``input``; it is read after ``fit``.
    """

    def fit(self, images: ThreeCAD) -> None:
        """Learn from the good training images of one category.

        Whatever a method selects or calibrates, it does on these images; it never sees others.

        Args:
            images: Gives dicts with ``image`` (3, H, W) uint8, of any size; ``images.index`` names
                the files.
        """
        ...

    def predict(
        self, paths: Sequence[Path]
    ) -> Iterable[tuple[NDArray[np.floating[Any]], float | None]]:
        """Yield an anomaly map and an image score for every file, in order.

        The map is (h, w) float of any size and finite range, higher is more anomalous; it stands
        for the whole image. A score of ``None`` is the maximum of the map.
        """
        ...
