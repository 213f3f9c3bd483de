"""Images on their way to the network: read, and on the canvas that tiles are cut from."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from cfrg.images.appearance import describe
from cfrg.network import processing
from threecad.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch
    from PIL import Image

    from cfrg.images.appearance import Appearance
    from cfrg.images.tiling import Tiling

__all__ = ["READERS", "Prepared", "PreparedFiles", "prepare"]

READERS = min(4, os.cpu_count() or 1)
"""Threads that read files. Each holds a whole image; more of them are processes (``workers``)."""


class Prepared(NamedTuple):
    """An image on its way to the network.

    Attributes:
        id: Its id.
        canvas: (3, h, w) uint8, what tiles are cut from (``Tiling``); ``None`` if it is broken.
        size: Height and width of the image; (0, 0) if it is broken.
        seconds: Time to read and resize it.
        error: Why there is no canvas.
        appearance: What the image looks like; ``None`` if it is broken or drawn.
    """

    id: str
    canvas: torch.Tensor | None
    size: tuple[int, int]
    seconds: float
    error: str | None = None
    appearance: Appearance | None = None


class PreparedFiles(Dataset[Prepared]):
    """Files as the network needs them; a broken one gives its error instead."""

    def __init__(self, files: Sequence[tuple[str, Path]], tiling: Tiling) -> None:
        self.files, self.tiling = files, tiling

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Prepared:
        name, path = self.files[position]
        return prepare(name, partial(self.tiling.open, path), self.tiling)


def prepare(
    name: str, read: Callable[[], npt.NDArray[np.uint8] | Image.Image], tiling: Tiling
) -> Prepared:
    """Return an image on its canvas, or why there is none.

    Args:
        name: Its id.
        read: Gives it, (H, W, 3) uint8 or as ``Tiling.open`` does.
        tiling: Knows the canvas.
    """
    begun = time.perf_counter()
    try:
        image = read()
        canvas = processing.to_tensor(tiling.place(image))
        pixels = np.asarray(image)
        size = (pixels.shape[0], pixels.shape[1])
        appearance = describe(pixels)
    except (ImageError, UsageError) as error:
        return Prepared(name, None, (0, 0), time.perf_counter() - begun, str(error))
    except MemoryError:
        reason = f"There is not enough memory to read {name}."
        return Prepared(name, None, (0, 0), time.perf_counter() - begun, reason)
    seconds = time.perf_counter() - begun
    return Prepared(name, canvas, size, seconds, appearance=appearance)
