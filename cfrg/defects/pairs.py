"""Training pairs: a good image, the same image with a synthetic defect, and the defect's mask.

Every random draw belongs to (seed, epoch, position), never to a worker or a rank, so the pairs do
not depend on the number of data workers or processes, and a resumed run sees what an uninterrupted
one would have seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler, Subset

from cfrg.network.processing import to_tensor
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cfrg.images.cache import Pictures

__all__ = [
    "DefectMaker",
    "PairBatches",
    "PairKey",
    "TrainingPairs",
    "hold_out",
    "random_stream",
]

# First number of every key, so that no two purposes ever share a stream.
ORDER_STREAM = 1
DEFECT_STREAM = 2
NETWORK_STREAM = 3
CROP_STREAM = 4
VALIDATION_STREAM = 5
ROTATION_STREAM = 6

LEAST_PART = 0.01
"""Share of an image below which its part is too small to keep defects on it."""


class DefectMaker(Protocol):
    """Draws a synthetic defect into a good image."""

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        rng: np.random.Generator,
        key: PairKey,
        part: npt.NDArray[np.bool_] | None,
        /,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the defective image (H, W, 3) uint8 and the mask (H, W) uint8 0/1.

        Args:
            image: (H, W, 3) uint8.
            rng: Gives all that is random.
            key: Which pair it is, for what shall not be random.
            part: (H, W) bool, where the defect may be; anywhere when ``None``.
        """
        ...


class PairKey(NamedTuple):
    """Which pair to draw.

    Attributes:
        epoch: How often the image was shown before.
        position: The image's place in the dataset.
        place: The pair's place in the order of its epoch.
    """

    epoch: int
    position: int
    place: int = 0


class TrainingPairs(Dataset[dict[str, torch.Tensor]]):
    """Pairs for the losses, drawn anew in every epoch.

    ``pairs[PairKey(epoch, position)]`` is a dict of ``clean`` and ``defective``, (3, H, W) uint8,
    and ``mask``, (1, H, W) float32 0/1.

    Args:
        images: (H, W, 3) uint8 images by position; of one size, unless they are cropped.
        make_defect: Draws the synthetic defect.
        seed: Seed of all draws.
        crop: Height and width of a random crop of each image; the whole image when ``None``.
        scales: On how many scales images are cropped, each as often as the others: as they are, at
            half their size, at a quarter, …
        parts: (H, W) bool by position, where defects may be; anywhere when ``None``.
        purpose: First number of the keys, so that pairs of two purposes share no draws.
    """

    def __init__(
        self,
        images: Pictures,
        make_defect: DefectMaker,
        *,
        seed: int,
        crop: tuple[int, int] | None = None,
        scales: int = 1,
        parts: Pictures | None = None,
        purpose: int = DEFECT_STREAM,
    ) -> None:
        self.images, self.make_defect, self.seed = images, make_defect, seed
        self.crop, self.scales, self.parts, self.purpose = crop, scales, parts, purpose

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: PairKey) -> dict[str, torch.Tensor]:
        key = PairKey(*key)
        image, part = self.view(key)
        defective, mask = self.make_defect(image, self.stream(key), key, part)
        return {
            "clean": to_tensor(image),
            "defective": to_tensor(defective),
            "mask": torch.from_numpy(np.ascontiguousarray(mask))[None].float(),
        }

    def view(self, key: PairKey) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
        """Return the good image, cropped, (H, W, 3) uint8, and where its defect may be."""
        image = self.images[key.position]
        part = None if self.parts is None else self.parts[key.position].astype(bool)
        if self.crop:
            numbers = random_stream(CROP_STREAM, self.purpose, self.seed, key.epoch, key.position)
            step = 2 ** int(numbers.integers(self.scales)) if self.scales > 1 else 1
            size = (step * self.crop[0], step * self.crop[1])
            window = _random_window(image.shape[:2], size, numbers)
            image = _reduce(_cut(image, window, size), step)
            part = None if part is None else _cut(part, window, size)[::step, ::step]
        if part is not None and part.mean() < LEAST_PART:
            part = None
        return image, part

    def stream(self, key: PairKey) -> np.random.Generator:
        """Return the random numbers of a pair's defect."""
        return random_stream(self.purpose, self.seed, key.epoch, key.position)


@dataclass(frozen=True)
class PairBatches(Sampler["list[PairKey]"]):
    """The batches of a training run, step by step, for one of several processes.

    The order of each epoch is a permutation drawn from (seed, epoch); epochs follow each other
    without a gap, so every batch is full. A step takes ``processes · batch_size`` consecutive
    pairs and each process its own slice of them.

    Attributes:
        length: Number of images.
        batch_size: Pairs a process sees at a time.
        seed: Seed of the permutations.
        start: First step.
        stop: One past the last step.
        rank: This process.
        processes: How many there are.
    """

    length: int
    batch_size: int
    seed: int
    start: int
    stop: int
    rank: int = 0
    processes: int = 1

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[PairKey]]:
        orders: dict[int, npt.NDArray[np.int64]] = {}
        for step in range(self.start, self.stop):
            first = (step * self.processes + self.rank) * self.batch_size
            batch = []
            for number in range(first, first + self.batch_size):
                epoch, place = divmod(number, self.length)
                if epoch not in orders:
                    orders = {epoch - 1: orders.get(epoch - 1, np.empty(0, np.int64))}
                    orders[epoch] = self._order(epoch)
                batch.append(PairKey(epoch, int(orders[epoch][place]), place))
            yield batch

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = random_stream(ORDER_STREAM, self.seed, epoch)
        return rng.permutation(self.length)


def hold_out(
    dataset: Dataset[dict[str, Any]], ids: Sequence[str], fraction: float
) -> tuple[Subset[dict[str, Any]], Subset[dict[str, Any]]]:
    """Divide good images into those to train on and those held out for model selection.

    The choice depends on the ids alone (a hash), so it is the same in every run and hardly changes
    when images are added.

    Args:
        dataset: The good training images.
        ids: Their sample ids, in order.
        fraction: Share to hold out; at least one image when above 0.

    Raises:
        UsageError: If nothing would be left to train on.
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"The held-out fraction is {fraction}; expected 0 to below 1.")
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest())
    count = min(max(round(fraction * len(ids)), 1), len(ids) - 1) if fraction else 0
    if len(ids) <= count or not ids:
        raise UsageError(f"{len(ids)} good images are too few to train on.")
    return Subset(dataset, sorted(order[count:])), Subset(dataset, sorted(order[:count]))


def random_stream(*key: int) -> np.random.Generator:
    """Return the random numbers that belong to ``key``, the same everywhere and in any order."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _random_window(
    size: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Return the first row and column of a crop; 0 along an axis that is no longer than it."""
    top, left = (
        int(rng.integers(max(length - side, 0) + 1))
        for length, side in zip(size, crop, strict=True)
    )
    return top, left


def _reduce(pixels: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) with each square of ``step`` × ``step`` pixels in place of its mean."""
    if step == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).reduce(step))


def _cut(
    pixels: npt.NDArray[Any], window: tuple[int, int], crop: tuple[int, int]
) -> npt.NDArray[Any]:
    """Return the crop, continued by its mirror image where the image is smaller."""
    (top, left), (height, width) = window, crop
    cut = pixels[top : top + height, left : left + width]
    missing = ((0, height - cut.shape[0]), (0, width - cut.shape[1]))
    if any(after for _, after in missing):
        return np.pad(cut, (*missing, *[(0, 0)] * (cut.ndim - 2)), mode="symmetric")
    return cut
