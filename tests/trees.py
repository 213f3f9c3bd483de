"""Small trees with known content, and ways to damage them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (64, 48)  # width, height


def picture(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth random picture that is always the same for one name, and unlike any other."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (18, 24, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noise = rng.integers(-6, 7, smooth.shape)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def square_mask(
    x: int = 20, y: int = 10, side: int = 8, size: tuple[int, int] = SIZE
) -> Image.Image:
    """A mask with one square region."""
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[y : y + side, x : x + side] = 255
    return Image.fromarray(pixels)


def write_tree(
    root: Path,
    *,
    category: str = "Widget",
    train: int = 6,
    good: int = 4,
    defects: dict[str, int] | None = None,
) -> Path:
    """Write one category of distinct pictures; the defective ones have a square mask."""
    folders = {"train/good": train, "test/good": good}
    folders |= {f"test/{name}": n for name, n in (defects or {"Dent": 4, "Scratch": 4}).items()}
    for folder, number in folders.items():
        for i in range(number):
            write_image(root, f"{category}/{folder}/{i:03d}")
            if folder not in ("train/good", "test/good"):
                write_mask(root, f"{category}/{folder}/{i:03d}", square_mask())
    return root


def write_image(root: Path, sample_id: str, image: Image.Image | None = None) -> Path:
    """Write an image, by default the picture of that name."""
    path = root / f"{sample_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture(sample_id)).save(path)
    return path


def write_mask(root: Path, sample_id: str, mask: Image.Image) -> Path:
    """Write the mask of a test image."""
    path = mask_path(root, sample_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)
    return path


def mask_path(root: Path, sample_id: str) -> Path:
    category, _, defect_type, stem = sample_id.split("/")
    return root / category / "ground_truth" / defect_type / f"{stem}.png"


def copy_sample(root: Path, source: str, target: str) -> None:
    """Copy an image, and its mask where it has one, under another id."""
    path = root / f"{target}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / f"{source}.png", path)
    if mask_path(root, source).exists() and "/good/" not in target:
        mask_path(root, target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(mask_path(root, source), mask_path(root, target))


def corrupt_drop_mask(root: Path, sample_id: str) -> None:
    mask_path(root, sample_id).unlink()


def corrupt_shrink_mask(root: Path, sample_id: str) -> None:
    path = mask_path(root, sample_id)
    with Image.open(path) as mask:
        smaller = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.NEAREST)
    smaller.save(path)


def corrupt_truncate(path: Path, kept: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])


def corrupt_flip_byte(path: Path, position: float = 0.5) -> None:
    """Flip one byte and keep size and modification time, as failing storage does."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= 0xFF
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture as it comes back from a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return decoded.convert(image.mode)
