"""Synthetic defects, drawn into good images.

``PaperDefects`` is the recipe of CFRG, which is DRAEM's (https://arxiv.org/abs/2108.07610): a
thresholded, rotated Perlin noise is the mask, a texture photograph blended in is the defect.

``VariedDefects`` departs from it on purpose, since real defects are not all patches of foreign
texture: several in an image or none, soft borders, changes of brightness, contrast and sharpness,
local warps.

Both take the same ``Switches``. All draws come from the generator that is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from cfrg.defects.pairs import ROTATION_STREAM, PairKey, random_stream
from cfrg.defects.shapes import (
    blob_mask,
    coarse_mask,
    line_mask,
    perlin_mask,
    perlin_noise,
    random_periods,
    region_mask,
)
from cfrg.defects.switches import Switches

if TYPE_CHECKING:
    import numpy.typing as npt

    from cfrg.images.cache import Pictures

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]
    Mask = npt.NDArray[np.bool_]

FIRST = PairKey(epoch=0, position=0)

LARGEST_BETA = 0.8
"""Of the shares that a blended image keeps."""

__all__ = ["PaperDefects", "VariedDefects"]


class _Defects:
    """What both recipes draw from.

    Args:
        textures: What patches are filled with.
        others: Good images to cut patches from.
        switches: What departs from the paper.
        seed: Of the rotations, where they repeat.
    """

    def __init__(
        self,
        textures: Pictures,
        others: Pictures = (),
        switches: Switches | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.textures, self.others, self.seed = textures, others, seed
        self.switches = switches or Switches()

    def rotation(self, key: PairKey) -> float | None:
        """Return the degrees by which Perlin noise is turned; ``None`` where they are drawn."""
        if not self.switches.repeat_rotations:
            return None
        return float(random_stream(ROTATION_STREAM, self.seed, key.place).uniform(-90, 90))

    def choose_texture(self, rng: np.random.Generator, key: PairKey) -> int:
        """Return the position of the texture to blend in."""
        if self.switches.fixed_textures:
            return key.position % len(self.textures)
        return int(rng.integers(len(self.textures)))

    def _draw_mask(
        self, rng: np.random.Generator, shape: tuple[int, int], key: PairKey, part: Mask | None
    ) -> tuple[Mask, bool]:
        """Return a mask on the part, and whether it is a line."""
        while True:
            mask, is_line = self._draw_shape(rng, shape, key)
            if part is None:
                return mask, is_line
            if (mask & part).any():
                return mask & part, is_line

    def _draw_shape(
        self, rng: np.random.Generator, shape: tuple[int, int], key: PairKey
    ) -> tuple[Mask, bool]:
        degrees = self.rotation(key)
        kind = rng.choice(SHAPES, p=SHAPE_SHARES) if self.switches.several_scales else "perlin"
        smallest = self.switches.smallest_defect
        if kind == "blob":
            return blob_mask(rng, shape, smallest=smallest), False
        if kind == "line":
            return line_mask(rng, shape, smallest=smallest), True
        if kind == "region":
            return region_mask(rng, shape), False
        draw = coarse_mask if kind == "coarse" else perlin_mask
        return draw(rng, shape, degrees=degrees), False

    def _blend_texture(self, x: Floats, rng: np.random.Generator, key: PairKey) -> Floats:
        texture = self.textures[self.choose_texture(rng, key)]
        if self.switches.augment_textures:
            patch = _recolour(_crop(texture, x.shape[:2], rng, smallest=0.3), rng)
        else:
            patch = _fit(texture, x.shape[:2])
        return _blend(patch, x, rng.uniform(0, LARGEST_BETA))

    def _paste_other(self, x: Floats, rng: np.random.Generator) -> Floats:
        height, width = x.shape[:2]
        other = _window(self.others[int(rng.integers(len(self.others)))], (height, width), rng)
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


class PaperDefects(_Defects):
    """Perlin masks filled with blended texture, as the paper has it.

    x_a = (1 − M)·x + M·((1 − β)·D + β·x) with β uniform in [0, 0.8]. Every image gets a defect: an
    empty mask is drawn again. With ``structural``, every other defect is a patch of a good image.
    """

    def __call__(
        self,
        image: Bytes,
        rng: np.random.Generator,
        key: PairKey = FIRST,
        part: Mask | None = None,
    ) -> tuple[Bytes, Bytes]:
        """Return the image with a defect, (H, W, 3) uint8, and the mask, (H, W) uint8 0/1."""
        x = _to_floats(image)
        if self.leaves_clean(rng):
            return image.copy(), np.zeros(x.shape[:2], np.uint8)
        mask, _ = self._draw_mask(rng, x.shape[:2], key, part)
        if self.switches.structural and rng.random() < 0.5:
            filling = self._paste_other(x, rng)
        else:
            filling = self._blend_texture(x, rng, key)
        return _to_bytes(np.where(mask[..., None], filling, x)), mask.astype(np.uint8)

    def leaves_clean(self, rng: np.random.Generator) -> bool:
        """Return whether an image gets no defect."""
        share = self.switches.clean_share
        return share > 0 and rng.random() < share


class VariedDefects(_Defects):
    """Defects of several kinds of appearance, up to three in an image."""

    def __call__(
        self,
        image: Bytes,
        rng: np.random.Generator,
        key: PairKey = FIRST,
        part: Mask | None = None,
    ) -> tuple[Bytes, Bytes]:
        """Return the image with defects, (H, W, 3) uint8, and the mask, (H, W) uint8 0/1."""
        x = _to_floats(image)
        mask = np.zeros(x.shape[:2], bool)
        if rng.random() >= self.switches.clean_share:
            for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
                x, where = self._add_one(x, rng, key, part)
                mask |= where
        return _to_bytes(x), mask.astype(np.uint8)

    def _add_one(
        self, x: Floats, rng: np.random.Generator, key: PairKey, part: Mask | None
    ) -> tuple[Floats, Mask]:
        mask, is_line = self._draw_mask(rng, x.shape[:2], key, part)
        kind = rng.choice(KINDS, p=KIND_SHARES if self.switches.structural else OTHER_KIND_SHARES)
        if is_line and rng.random() < 0.5:
            kind = "brightness"  # scratches and cracks are dark or bright, not textured
        weight = _soften(mask, rng)[..., None]
        if part is not None:
            weight = weight * part[..., None]
        changed: Floats = x * (1 - weight) + weight * np.clip(self._change(kind, x, rng, key), 0, 1)
        # What nobody could see is no defect: asking for it would teach to see ghosts.
        seen = cv2.blur(np.abs(changed - x).mean(2), (9, 9)) > 0.01
        return changed, mask & seen

    def _change(self, kind: str, x: Floats, rng: np.random.Generator, key: PairKey) -> Floats:
        """Return the image changed everywhere, (H, W, 3) float32, not yet clipped to [0, 1]."""
        if kind == "texture":
            return self._blend_texture(x, rng, key)
        if kind == "paste":
            return self._paste_other(x, rng)
        return CHANGES[kind](x, rng)


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
        changed: npt.NDArray[np.floating[Any]] = x + amount * 2 * mottle[..., None]
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


def fit(image: Bytes, shape: tuple[int, int]) -> Bytes:
    """Return a texture at ``shape``, (H, W, 3) uint8."""
    height, width = shape
    if image.shape[:2] == shape:
        return image
    method = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


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


def _window(image: Bytes, shape: tuple[int, int], rng: np.random.Generator) -> Bytes:
    """Return a random window of ``shape``, so that images of several sizes stay on one scale."""
    if image.shape[:2] == shape:
        return image
    top, left = (
        int(rng.integers(max(length - side, 0) + 1))
        for length, side in zip(image.shape[:2], shape, strict=True)
    )
    return image[top : top + shape[0], left : left + shape[1]]


def _fit(image: Bytes, shape: tuple[int, int]) -> Floats:
    return _to_floats(fit(image, shape))


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


SHAPES = ("perlin", "blob", "line", "region", "coarse")
SHAPE_SHARES = (0.25, 0.3, 0.2, 0.15, 0.1)
KINDS = ("texture", "paste", "brightness", "contrast", "warp")
KIND_SHARES = (0.3, 0.2, 0.3, 0.1, 0.1)
OTHER_KIND_SHARES = (0.375, 0.0, 0.375, 0.125, 0.125)  # without what is cut from good images
CHANGES: dict[str, Change] = {
    "brightness": change_brightness,
    "contrast": change_contrast,
    "warp": warp,
}
