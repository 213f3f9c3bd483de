"""An image and what an annotation file says of it, gathered shape by shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from threecad.dataset.naming import is_good_name
from threecad.formats.annotations.drawings import Drawing, Ring, check_ring
from threecad.formats.contents import File
from threecad.formats.reading.options import foreign_id, item_of_id, type_of_shape
from threecad.images.encodings import mask_to_rle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["Annotated"]


@dataclass
class Annotated:
    """What is said of an image and drawn on it.

    Attributes:
        image: The file.
        source: Where it is.
        split: The split it belongs to, ``""`` where nothing names one.
        size: ``(height, width)`` that coordinates are meant for.
    """

    image: Path
    source: Source
    split: str
    size: tuple[int, int]
    _kinds: list[str] = field(default_factory=list)
    _labels: list[str] = field(default_factory=list)
    _rings: list[Ring] = field(default_factory=list)
    _run_lengths: list[str] = field(default_factory=list)
    _said_good: bool = False

    def label(self, label: object, where: str) -> None:
        """Add what is said of the whole image."""
        if isinstance(label, str) and is_good_name(label):
            self._said_good = True
            self.source.use_entry()
        elif (kind := type_of_shape(label, self.source, self.image, where)) is not None:
            self._labels.append(kind)

    def outline(self, ring: Ring, label: object, where: str) -> None:
        """Add a shape by its outline, x and y of its corners in turn, in pixels.

        Raises:
            MaskError: If it can be none on this image.
        """
        ring = check_ring(ring, self.size, where)
        if (kind := type_of_shape(label, self.source, self.image, where)) is not None:
            self._kinds.append(kind)
            self._rings.append(ring)

    def box(self, ring: Ring, label: object, where: str) -> None:
        """Add a box by its outline: it is filled on request only."""
        ring = check_ring(ring, self.size, where)
        kind = type_of_shape(label, self.source, self.image, where)
        if kind is not None and self.source.only_box(where):
            self._kinds.append(kind)
            self._rings.append(ring)

    def pixels(self, mask: NDArray[np.bool_], label: object, where: str) -> None:
        """Add a mask, ``(H, W)`` bool."""
        if (kind := type_of_shape(label, self.source, self.image, where)) is not None:
            self._kinds.append(kind)
            self._run_lengths.append(str(mask_to_rle(mask)["counts"]))

    def item(self, options: ReadOptions) -> Item:
        """Return the item: good where nothing is drawn and no defect named.

        An image that is called good keeps what is drawn on it: that it contradicts itself is
        said where all contradictions are.
        """
        kinds = [] if self._said_good else self._kinds or self._labels
        name = foreign_id(kinds, self.split, self.image.stem, self.source.root, options)
        mask = None
        if self._rings or self._run_lengths:
            mask = Drawing(*self.size, tuple(self._run_lengths), tuple(self._rings))
        return item_of_id(name, image=File(self.image), mask=mask, split=self.split)
