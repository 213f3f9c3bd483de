"""Synthetic defects, drawn into good images.

``PaperDefects`` is the recipe of CFRG, which is DRAEM's (https://arxiv.org/abs/2108.07610): a
thresholded, rotated Perlin noise is the mask, a texture photograph blended in is the defect.

``VariedDefects`` departs from it on purpose, since real defects are not all patches of foreign
texture: blobs down to one pixel, thin lines, large regions; cut-and-paste from other good parts,
changes of brightness, contrast and sharpness, local warps.

All draws come from the generator that is passed in.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np

from cfrg.shapes import (
    blob_mask,
    coarse_mask,
    line_mask,
    perlin_mask,
    perlin_noise,
    random_periods,
    region_mask,
)
from threecad.errors import UsageError
from threecad.images import read_image
from threecad.indexing import IMAGE_SUFFIXES
from threecad.procedural import texture

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

    from cfrg.data import DefectMaker

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

__all__ = [
    "FolderTextures",
    "PaperDefects",
    "ProceduralTextures",
    "Synthesis",
    "TextureSource",
    "VariedDefects",
    "make_defects",
]

Synthesis = Literal["paper", "varied"]


class Images(Protocol):
    """Good images by position, (H, W, 3) uint8: a list of them, or a dataset."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, position: int, /) -> Bytes:
        """Return one of them."""
        ...


class TextureSource(Protocol):
    """Where textures come from."""

    def __call__(self, rng: np.random.Generator) -> Bytes:
        """Return one texture, (H, W, 3) uint8 of any size."""
        ...


class FolderTextures:
    """The images in a folder and its sub-folders, such as DTD's ``images/``.

    Args:
        folder: The folder.

    Raises:
        UsageError: If there is no image in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        found = sorted(Path(folder).rglob("*"))
        self.files = [path for path in found if path.suffix.casefold() in IMAGE_SUFFIXES]
        if not self.files:
            raise UsageError(f"There is no texture image in {folder}. Expected images in folders.")

    def __call__(self, rng: np.random.Generator) -> Bytes:
        """Return one of them, its shorter side at most 256 pixels."""
        return _read_texture(self.files[rng.integers(len(self.files))])


class ProceduralTextures:
    """The embedded series of drawn textures, for use without any photographs."""

    COUNT = 64
    SIZE = 256

    def __call__(self, rng: np.random.Generator) -> Bytes:
        """Return one of them, 256 × 256."""
        return _draw_texture(int(rng.integers(self.COUNT)), self.SIZE)


class PaperDefects:
    """Perlin masks filled with blended texture, as the paper has it.

    x_a = (1 − M)·x + M·((1 − β)·D + β·x) with β uniform in [0, 0.8]. Every image gets a defect: an
    empty mask is drawn again.

    Args:
        textures: Where D comes from.
    """

    def __init__(self, textures: TextureSource) -> None:
        self.textures = textures

    def __call__(self, image: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Return the image with a defect, (H, W, 3) uint8, and the mask, (H, W) uint8 0/1."""
        x = _to_floats(image)
        mask = perlin_mask(rng, x.shape[:2])
        filling = _blend(_fit(self.textures(rng), x.shape[:2]), x, rng.uniform(0, 0.8))
        return _to_bytes(np.where(mask[..., None], filling, x)), mask.astype(np.uint8)


class VariedDefects:
    """Defects of many shapes and kinds, at scales from a pixel to a large part of the image.

    Args:
        textures: Where foreign textures come from.
        others: Good images to cut patches from, (H, W, 3) uint8 by position.
        clean: Share of images that are left as they are.
    """

    def __init__(self, textures: TextureSource, others: Images, *, clean: float = 0.2) -> None:
        self.textures, self.others, self.clean = textures, others, clean

    def __call__(self, image: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Return the image with defects, (H, W, 3) uint8, and the mask, (H, W) uint8 0/1."""
        x = _to_floats(image)
        mask = np.zeros(x.shape[:2], bool)
        if rng.random() >= self.clean:
            for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
                x, where = self._add_one(x, rng)
                mask |= where
        return _to_bytes(x), mask.astype(np.uint8)

    def _add_one(self, x: Floats, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
        shape = SHAPES[rng.choice(len(SHAPES), p=SHAPE_SHARES)]
        mask = shape(rng, x.shape[:2])
        change = self._changes()[rng.choice(5, p=[0.3, 0.2, 0.3, 0.1, 0.1])]
        if shape is line_mask and rng.random() < 0.5:
            change = change_brightness  # scratches and cracks are dark or bright, not textured
        weight = _soften(mask, rng)[..., None]
        changed: Floats = x * (1 - weight) + weight * np.clip(change(x, rng), 0, 1)
        # What nobody could see is no defect: asking for it would teach to see ghosts.
        seen = cv2.blur(np.abs(changed - x).mean(2), (9, 9)) > 0.01
        return changed, mask & seen

    def _changes(self) -> tuple[Change, ...]:
        return (
            self._blend_texture,
            self._paste_other,
            change_brightness,
            change_contrast,
            warp,
        )

    def _blend_texture(self, x: Floats, rng: np.random.Generator) -> Floats:
        patch = _recolour(_crop(self.textures(rng), x.shape[:2], rng, smallest=0.3), rng)
        return _blend(patch, x, rng.uniform(0, 0.8))

    def _paste_other(self, x: Floats, rng: np.random.Generator) -> Floats:
        other = self.others[int(rng.integers(len(self.others)))]
        height, width = x.shape[:2]
        if rng.random() < 0.5:
            patch = _crop(other, (height, width), rng, smallest=0.15)
        else:
            shift = (
                int(rng.integers(height // 8, height - height // 8)),
                int(rng.integers(width // 8, width - width // 8)),
            )
            patch = _fit(np.roll(other, shift, (0, 1)), (height, width))
        if rng.random() < 0.3:
            patch = patch + np.float32(rng.uniform(-0.15, 0.15))
        return _blend(patch, x, rng.uniform(0, 0.3))


def make_defects(
    kind: Synthesis,
    others: Images,
    textures: str | os.PathLike[str] | None = None,
) -> DefectMaker:
    """Return the maker of synthetic defects of one kind.

    Args:
        kind: ``"paper"`` or ``"varied"``.
        others: The good training images.
        textures: Folder of texture photographs; the embedded textures when ``None``.
    """
    source = FolderTextures(textures) if textures is not None else ProceduralTextures()
    return PaperDefects(source) if kind == "paper" else VariedDefects(source, others)


class Change(Protocol):
    """A change of appearance, over the whole image; the mask says where it shows."""

    def __call__(self, x: Floats, rng: np.random.Generator, /) -> Floats:
        """Return the changed image, (H, W, 3) float32, not yet clipped to [0, 1]."""
        ...


def change_brightness(x: Floats, rng: np.random.Generator) -> Floats:
    """Return ``x`` darker or brighter, evenly or mottled, sometimes tinted."""
    amount = np.float32(rng.choice([-1, 1], p=[0.6, 0.4]) * rng.uniform(0.04, 0.5))
    if rng.random() < 0.5:
        amount = amount * x.mean()
    if rng.random() < 0.4:
        mottle = np.abs(perlin_noise(rng, x.shape[:2], random_periods(rng, 2, 6)))
        changed = x + amount * 2 * mottle[..., None]
    else:
        changed = x + amount
    if rng.random() < 0.25:
        changed = changed + rng.uniform(-0.1, 0.1, 3)
    return np.asarray(changed, np.float32)


def change_contrast(x: Floats, rng: np.random.Generator) -> Floats:
    """Return ``x`` blurred, flattened or with more contrast."""
    blurred = cv2.GaussianBlur(x, (0, 0), rng.uniform(1, 6))
    gain = np.float32(rng.choice([0.0, rng.uniform(0, 0.6), rng.uniform(1.5, 3)]))
    return np.asarray(blurred + gain * (x - blurred), np.float32)


def warp(x: Floats, rng: np.random.Generator) -> Floats:
    """Return ``x`` bent by a smooth random displacement, as a dent bends what is seen."""
    height, width = x.shape[:2]
    strength = rng.uniform(2, 12) * max(height, width) / 128
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    for target in (columns, rows):
        target += np.float32(strength) * perlin_noise(
            rng, (height, width), random_periods(rng, 1, 4)
        )
    return np.asarray(
        cv2.remap(x, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32
    )


SHAPES = (perlin_mask, blob_mask, line_mask, region_mask, coarse_mask)
SHAPE_SHARES = (0.25, 0.3, 0.2, 0.15, 0.1)


def _blend(patch: Floats, x: Floats, beta: float) -> Floats:
    """Return (1 − β)·patch + β·x."""
    return np.asarray((1 - beta) * patch + beta * x, np.float32)


def _soften(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Return the mask as weights, with a hard or a soft border."""
    weights = mask.astype(np.float32)
    sigma = float(rng.choice([0, 0, 0.7, 1.5, 3.0]))
    if sigma:
        weights = np.asarray(cv2.GaussianBlur(weights, (0, 0), sigma), np.float32)
    return weights


def _fit(image: Bytes, shape: tuple[int, int]) -> Floats:
    height, width = shape
    if image.shape[:2] != shape:
        method = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
    return _to_floats(image)


def _crop(
    image: Bytes, shape: tuple[int, int], rng: np.random.Generator, *, smallest: float
) -> Floats:
    """Return a random square crop, flipped and turned at random, at ``shape``."""
    side = max(1, int(rng.uniform(smallest, 1) * min(image.shape[:2])))
    top = int(rng.integers(0, image.shape[0] - side + 1))
    left = int(rng.integers(0, image.shape[1] - side + 1))
    patch = image[top : top + side, left : left + side]
    patch = np.rot90(patch, int(rng.integers(4)))
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    return _fit(np.ascontiguousarray(patch), shape)


def _recolour(patch: Floats, rng: np.random.Generator) -> Floats:
    if rng.random() < 0.5:
        patch = patch * np.float32(rng.uniform(0.4, 1.3)) + np.float32(rng.uniform(-0.2, 0.2))
    if rng.random() < 0.3:
        patch = np.repeat(patch.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.15:
        patch = 1 - patch
    return patch


def _to_floats(image: Bytes) -> Floats:
    return np.asarray(image / np.float32(255), np.float32)


def _to_bytes(x: Floats) -> Bytes:
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), np.uint8)


@lru_cache(maxsize=512)
def _read_texture(path: Path) -> Bytes:
    """Return a texture, its shorter side at most 256 pixels: as fine as training needs it."""
    image = read_image(path)
    scale = 256 / min(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


@lru_cache(maxsize=64)
def _draw_texture(index: int, size: int) -> Bytes:
    return texture(index, size, seed=0)
