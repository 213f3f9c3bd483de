"""What may lie under the name of an image: every format Pillow writes, pieces of them, the rest."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 48
%%EndComments
(whatever it likes) print showpage
"""


def pixels(mode: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A square on a ground, in any mode that Pillow can make of grey values."""
    values = np.zeros((size[1], size[0]), np.uint8)
    values[10:18, 20:28] = 255
    grey = Image.fromarray(values)
    if mode == "I;16":
        return Image.fromarray(values.astype(np.uint16) * 257)
    return grey.convert("RGBA").convert(mode) if mode in ("LA", "PA") else grey.convert(mode)


def encode(image: Image.Image, name: str, **options: object) -> bytes | None:
    """Return an image in a format of Pillow's; ``None`` where it cannot be written so."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            image.save(buffer, name, **options)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SystemError):
        return None
    return buffer.getvalue() or None


def everything() -> dict[str, bytes]:
    """Name → bytes."""
    Image.init()
    found: dict[str, bytes] = {}
    for name in sorted(Image.SAVE):
        for mode in ("1", "L", "P", "I;16", "F", "RGB", "RGBA", "CMYK"):
            data = encode(pixels(mode), name)
            if data is not None:
                found[f"{name.lower()}-{mode}"] = data
    for name in sorted({*Image.SAVE_ALL, "TIFF"}):
        frames = [pixels("L").rotate(angle) for angle in (0, 90, 180)]
        data = encode(frames[0], name, save_all=True, append_images=frames[1:])
        if data is not None:
            found[f"{name.lower()}-frames"] = data
    for name in ("png-L", "jpeg-RGB", "bmp-L", "tiff-L", "webp-RGB", "gif-P", "ppm-L"):
        for kept in (1, 2, 8, 20, 50, len(found[name]) * 2 // 3, len(found[name]) - 1):
            found[f"{name}-cut-{kept}"] = found[name][:kept]
    return found | foreign()


def foreign() -> dict[str, bytes]:
    """What is no image of Pillow's, or a hostile one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text")
    random = np.random.default_rng(0)
    return {
        "empty": b"",
        "zeros": bytes(500),
        "random": random.bytes(3000),
        "text": b"not an image at all",
        "html": b"<!DOCTYPE html><html><body>Quota exceeded</body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "postscript": POSTSCRIPT,
        "postscript-dos": struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, 200, 0, 0, 0, 0, 0) + POSTSCRIPT,
        "pdf-text": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer<<>>\n%%EOF",
        "wmf": struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 64, 48, 96, 0, 0) + bytes(40),
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "zip": archive.getvalue(),
        "heif": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
        "webp-head": b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(8),
        "tiff-loop": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "tiff-tags": b"II*\x00\x08\x00\x00\x00\x02\x00"
        + struct.pack("<HHII", 256, 3, 1, 9) * 2
        + bytes(4),
        "png-bomb": png_header(60_000, 60_000),
        "png-zero": png_header(0, 0),
        "gif-head": b"GIF89a" + bytes(7),
        "ppm-bomb": b"P5 99999999 99999999 255\n" + bytes(10),
        "ppm-words": b"P5 a b c\n",
        "bmp-zero": b"BM" + bytes(52),
    }


def png_header(width: int, height: int) -> bytes:
    """A PNG that is little more than its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def write_all(folder: Path, contents: dict[str, bytes], suffixes: tuple[str, ...]) -> list[Path]:
    """Write every content under every suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in contents.items():
        for suffix in suffixes:
            path = folder / f"{name}-{suffix[1:]}{suffix}".replace(";", "_")
            path.write_bytes(data)
            paths.append(path)
    return paths
