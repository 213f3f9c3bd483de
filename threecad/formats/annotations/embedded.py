"""Images that stand inside the JSON file that describes them, as base64."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from threecad.errors import ConversionError
from threecad.formats.contents import File
from threecad.formats.reading.documents import parse_json
from threecad.images.files import open_image, read_size

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

__all__ = ["EmbeddedImage"]

_SUFFIXES = {"BMP": ".bmp", "JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"}


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in the field ``key`` of a JSON file.

    Attributes:
        file: The JSON file.
        key: Name of the field.
        suffix: Suffix of the image's format, with its dot.
        length: Number of bytes of the image.
        digest: SHA-256 of these bytes.
    """

    file: Path
    key: str
    suffix: str
    length: int
    digest: str

    @classmethod
    def of(cls, file: Path, key: str, text: str) -> EmbeddedImage:
        """Return the image that ``text``, the content of the field, encodes.

        Raises:
            ConversionError: If it is no base64, or of an image in a format that trees do not hold.
            ImageError: If it is no image.
        """
        try:
            data = base64.b64decode("".join(text.split()), validate=True)
        except ValueError as error:
            raise ConversionError(f"{file}, {key} is no base64: {error}. Get it again.") from None
        form = str(open_image(f"{file}, {key}", data).format)
        if form not in _SUFFIXES:
            known = ", ".join(_SUFFIXES)
            raise ConversionError(f"{file}, {key} is an image in {form}; expected {known}.")
        return cls(file, key, _SUFFIXES[form], len(data), hashlib.sha256(data).hexdigest())

    def read_bytes(self) -> bytes:
        """Return the bytes of the image."""
        text = parse_json(self.file.read_bytes(), self.file)[self.key]
        return base64.b64decode("".join(text.split()))

    def read_size(self) -> tuple[int, int]:
        """Return ``(height, width)`` from the header."""
        return read_size(str(self), self.read_bytes())

    def open(self) -> Image.Image:
        """Return the decoded image."""
        return open_image(str(self), self.read_bytes())

    def stamp(self) -> str:
        """Return the stamp of the file and the digest of the image."""
        return f"{File(self.file).stamp()}|{self.digest}"

    def __str__(self) -> str:
        """Return file and field."""
        return f"{self.file}, {self.key}"
