"""Which photographs are copies of each other, among images that may all look alike.

An estimate from n images needs n that were taken, not n files. Three measures find copies, each
where the others are blind:

- equal pixels;
- the gradient hashes of ``duplicates.near``, measured against the images' own average distance.
  Where most images are copies, that average says nothing;
- fine structure, measured absolutely. Photographs of one kind of part in one fixture agree in its
  outline, but not everywhere: of the squares of the image that show anything, a tenth differs.
  Copies agree in nearly all of them, whatever the part looks like.

``docs/audit.md`` says what that finds and what it takes for a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from threecad.dataset.duplicates.exact import find_exact, merge
from threecad.dataset.duplicates.near import ASPECT_TOLERANCE, find_near
from threecad.dataset.samples import GOOD, Sample
from threecad.errors import ImageError
from threecad.images.facts import ImageFacts
from threecad.images.files import open_rgb
from threecad.images.hashing import gradient_hash, pixel_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["AGREEMENT", "find_originals"]

AGREEMENT = 0.96
"""Share of its structure in which nine of ten squares of a copy agree with its original."""

SIDE = 64  # of the image that structure is compared on
SQUARE = 8  # of its pixels make a side of the squares
BAND = (0.7, 3.0)  # standard deviations of the Gaussians between which structure lies
VISIBLE = 2.0  # grey levels of structure (deviation) that a square must show to count
NOISE = 0.7  # grey levels by which encoding and resizing change it
LEAST_SQUARES = 8  # that count; fewer say nothing


def find_originals(files: Sequence[tuple[str, Path]], *, progress: bool = False) -> dict[str, str]:
    """Return, for each id, the first id (in sorted order) that shows the same photograph.

    That is the id itself where it has no copy that sorts before. A file that does not decode has
    no copies. Images are read one by one; 16 KiB are kept of each.

    Args:
        files: (id, file); the ids are different. Ids of one folder are of one kind of part.
        progress: Show a progress bar on stderr.
    """
    samples: list[Sample] = []
    facts: dict[Path, ImageFacts] = {}
    structures: list[_Structure] = []
    for name, path in tqdm(sorted(files), "copies", unit="image", disable=not progress):
        try:
            image = open_rgb(path)
        except (ImageError, MemoryError):
            continue  # whoever needs the image says so
        samples.append(Sample(name, name.rpartition("/")[0], "test", GOOD, (), 0, path, None))
        facts[path] = ImageFacts(
            0,
            "",
            image.width,
            image.height,
            pixels=pixel_hash(image),
            gradients=gradient_hash(image),
        )
        structures.append(_Structure.of(name, image))
    pairs = [(group[0], other) for group in find_exact(samples, facts) for other in group[1:]]
    pairs += [(pair.first, pair.second) for pair in find_near(samples, facts)]
    pairs += _find_agreeing(structures)
    return merge((name for name, _ in files), pairs)


class _Structure(NamedTuple):
    """What an image shows between coarse and fine, by squares.

    Attributes:
        id: Its id.
        log_aspect: Logarithm of width / height.
        squares: (squares, pixels) float32 grey levels, each square about its mean.
        energy: (squares,) mean squares of these.
    """

    id: str
    log_aspect: float
    squares: Floats
    energy: Floats

    @classmethod
    def of(cls, name: str, image: Image.Image) -> _Structure:
        grey = image.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
        pixels = np.asarray(grey)
        fine, coarse = (cv2.GaussianBlur(pixels, (0, 0), sigma) for sigma in BAND)
        number = SIDE // SQUARE
        grid = (fine - coarse).reshape(number, SQUARE, number, SQUARE).transpose(0, 2, 1, 3)
        squares = grid.reshape(number**2, SQUARE**2)
        squares = squares - squares.mean(1, keepdims=True)
        energy = np.square(squares).mean(1)
        return cls(name, float(np.log(image.width / image.height)), squares, energy)


def _find_agreeing(structures: Sequence[_Structure]) -> Iterator[tuple[str, str]]:
    """Yield each image that agrees with an earlier one, which agrees with none before it."""
    if not structures:
        return
    squares = np.empty((len(structures), *structures[0].squares.shape), np.float32)
    energy = np.empty(squares.shape[:2], np.float32)
    aspects = np.empty(len(structures))
    originals: list[str] = []
    for image in structures:
        n = len(originals)
        alike = _agree(squares[:n], energy[:n], image)
        alike &= np.abs(aspects[:n] - image.log_aspect) <= np.log1p(ASPECT_TOLERANCE)
        if alike.any():
            yield originals[int(alike.argmax())], image.id
            continue
        squares[n], energy[n], aspects[n] = image.squares, image.energy, image.log_aspect
        originals.append(image.id)


def _agree(squares: Floats, energy: Floats, image: _Structure) -> npt.NDArray[np.bool_]:
    """Return which of n images, (n, squares, pixels) with energies (n, squares), agree with one."""
    products = np.einsum("nsp,sp->ns", squares, image.squares) / squares.shape[2]
    total = energy + image.energy
    differing = np.maximum(total - 2 * products - 2 * NOISE**2, 0)
    counts = np.maximum(energy, image.energy) > VISIBLE**2
    disagree = counts & (differing > (1 - AGREEMENT) * total)
    seen = counts.sum(1)
    return np.asarray((seen >= LEAST_SQUARES) & (10 * disagree.sum(1) <= seen))
