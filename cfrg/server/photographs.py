"""Images as they come over the network: bytes nobody here has seen before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfrg.images.appearance import describe
from cfrg.images.frames import to_rgb
from cfrg.inference.predictor import Predictor, Prepared
from cfrg.network import processing
from cfrg.server.refusals import RefusedError
from threecad.errors import ImageError, ImageSizeError, UsageError
from threecad.images.files import open_image, read_image, read_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Photograph"]


@dataclass(frozen=True)
class Photograph:
    """An image that was sent.

    Attributes:
        id: What it is called.
        content: The bytes of a file, or pixels (H, W, 3) uint8 RGB.
    """

    id: str
    content: bytes | npt.NDArray[np.uint8]

    def check_size(self, max_pixels: int) -> None:
        """Refuse an image that declares too many pixels; nothing is decoded.

        A file that is no image passes: reading it says so.

        Raises:
            RefusedError: 413.
        """
        try:
            if isinstance(self.content, bytes):
                height, width = read_size("image", self.content)
            else:
                height, width = self.content.shape[:2]
        except ImageSizeError as error:
            raise RefusedError(413, f"{self.id}: {error.reason}.") from None
        except ImageError:
            return
        if height * width > max_pixels:
            raise RefusedError(
                413,
                f"{self.id} has {width} × {height} pixels; this server takes images of up to "
                f"{max_pixels:,}.",
            )

    def prepare(self, predictor: Predictor, max_pixels: int) -> Prepared:
        """Return the image on its way to the network, or why it is not."""
        begun = time.perf_counter()
        try:
            image = self._decode(predictor.tiling.bits, max_pixels)
            canvas = processing.to_tensor(predictor.prepare(image))
        except (ImageError, UsageError) as error:
            said = getattr(error, "reason", str(error))
            reason = f"The image cannot be used: {said.rstrip('.')}."
            return Prepared(self.id, None, (0, 0), time.perf_counter() - begun, reason)
        except MemoryError:
            reason = "There is not enough memory to read the image."
            return Prepared(self.id, None, (0, 0), time.perf_counter() - begun, reason)
        size, seconds = (image.shape[0], image.shape[1]), time.perf_counter() - begun
        return Prepared(self.id, canvas, size, seconds, appearance=describe(image))

    def _decode(self, bits: int, max_pixels: int) -> npt.NDArray[np.uint8]:
        """Return (H, W, 3) uint8, as the predictor takes what is in memory."""
        pixels: Any = self.content
        if isinstance(pixels, bytes):
            if bits > 8:
                return read_image("image", bits, content=pixels, max_pixels=max_pixels)
            pixels = open_image("image", pixels, max_pixels=max_pixels)
        return to_rgb(pixels, bits)
