"""A tree with everything that conversions get wrong, and the comparison of two trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad import scan
from threecad.images.masks import read_mask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def hard_masks() -> dict[str, NDArray[np.uint8]]:
    """Masks of 40 x 50 pixels, by what is hard about them."""
    masks = {
        name: np.zeros((40, 50), np.uint8)
        for name in ("hole", "parts", "pixels", "island", "border", "diagonal", "full", "labels")
    }
    masks["hole"][5:25, 5:30] = 255
    masks["hole"][10:15, 10:20] = 0
    masks["parts"][2:6, 2:9] = 255
    masks["parts"][20:33, 30:31] = 255
    masks["pixels"][[0, 0, 39, 39, 20], [0, 49, 0, 49, 25]] = 255
    masks["island"][5:30, 5:30] = 255
    masks["island"][8:27, 8:27] = 0
    masks["island"][15:18, 15:18] = 255
    masks["border"][:, :3] = 255
    masks["border"][-1, :] = 255
    masks["diagonal"][range(40), range(40)] = 255
    masks["full"][:] = 255
    masks["labels"][3:9, 3:9] = 1
    masks["labels"][20:30, 20:30] = 2
    return masks


def write_hard_tree(root: Path) -> Path:
    """Write two categories with hard masks, odd names and several image formats."""
    random = np.random.default_rng(0)

    def image(path: Path, height: int = 40, width: int = 50) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)

    for category in ("Aluminum_Ipad", "Iron_Stator"):
        for stem in ("1", "2", "10"):
            image(root / category / "train" / "good" / f"{stem}.png", 40, 50)
            image(root / category / "test" / "good" / f"{stem}.png", 33, 64)
    types = ["scratch", "scratch", "scratch", "dent", "dent", "Multiple-defects", "stain", "stain"]
    for number, (defect_type, (name, mask)) in enumerate(
        zip(types, hard_masks().items(), strict=True)
    ):
        folder = root / "Aluminum_Ipad"
        suffix = (".png", ".PNG", ".bmp")[number % 3]
        image(folder / "test" / defect_type / f"{name}{suffix}")
        target = folder / "ground_truth" / defect_type / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    # The same stems again elsewhere, one of them with a dot and a space.
    for stem in ("1", "10", "a.b c"):
        image(root / "Iron_Stator" / "test" / "dent" / f"{stem}.png")
        target = root / "Iron_Stator" / "ground_truth" / "dent" / f"{stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(hard_masks()["parts"]).convert("RGB").save(target)
    return root


def content(root: Path) -> dict[str, tuple[bytes, str, bytes | None]]:
    """Return the pixels of every image, its mode and its mask as 0 and 1, by sample id."""
    found = {}
    for sample in scan(root):
        with Image.open(sample.image) as image:
            pixels, mode = image.tobytes(), f"{image.mode} {image.size}"
        mask = read_mask(sample.mask).tobytes() if sample.mask else None
        found[sample.id] = (pixels, mode, mask)
    return found
