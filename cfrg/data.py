"""Training pairs: a good image, the same image with a synthetic defect, and the defect's mask.

Every random draw belongs to (seed, epoch, position), never to a worker or a rank, so the pairs do
not depend on the number of data workers or processes, and a resumed run sees what an uninterrupted
one would have seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from cfrg.preprocessing import resize, to_tensor
from threecad import atomic
from threecad.caching import mark_used
from threecad.errors import DataError, UsageError
from threecad.locations import user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

__all__ = [
    "DefectMaker",
    "ImageCache",
    "PairBatches",
    "PairKey",
    "TrainingPairs",
    "hold_out",
    "random_stream",
]

# First number of every key, so that no two purposes ever share a stream.
ORDER_STREAM = 1
DEFECT_STREAM = 2


class DefectMaker(Protocol):
    """Draws a synthetic defect into a good image."""

    def __call__(
        self, image: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the defective image (H, W, 3) uint8 and the mask (H, W) uint8 0/1."""
        ...


class PairKey(NamedTuple):
    """Which pair to draw: the epoch and the image's position in the dataset."""

    epoch: int
    position: int


class ImageCache(Dataset["npt.NDArray[np.uint8]"]):
    """The images of a dataset at training size, decoded once into a memory-mapped file.

    The file lies in the user's cache folder and is named by the content it was made from: the
    paths, sizes and modification times of the images, and the training size. Epochs after the
    first, later runs and other processes read it without decoding anything.

    Args:
        dataset: Gives dicts with ``image`` (3, H, W) uint8 of any size, and ``path``.
        size: Height and width of the cached images.
        workers: Processes that decode.
        folder: Where to keep the file; the user's cache by default.
    """

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        size: tuple[int, int],
        *,
        workers: int = 0,
        folder: Path | None = None,
    ) -> None:
        resized = _Resized(dataset, size)
        if len(resized) == 0:
            raise DataError("There is no image to train on: the selection is empty.")
        self.path = (folder or user_cache() / "images") / f"{_content_key(dataset, size)}.npy"
        if not self.path.is_file():
            _build_cache(self.path, resized, workers)
        mark_used(self.path)
        self.images: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        return np.array(self._open()[position])

    def _open(self) -> npt.NDArray[np.uint8]:
        # Opened on first use, so that each worker process maps the file itself.
        if self.images is None:
            self.images = np.load(self.path, mmap_mode="r")
        return self.images

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": None}


class TrainingPairs(Dataset[dict[str, torch.Tensor]]):
    """Pairs for the losses, drawn anew in every epoch.

    ``pairs[PairKey(epoch, position)]`` is a dict of ``clean`` and ``defective``, (3, H, W) uint8,
    and ``mask``, (1, H, W) float32 0/1.

    Args:
        images: (H, W, 3) uint8 images of one size, by position.
        make_defect: Draws the synthetic defect.
        seed: Seed of all draws.
    """

    def __init__(
        self, images: Dataset[npt.NDArray[np.uint8]], make_defect: DefectMaker, *, seed: int
    ) -> None:
        self.images, self.make_defect, self.seed = images, make_defect, seed

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, key: PairKey) -> dict[str, torch.Tensor]:
        epoch, position = key
        image = self.images[position]
        rng = random_stream(DEFECT_STREAM, self.seed, epoch, position)
        defective, mask = self.make_defect(image, rng)
        return {
            "clean": to_tensor(image),
            "defective": to_tensor(defective),
            "mask": torch.from_numpy(np.ascontiguousarray(mask))[None].float(),
        }


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
                batch.append(PairKey(epoch, int(orders[epoch][place])))
            yield batch

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = random_stream(ORDER_STREAM, self.seed, epoch)
        return rng.permutation(self.length)


def hold_out(
    dataset: Dataset[dict[str, Any]], ids: Sequence[str], fraction: float
) -> tuple[Subset[dict[str, Any]], Subset[dict[str, Any]]]:
    """Divide good images into those to train on and those held out for model selection.

    The choice hangs on the ids alone (a hash), so it is the same in every run and hardly changes
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


class _Resized(Dataset["npt.NDArray[np.uint8]"]):
    """The images of a dataset as (H, W, 3) uint8 arrays of one size."""

    def __init__(self, dataset: Dataset[dict[str, Any]], size: tuple[int, int]) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        image = self.dataset[position]["image"]
        return resize(image.permute(1, 2, 0).numpy(), self.size)


def _build_cache(path: Path, images: _Resized, workers: int) -> None:
    from tqdm import tqdm

    loader = DataLoader(images, batch_size=None, num_workers=workers)
    with atomic.replacing(path) as temporary:
        target = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(images), *images.size, 3)
        )
        progress = tqdm(loader, desc="decode", unit="image", total=len(images), leave=False)
        for position, image in enumerate(progress):
            target[position] = image
        target.flush()
        del target


def _content_key(dataset: Dataset[dict[str, Any]], size: tuple[int, int]) -> str:
    digest = hashlib.sha256(repr(("images", 1, size)).encode())
    for path in _paths(dataset):
        status = path.stat()
        digest.update(f"{path.resolve()}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _paths(dataset: Any) -> list[Path]:
    """Return the image files of a dataset without decoding them, where it can tell."""
    if isinstance(dataset, Subset):
        paths = _paths(dataset.dataset)
        return [paths[i] for i in dataset.indices]
    if hasattr(dataset, "index"):
        return [sample.image for sample in dataset.index]
    return [Path(dataset[i]["path"]) for i in range(len(dataset))]
