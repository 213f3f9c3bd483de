"""The paper's synthetic defects, drawn a batch at a time on the device that trains.

``PaperDefects`` draws in data workers, image by image. Here the few random numbers of a defect
(lattice, rotation, texture, β) come from the same streams in the same order, on the host, and all
that is done per pixel is done on the device. So the pairs are the same up to rounding: see
``DeviceDefects``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cfrg.defects.pairs import PairKey, TrainingPairs
from cfrg.defects.recipes import LARGEST_BETA, PaperDefects, fit
from cfrg.defects.shapes import PERLIN_EXPONENTS, PERLIN_THRESHOLD, draw_angles, random_periods
from cfrg.images.workers import read_in_workers
from cfrg.network.processing import to_tensor
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.images.cache import Pictures

__all__ = ["CleanImages", "DeviceDefects", "defects_on_device"]

LARGEST_STACK = 2 * 2**30
"""Bytes of textures that are kept on a device; with more, data workers draw the defects."""

OTHER_SWITCHES = ("structural", "several_scales", "augment_textures")


def defects_on_device(
    pairs: TrainingPairs,
    device: torch.device,
    *,
    where: Literal["auto", "device", "workers"] = "auto",
    workers: int = 0,
) -> DeviceDefects | None:
    """Return what draws the defects on the device, or ``None`` where data workers shall.

    Args:
        pairs: The pairs to draw.
        device: Where training computes.
        where: ``auto`` is the device if it is a CUDA one and can draw these pairs.
        workers: Processes that read the images.

    Raises:
        UsageError: If ``where`` is the device and these pairs cannot be drawn there.
    """
    if where == "workers" or (where == "auto" and device.type != "cuda"):
        return None
    if obstacle := _find_obstacle(pairs):
        if where == "device":
            raise UsageError(
                f"draw_defects_on is 'device', but {obstacle}. Use 'auto' or 'workers'."
            )
        return None
    return DeviceDefects(pairs, device, workers=workers)


class CleanImages(Dataset[dict[str, Tensor]]):
    """Pairs of which only ``clean`` is there, with their ``key``, (3,) int64."""

    def __init__(self, pairs: TrainingPairs) -> None:
        self.pairs = pairs

    def __getitem__(self, key: PairKey) -> dict[str, Tensor]:
        image, _ = self.pairs.view(key)
        return {"clean": to_tensor(image), "key": torch.tensor(key)}


class DeviceDefects:
    """``PaperDefects`` for whole batches, on one device.

    Pairs are those of ``TrainingPairs`` up to rounding: fewer than one in a thousand pixels of the
    masks differ, those at their borders; elsewhere images differ by one grey level at most. Where
    it depends on a single such pixel whether a mask is empty and drawn again, the mask is another
    one.

    Args:
        pairs: Drawn by ``PaperDefects``, anywhere in the image; of its switches, ``clean_share``,
            ``fixed_textures`` and ``repeat_rotations`` may be on.
        device: Where to draw. The textures are kept there, at the size of the images.
        workers: Processes that read the textures.
    """

    def __init__(self, pairs: TrainingPairs, device: torch.device, *, workers: int = 0) -> None:
        self.pairs, self.recipe = pairs, cast("PaperDefects", pairs.make_defect)
        shape = _image_shape(pairs)
        textures = _FittedTextures(self.recipe.textures, shape)
        read = read_in_workers(textures, workers, batch_size=None)
        self.textures = torch.empty((len(textures), 3, *shape), dtype=torch.uint8, device=device)
        progress = tqdm(read, "read textures", len(textures), unit="image", leave=False)
        for i, texture in enumerate(progress):
            self.textures[i] = texture

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with defects, (N, 3, H, W) uint8, and the masks, (N, 1, H, W) float32.

        Args:
            images: (N, 3, H, W) uint8 on the device.
            keys: (N, 3) int64, the fields of their ``PairKey``, on the host.
        """
        pair_keys = [PairKey(*key) for key in keys.tolist()]
        streams = [self.pairs.stream(key) for key in pair_keys]
        chosen = [i for i, rng in enumerate(streams) if not self.recipe.leaves_clean(rng)]
        masks = self._draw_masks(images, chosen, streams, pair_keys)
        textures, betas = [0] * len(images), [0.0] * len(images)
        for i in chosen:
            textures[i] = self.recipe.choose_texture(streams[i], pair_keys[i])
            betas[i] = streams[i].uniform(0, LARGEST_BETA)
        shares = torch.tensor([[1 - beta, beta] for beta in betas]).to(images.device)
        of_texture, of_image = shares.view(-1, 2, 1, 1, 1).unbind(1)
        filling = of_texture * (self.textures[textures] / 255) + of_image * (images / 255)
        defective = torch.where(masks, (filling * 255).round().byte(), images)
        return defective, masks.float()

    def _draw_masks(
        self,
        images: Tensor,
        chosen: list[int],
        streams: list[np.random.Generator],
        keys: list[PairKey],
    ) -> Tensor:
        """Return the masks, (N, 1, H, W) bool; none of the chosen is empty, all others are."""
        masks = torch.zeros_like(images[:, :1], dtype=torch.bool)
        while chosen:
            drawn = self._perlin_masks(
                [streams[i] for i in chosen], [keys[i] for i in chosen], masks.shape[2:]
            )
            masks[chosen, 0] = drawn
            seen = drawn.flatten(1).any(1).tolist()
            chosen = [i for i, visible in zip(chosen, seen, strict=True) if not visible]
        return masks

    def _perlin_masks(
        self, streams: list[np.random.Generator], keys: list[PairKey], shape: Sequence[int]
    ) -> Tensor:
        """Return one mask for each stream, (N, H, W) bool; empty ones are possible."""
        side = 2 ** (PERLIN_EXPONENTS[1] - 1) + 1
        angles = np.zeros((len(streams), side, side), np.float32)
        periods, degrees = [], []
        for lattice, rng, key in zip(angles, streams, keys, strict=True):
            rows, columns = random_periods(rng, *PERLIN_EXPONENTS)
            lattice[: rows + 1, : columns + 1] = draw_angles(rng, (rows, columns))
            rotation = self.recipe.rotation(key)
            periods.append((rows, columns))
            degrees.append(rng.uniform(-90, 90) if rotation is None else rotation)
        device = self.textures.device
        noise = _perlin_noise(
            torch.from_numpy(angles).to(device), torch.tensor(periods).to(device), shape
        )
        return _rotate(noise, degrees) > PERLIN_THRESHOLD


def _perlin_noise(angles: Tensor, periods: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the noise of several lattices, (N, H, W) float32.

    Args:
        angles: (N, L, L) float32, the directions of the gradients; each lattice uses as many rows
            and columns as it has.
        periods: (N, 2) int64, cells along the height and the width.
        shape: Height and width.
    """
    (y, row), (x, column) = (
        _places(cells, length, angles.device)
        for cells, length in zip(periods.T, shape, strict=True)
    )
    in_y, in_x = (y - row)[:, :, None], (x - column)[:, None]
    gradients_y, gradients_x = angles.sin(), angles.cos()
    sample = torch.arange(len(angles), device=angles.device)[:, None, None]

    def corner(down: int, right: int) -> Tensor:
        at = sample, (row + down)[:, :, None], (column + right)[:, None]
        return gradients_x[at] * (in_x - right) + gradients_y[at] * (in_y - down)

    fade_y, fade_x = _fade(in_y), _fade(in_x)
    top = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    bottom = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    return math.sqrt(2) * (top * (1 - fade_y) + bottom * fade_y)


def _places(cells: Tensor, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where pixels lie in lattice cells, and the points before them, both (N, length)."""
    places = torch.arange(length, device=device) * (cells[:, None] / length)
    return places, places.long()


def _fade(t: Tensor) -> Tensor:
    """Perlin's smooth step, 6t⁵ − 15t⁴ + 10t³."""
    return t * t * t * (t * (t * 6 - 15) + 10)


def _rotate(noise: Tensor, degrees: Sequence[float]) -> Tensor:
    """Return (N, H, W) noise turned about its centre, 0 where it comes from outside."""
    height, width = noise.shape[1:]
    turns = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in degrees]
    cosine, sine = torch.tensor(turns).to(noise.device).view(-1, 2, 1, 1).unbind(1)
    y = (torch.arange(height, device=noise.device) - (height - 1) / 2)[:, None]
    x = torch.arange(width, device=noise.device) - (width - 1) / 2
    from_x = (cosine * x - sine * y) * (2 / (width - 1))
    from_y = (sine * x + cosine * y) * (2 / (height - 1))
    grid = torch.stack((from_x, from_y), dim=-1)
    return F.grid_sample(noise[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]


class _FittedTextures(Dataset[Tensor]):
    """Textures at the size of the images, (3, H, W) uint8."""

    def __init__(self, textures: Pictures, shape: tuple[int, int]) -> None:
        self.textures, self.shape = textures, shape

    def __len__(self) -> int:
        return len(self.textures)

    def __getitem__(self, position: int) -> Tensor:
        return to_tensor(fit(self.textures[position], self.shape))


def _find_obstacle(pairs: TrainingPairs) -> str | None:
    """Return why the defects of these pairs cannot be drawn on a device."""
    recipe = pairs.make_defect
    if type(recipe) is not PaperDefects:
        return "only the recipe of the paper (synthesis=paper) is drawn there"
    if switches := [name for name in OTHER_SWITCHES if getattr(recipe.switches, name)]:
        return f"{switches[0]} is not drawn there"
    if pairs.parts is not None:
        return "foreground is not drawn there"
    count, (height, width) = len(recipe.textures), _image_shape(pairs)
    if (size := count * 3 * height * width) > LARGEST_STACK:
        return (
            f"{count} textures of {height} × {width} pixels take {size / 2**30:.1f} GiB there, "
            f"more than {LARGEST_STACK / 2**30:g}"
        )
    return None


def _image_shape(pairs: TrainingPairs) -> tuple[int, int]:
    height, width = pairs.crop or pairs.images[0].shape[:2]
    return int(height), int(width)
