"""Image files as arrays, with the distrust that files from elsewhere deserve.

``open_image`` is the only door: what is read here, in cfrg too, comes through it. Pillow decides by
content, whatever a file is called, and has some forty decoders; one of them (EPS) starts
Ghostscript, others need no more than a few bytes to believe a file is theirs. So the formats are
named, the size is checked before a pixel is decoded, and all that a decoder raises becomes one
error that names the file.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from threecad.errors import ImageError, ImageSizeError
from threecad.images.damage import describe_damage
from threecad.images.depths import eight_bits, turn_bytes
from threecad.system import atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import BinaryIO

    import numpy.typing as npt

__all__ = [
    "BROKEN",
    "FORMATS",
    "MAX_PIXELS",
    "Header",
    "as_png",
    "open_image",
    "open_rgb",
    "orientation_of",
    "png_bytes",
    "read_header",
    "read_image",
    "read_size",
    "rgb_array",
    "write_png",
]

NO_FLOATS = "it holds floating-point values; save it with 8 or 16 bits a channel"

_ORIENTATION = 0x0112

MAX_PIXELS = 2**28
"""Largest image or mask decoded: 16,384 × 16,384 pixels, 1 GiB as Pillow holds its colours."""

FORMATS = tuple(
    str(plugin.format)
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)
"""Formats that are decoded, by Pillow's names: each is told by a magic number of its own, and
decoded within the process. A JPEG of several pictures (MPO) counts as JPEG."""

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged or hostile files. It has no exception of its own for them."""


@dataclass(frozen=True)
class Header:
    """What the beginning of an image file says.

    Attributes:
        height: In pixels, as they are stored.
        width: In pixels, as they are stored.
        orientation: EXIF's number, 1 (upright) to 8: how viewers turn the stored pixels.
    """

    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """``(height, width)`` of what viewers show."""
        sides = self.height, self.width
        return sides[::-1] if self.orientation >= 5 else sides


def read_header(path: str | os.PathLike[str], content: bytes | None = None) -> Header:
    """Return size and orientation of an image file; nothing is decoded.

    Args:
        path: The file.
        content: Its bytes, where ``path`` only says what to call it.

    Raises:
        ImageError: If the file is not an image, or is larger than ``MAX_PIXELS``.
    """
    with _decoding(path, content) as file:
        image = _open_header(path, file, MAX_PIXELS)
        return Header(image.height, image.width, orientation_of(image))


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation of an opened PIL image, 1 (upright) where there is none."""
    # Asking a PNG without the tag for it would decode all of it.
    if image.format != "TIFF" and not image.info.get("exif"):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:
        return 1  # a damaged tag turns nothing
    return value if value in range(1, 9) else 1


def open_rgb(
    path: str | os.PathLike[str],
    bits: int = 8,
    *,
    content: bytes | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Return an image file, decoded, as Pillow's image of mode RGB.

    Sixteen-bit images keep their top byte, or with ``bits`` the upper eight of those that are
    used; transparency is dropped; of several frames the first is taken. The orientation tag of a
    photograph is not applied, so that image and mask keep one geometry.

    Args:
        path: The file.
        bits: From 9 to 16, of a file with 16 a channel; 8 takes any file.
        content: Its bytes, where ``path`` only says what to call it.
        max_pixels: Most pixels to decode; ``MAX_PIXELS`` unless given.

    Raises:
        ImageError: If the file is not an image, is damaged, or is larger than ``MAX_PIXELS``; with
            ``bits``, if it has 8 bits a channel, or values that need more.
    """
    image = open_image(path, content, max_pixels=max_pixels)
    advice = "Save it as an 8-bit RGB PNG."
    try:
        if bits <= 8:
            return _as_rgb(image)
        advice = f"Expected 16 bits a channel, grey or RGB, of which {bits} are used."
        values = np.asarray(image).astype(np.int64)
        if not (grey := image.mode.startswith("I")):
            lower = open_image(path, content, max_pixels=max_pixels, lower_bytes=True)
            values = values << 8 | np.asarray(lower)
        pixels = eight_bits(values, bits)
        return Image.fromarray(pixels if grey else pixels[..., :3]).convert("RGB")
    except ValueError as error:
        raise _error(path, str(error), advice) from error


def read_image(
    path: str | os.PathLike[str],
    bits: int = 8,
    *,
    content: bytes | None = None,
    max_pixels: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Return an image file as (H, W, 3) uint8 RGB; arguments and errors are ``open_rgb``'s."""
    return np.array(open_rgb(path, bits, content=content, max_pixels=max_pixels))


def read_size(path: str | os.PathLike[str], content: bytes | None = None) -> tuple[int, int]:
    """Return ``(height, width)`` of an image file from its header.

    Args:
        path: The file.
        content: Its bytes, where ``path`` only says what to call it.

    Raises:
        ImageError: If the file is not an image, or is larger than ``MAX_PIXELS``.
    """
    with _decoding(path, content) as file:
        image = _open_header(path, file, MAX_PIXELS)
        return image.height, image.width


def open_image(
    path: str | os.PathLike[str],
    content: bytes | None = None,
    *,
    one_frame: bool = False,
    max_pixels: int | None = None,
    lower_bytes: bool = False,
) -> Image.Image:
    """Return an image file, decoded, as Pillow's image in the file's own mode.

    Nothing of it refers to the file any more, and none of its memory is the file's.

    Args:
        path: The file.
        content: Its bytes, where ``path`` only says what to call it.
        one_frame: Refuse a file of several frames. Otherwise the first is taken.
        max_pixels: Most pixels to decode; ``MAX_PIXELS`` unless given.
        lower_bytes: Of colours with 16 bits, in place of the upper.

    Raises:
        ImageError: If there is no such file, it has none of ``FORMATS``, is damaged, or its header
            declares more pixels (``ImageSizeError``); ``reason`` says which.
    """
    with _decoding(path, content) as file:
        image = _open_header(path, file, MAX_PIXELS if max_pixels is None else max_pixels)
        frames = getattr(image, "n_frames", 1) if one_frame else 1
        if frames > 1:
            reason = f"it has {frames} frames; expected one"
            raise _error(path, reason, "Save the one that counts as a file of its own.")
        if lower_bytes and not turn_bytes(image):
            reason = "it has 8 bits a channel, grey with transparency, or planes"
            raise _error(path, reason, "Save it as the camera gives it, as PNG or TIFF.")
        image.load()
    return image


@contextmanager
def _decoding(path: str | os.PathLike[str], content: bytes | None) -> Iterator[BinaryIO]:
    """Hand out the file; all that Pillow raises meanwhile becomes an ``ImageError``."""
    token = _ours.set(True)
    _decode_no_half_images()
    try:
        with _open_file(path) if content is None else io.BytesIO(content) as file:
            try:
                yield file
            except BROKEN as error:
                advice = "It may be damaged or cut off: get it again, or run `threecad verify` on "
                advice += "the tree."
                if isinstance(error, UnidentifiedImageError):
                    advice = f"Expected {', '.join(FORMATS)}: save it as one of them."
                raise _error(path, describe_damage(file, error), advice) from error
    finally:
        _ours.reset(token)


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file ourselves: given a path, Pillow maps some formats into memory.

    Mapped pixels change with the file, and where it is cut short meanwhile the process is killed.
    """
    try:
        where = Path(path)
        if not stat.S_ISREG(where.stat().st_mode):  # a pipe would be waited for
            raise _error(path, "it is no file", "Check the path.")
        return where.open("rb")
    except FileNotFoundError as error:
        message = f"There is no image {Path(path)}. Check the path."
        raise ImageError(message, reason="there is no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _error(path, reason, "Check the path and its permissions.") from error


def _open_header(
    path: str | os.PathLike[str], file: BinaryIO, max_pixels: int
) -> ImageFile.ImageFile:
    """Do as ``Image.open`` with ``FORMATS``, but by our limit of pixels instead of Pillow's."""
    head = file.read(16)
    file.seek(0)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and len(head) > 1 and accept(head) is True:
            break
    else:
        raise UnidentifiedImageError
    image = factory(file, "")
    if image.width * image.height > max_pixels:
        size = f"{image.width} × {image.height} pixels"
        reason = f"it declares {size}, more than the {max_pixels:,} that are allowed"
        raise _error(path, reason, "Crop or scale it first.", ImageSizeError)
    return image


def _error(
    path: str | os.PathLike[str], reason: str, advice: str, kind: type[ImageError] = ImageError
) -> ImageError:
    return kind(f"{Path(path)} cannot be read as an image: {reason}. {advice}", reason=reason)


_ours: ContextVar[bool] = ContextVar("decoding for threecad", default=False)


def _leave_our_images_to_our_limit() -> None:
    """Keep Pillow's own limit, a global that any library may change, from images opened here.

    Some of its decoders check it themselves, with an error or a warning. For everyone else it stays
    what it is: the context says whose image is being decoded.
    """
    check: Any = Image._decompression_bomb_check

    def check_others(*args: Any, **kwargs: Any) -> None:
        if not _ours.get():
            check(*args, **kwargs)

    Image._decompression_bomb_check = check_others


_leave_our_images_to_our_limit()


class _ForOthers(int):
    """A setting of Pillow's that is off for images opened here, and for all others as it was."""

    def __bool__(self) -> bool:
        return self != 0 and not _ours.get()


def _decode_no_half_images() -> None:
    """Keep ``LOAD_TRUNCATED_IMAGES``, which some libraries set for all, from images opened here.

    With it, Pillow fills what a file lacks with grey or black, which here would be a defect.
    """
    settings: Any = ImageFile
    now = settings.LOAD_TRUNCATED_IMAGES
    if now and not isinstance(now, _ForOthers):
        settings.LOAD_TRUNCATED_IMAGES = _ForOthers(now)


def rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return a PIL image as (H, W, 3) uint8 RGB, as ``read_image`` does; decodes it if need be.

    Raises:
        ValueError: If it holds floating-point values, whose range nobody knows.
    """
    return np.array(_as_rgb(image))


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError(NO_FLOATS)
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def as_png(image: Image.Image) -> bytes:
    """Return an image as a PNG file in memory, 32-bit integers with 16 bits.

    Raises:
        OSError: If PNG has no such mode.
    """
    if image.mode == "I":
        image = Image.fromarray(np.clip(np.asarray(image), 0, 65535).astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return (H, W) grey or (H, W, 3) RGB uint8 pixels as a PNG file in memory."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], pixels: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) grey or (H, W, 3) RGB uint8 pixels as PNG, atomically."""
    atomic.write_bytes(path, png_bytes(pixels))
