"""The way from an image to a decision: all that happens round the network, in this place alone.

    resize      image (H, W, 3) uint8 → (h, w, 3) uint8   to the size the network sees
    normalize   pixels (N, 3, h, w) uint8 → float32       what the network is given
    smooth      raw maps (N, 1, h, w) → maps              what the network answers
    finish      maps of whole images → maps, scores       once tiles are blended
    decide      scores → defective or not

Predictor, model, memory, validation, calibration, page, exported graph, its parity check and the
times of ``cfrg bench`` all call these through the module (``processing.finish(…)``), so **a step is
added by a line in one of these functions**, and its setting is a field of ``CFRGConfig``: the
region of interest, or another scale of the maps, in ``finish``; a rule for the score in
``score_maps``; a border round the image in ``resize``. What is done to the image has its
counterpart in ``cfrg.export.graph.Preprocessing``, in operations of the runtimes; without it, or
with another one, the parity check refuses the export.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfrg.network.interest import look_inside
from threecad.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from cfrg.network.config import CFRGConfig

__all__ = [
    "decide",
    "finish",
    "normalize",
    "prepare",
    "resize",
    "score_maps",
    "smooth",
    "smooth_maps",
    "to_tensor",
]

TRUNCATE = 4.0  # the kernel ends at this many standard deviations


def prepare(image: npt.NDArray[np.uint8], config: CFRGConfig) -> Tensor:
    """Return a whole image (H, W, 3) uint8 as the network's input, (1, 3, h, w) float32.

    Raises:
        ImageError: If ``image`` is not (H, W, 3) uint8.
    """
    return normalize(to_tensor(resize(image, config.image_size))[None], config)


def resize(
    image: npt.NDArray[np.uint8] | Image.Image, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Return an image scaled to ``size`` (height, width), (H, W, 3) uint8.

    Antialiased bilinear on eight-bit values, as Pillow does it.

    Args:
        image: (H, W, 3) uint8, or Pillow's of mode RGB, which saves a copy or two.
        size: Height and width of the result.

    Raises:
        ImageError: If an array is not (H, W, 3) uint8.
    """
    if isinstance(image, Image.Image):
        return np.array(image.resize(size[::-1], Image.Resampling.BILINEAR))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(
            f"An image of shape {image.shape} and type {image.dtype} cannot be used. "
            "Expected (height, width, 3), uint8, RGB."
        )
    height, width = size
    if image.shape[:2] == tuple(size):
        return image
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(scaled)


def to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """Return an image (H, W, 3) uint8 as a tensor (3, H, W) uint8, always a copy.

    Cameras write the next frame into the memory of the last one.
    """
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def normalize(images: Tensor, config: CFRGConfig) -> Tensor:
    """Return uint8 images (N, 3, H, W) as the network's input, float32: (x / 255 − mean) / std."""
    mean = torch.tensor(config.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def smooth(raw: Tensor, config: CFRGConfig) -> Tensor:
    """Return the network's answer (N, 1, h, w), of whole images or of tiles, as anomaly maps."""
    return smooth_maps(raw, config.smoothing_sigma)


def finish(maps: Tensor, config: CFRGConfig) -> tuple[Tensor, Tensor]:
    """Return the anomaly maps of whole images, and their scores.

    What lies outside the region of interest, if there is one, is below all that lies inside, and
    takes no part in the score.

    Args:
        maps: ``(N, 1, H, W)`` float32, smoothed; those of tiles are blended before.
        config: Of the network.

    Returns:
        Maps ``(N, 1, H, W)`` and image scores ``(N,)``, float32, higher = more anomalous.
    """
    share = 1.0
    if config.region:
        maps, share = look_inside(maps, config.region)
    return maps, score_maps(maps, share * config.score_fraction)


@overload
def decide(scores: float, threshold: float) -> bool: ...
@overload
def decide(scores: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.bool_]: ...
@overload
def decide(scores: Tensor, threshold: float) -> Tensor: ...
def decide(scores: Any, threshold: float) -> Any:
    """Return whether images with these scores are defective: a score on the threshold is good."""
    return scores > threshold


def smooth_maps(maps: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian, as ``scipy.ndimage.gaussian_filter`` does it.

    At the border the image is mirrored, edge pixel repeated. Each axis is one product with a
    constant matrix that holds kernel and border rule, so that the same lines run on any device and
    in an exported graph. Radius ``int(4σ + 0.5)``, 16 for σ = 4.

    Args:
        maps: ``(..., H, W)`` float.
        sigma: Standard deviation in pixels; 0 returns the maps as they are.

    Returns:
        Smoothed maps of the same shape and dtype.
    """
    if sigma == 0:
        return maps
    height, width = maps.shape[-2:]
    rows = torch.from_numpy(_smoothing_matrix(height, sigma)).to(maps)
    columns = torch.from_numpy(_smoothing_matrix(width, sigma)).to(maps)
    return rows @ maps @ columns.T


def score_maps(maps: Tensor, fraction: float) -> Tensor:
    """Return the image score of each map: the mean over its largest pixels.

    Args:
        maps: ``(N, 1, H, W)`` float.
        fraction: Share of the pixels that count; 0 takes the maximum.

    Returns:
        ``(N,)`` scores.
    """
    pixels = maps.flatten(1)  # (N, H·W)
    if not fraction:
        return pixels.amax(1)
    count = max(1, round(fraction * pixels.shape[1]))
    return pixels.topk(count).values.mean(1)


@lru_cache(maxsize=16)
def _smoothing_matrix(side: int, sigma: float) -> npt.NDArray[np.float64]:
    """Row i holds the weights with which the input pixels make up output pixel i."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    pixels = np.arange(side)[:, None]
    sources = (pixels + offsets) % (2 * side)  # the mirrored image has period 2·side
    sources = np.minimum(sources, 2 * side - 1 - sources)  # (side, 2·radius + 1)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.broadcast_to(pixels, sources.shape), sources), kernel / kernel.sum())
    return matrix
