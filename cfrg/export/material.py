"""The images on which an exported graph is held against its model, and measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cfrg.images.sources import find_images, is_tree
from threecad.dataset.samples import Index
from threecad.dataset.scanning import scan
from threecad.errors import UsageError
from threecad.images.files import read_image
from threecad.procedural import write_sample

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy.typing as npt

    from cfrg.inference.loading import TrainedModel

__all__ = ["Material", "gather"]

Size = tuple[int, int]


@dataclass(frozen=True)
class Material:
    """Images to compare on, and good ones to measure ranges on."""

    files: list[tuple[str, Path]]
    good: list[Path]
    index: Index | None  # of the files, where their labels say how good the run is
    network_size: Size
    bits: int  # of the files

    def read(self, size: Size | None) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Yield ids and images as the graph takes them."""
        for name, path in self.files:
            yield name, _fit(read_image(path, self.bits), size)

    def read_sizes(self, tile: int) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Yield the first image at sizes with which tiles differ: less than one, one, and more."""
        name, path = self.files[0]
        image = read_image(path, self.bits)
        for size in ((tile // 2, tile // 3), (tile, tile), (2 * tile + 1, tile - 1)):
            fitted = _fit(image, (max(1, size[0]), max(1, size[1])))
            yield f"{name} ({size[0]}×{size[1]})", fitted

    def read_good(self, size: Size | None, most: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield good images, at most so many, at the network's size where ``size`` is ``None``."""
        for path in tqdm(_spread(self.good, most), "quantise"):
            yield _fit(read_image(path, self.bits), size or self.network_size)


def gather(
    images: str | os.PathLike[str] | None, run: Path, model: TrainedModel, folder: Path, limit: int
) -> Material:
    """Return the images to compare on.

    Args:
        images: A tree, of which the run's category is taken, or a folder; drawn ones if ``None``.
        run: Names the run in the error.
        model: The run.
        folder: Where images are drawn.
        limit: Compare on at most so many, spread evenly; all for 0.

    Raises:
        UsageError: If a tree has no test image of the run's category.
    """
    size, bits = model.config.image_size, model.config.bits
    category = model.companions.get("run.json", {}).get("category", "all")
    category = None if category == "all" else category
    drawn = images is None
    if images is None:
        images = write_sample(folder / "sample", per_category=1, workers=0)
        category, bits = None, 8
    if not is_tree(Path(images)):
        files = find_images([images])
        return Material(_spread(files, limit), [p for _, p in files], None, size, bits)
    index = scan(images).select(category=category)
    test = _spread(list(index.select(split="test")), limit)
    if not test:
        raise UsageError(f"{images} has no test images of {category}, which {run} was trained on.")
    good = [sample.image for sample in index.select(split="train", label=0)]
    files = [(sample.id, sample.image) for sample in test]
    return Material(files, good, None if drawn else Index(index.root, test), size, bits)


def _fit(image: npt.NDArray[np.uint8], size: Size | None) -> npt.NDArray[np.uint8]:
    """Return the image at the size the graph takes."""
    if size is None or image.shape[:2] == tuple(size):
        return image
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(resized)


def _spread(items: list[Any], count: int) -> list[Any]:
    """At most ``count`` items at even distances; all for 0."""
    if not count or len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1 or 1))] for i in range(count)]
