"""Good images at training size, decoded once into a memory-mapped file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from cfrg.images.foregrounds import find_part
from cfrg.images.tiling import Tiling
from cfrg.images.workers import read_in_workers
from threecad.errors import DataError, ImageError
from threecad.system import atomic
from threecad.system.caching import hold, mark_used
from threecad.system.locations import user_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Sized

    import numpy.typing as npt
    import torch

    Bytes = npt.NDArray[np.uint8]

__all__ = ["ImageCache", "Pictures", "join_errors"]

VERSION = 2
"""Of the file's format and of what is in it."""

MOST_NAMED = 10
"""Bad images that an error names; of more it says how many."""


class ImageCache(Dataset["npt.NDArray[np.uint8]"]):
    """The images of a dataset at training size, (H, W, 3) uint8 by position.

    They are decoded once. The file lies in the user's cache folder and is named by the content it
    was made from: the paths, sizes and modification times of the images, and the training size.
    Epochs after the first, later runs and other processes read it without decoding anything. As
    long as it is open here, nobody who keeps to ``threecad.system.caching`` removes it; where
    somebody has removed it all the same, it is made again.

    Args:
        dataset: Gives dicts with the ``path`` of each image. Files are read as they are, whatever
            transform the dataset has.
        size: Height and width of the cached images; or a tiling, whose canvases are cached.
        workers: Processes that decode.
        folder: Where to keep the file; the user's cache by default.

    Raises:
        DataError: If there is no image.
        ImageError: If images cannot be read; all are tried, and the first ten are named.
    """

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        size: tuple[int, int] | Tiling,
        *,
        workers: int = 0,
        folder: Path | None = None,
    ) -> None:
        self.tiling = size if isinstance(size, Tiling) else Tiling(size)
        files = _paths(dataset)
        resized = _Resized(files, self.tiling)
        if len(resized) == 0:
            raise DataError("There is no image to train on: the selection is empty.")
        path = (folder or user_cache() / "images") / f"{_content_key(files, self.tiling)}.arrays"
        self.workers, self.path = workers, path
        self._arrays = _ArrayFile(path, resized, workers, "decode")

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, position: int) -> Bytes:
        return np.array(self._arrays[position])

    def tiles(self) -> Iterator[torch.Tensor]:
        """Yield what the network sees of every image, (3, H, W) uint8: all of it, or its tiles."""
        import torch

        for position in range(len(self)):
            canvas = torch.from_numpy(self[position]).permute(2, 0, 1)
            yield from self.tiling.cut(canvas) if self.tiling.tile else (canvas,)

    def parts(self) -> Pictures:
        """Return where the part is in each image, (H, W) uint8 0/1; see ``find_part``."""
        path = self.path.with_name(f"{self.path.stem}-parts-1.arrays")
        return _ArrayFile(path, _Parts(self), self.workers, "find parts")


class _ArrayFile(Dataset["npt.NDArray[np.uint8]"]):
    """uint8 arrays of any shapes, computed once into a memory-mapped file.

    The file is the arrays one after the other, then their shapes, then number and rank, int64.
    """

    def __init__(self, path: Path, source: Dataset[Any], workers: int, what: str) -> None:
        self.path, self._source, self._workers, self._what = path, source, workers, what
        self._opened: tuple[Bytes, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        self._open()
        mark_used(path)

    def __len__(self) -> int:
        return len(self._open()[1])

    def __getitem__(self, position: int) -> Bytes:
        pixels, shapes, ends = self._open()
        if not 0 <= position < len(shapes):
            raise IndexError(f"There is no image {position} among {len(shapes)}.")
        shape, end = shapes[position], ends[position]
        return np.asarray(pixels[end - shape.prod() : end].reshape(shape), np.uint8)

    def _open(self) -> tuple[Bytes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        # A worker process that does not inherit the mapping maps the file itself.
        if self._opened is None:
            content = self._map()
            count, rank = np.frombuffer(content[-16:].tobytes(), np.int64)
            sizes = np.frombuffer(content[-16 - 8 * count * rank : -16].tobytes(), np.int64)
            shapes = sizes.reshape(count, rank)
            self._opened = content, shapes, shapes.prod(1).cumsum()
        return self._opened

    def _map(self) -> Bytes:
        while True:
            try:
                with self.path.open("rb") as file:
                    hold(file)  # until the mapping goes, which has the file open as well
                    return np.memmap(file, np.uint8, mode="r")
            except FileNotFoundError:
                _write_arrays(self.path, self._source, self._workers, self._what)

    def __getstate__(self) -> dict[str, Any]:
        # A worker has no workers.
        return {**self.__dict__, "_opened": None, "_workers": 0}


class _Resized(Dataset["npt.NDArray[np.uint8] | str"]):
    """Image files as (H, W, 3) uint8 arrays at training size, or what is wrong with them."""

    def __init__(self, files: list[Path], tiling: Tiling) -> None:
        self.files, self.tiling = files, tiling

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Bytes | str:
        try:
            return self.tiling.place(self.tiling.open(self.files[position]))
        except ImageError as error:
            return str(error)


class _Parts(Dataset["npt.NDArray[np.uint8]"]):
    """Where the part is in each image, (H, W) uint8 0/1."""

    def __init__(self, images: ImageCache) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Bytes:
        return find_part(self.images[position]).astype(np.uint8)


def _write_arrays(path: Path, source: Dataset[Any], workers: int, what: str) -> None:
    arrays = read_in_workers(source, workers, batch_size=None)
    shapes, bad = [], []
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        for array in tqdm(arrays, what, len(cast("Sized", source)), unit="image", leave=False):
            if isinstance(array, str):
                bad.append(array)
                continue
            file.write(np.ascontiguousarray(array).data)
            shapes.append(array.shape)
        if bad:
            raise ImageError(join_errors(bad))
        file.write(np.array(shapes, np.int64).tobytes())
        file.write(np.array([len(shapes), len(shapes[0])], np.int64).tobytes())


def join_errors(messages: Sequence[str]) -> str:
    """Return one message for what is wrong with several images, a line for each of the first."""
    if len(messages) == 1:
        return messages[0]
    lines = [f"{len(messages)} images cannot be used:", *messages[:MOST_NAMED]]
    if len(messages) > MOST_NAMED:
        lines.append(f"… and {len(messages) - MOST_NAMED} more.")
    return "\n".join(lines)


def _content_key(files: list[Path], tiling: Tiling) -> str:
    made = ("images", VERSION, tiling.image_size, tiling.tile)
    deep = (tiling.bits,) if tiling.bits > 8 else ()
    digest = hashlib.sha256(repr((*made, *deep)).encode())
    for path in files:
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


class Pictures(Protocol):
    """Images by position, (H, W, 3) uint8: a list of them, a dataset, a series of textures."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, position: int, /) -> Bytes:
        """Return one of them."""
        ...
