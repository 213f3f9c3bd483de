"""The three terms that CFRG minimises, unweighted: L = L_seg + L_dis + L_rec.

Notation: T, S, R are the features of teacher, student and recovery at three levels, x_n a normal
image, x_a the same image with a synthetic defect, M the binary mask of that defect, and c(a, b)
the cosine similarity over the channels. Nothing is detached: L_seg also trains student and
recovery, through the weights that multiply the U-Net's input.

Reference: Yang et al., 3CAD, https://arxiv.org/abs/2502.05761
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "discrepancy_loss",
    "recovery_loss",
    "segmentation_loss",
    "squared_recovery_error",
]


def discrepancy_loss(coarse_maps: Sequence[Tensor], mask: Tensor) -> Tensor:
    """L_dis: the student agrees with the teacher off the defect and disagrees on it.

    L_dis = mean over levels of mean over pixels of (1 − w)·M + w·(1 − M), with
    w = w_t = 1 − c(T(x_a), S(x_a)), resized bilinearly (half-pixel centres) to the mask.

    Args:
        coarse_maps: w_t at each level, ``(N, 1, h, w)``, in [0, 2].
        mask: ``(N, 1, H, W)`` float, 0 or 1.

    Returns:
        A scalar in [0, 2].
    """
    terms = []
    for coarse in coarse_maps:
        w = F.interpolate(coarse, mask.shape[-2:], mode="bilinear")  # (N, 1, H, W)
        terms.append(((1 - w) * mask + w * (1 - mask)).mean())
    return torch.stack(terms).mean()


def recovery_loss(
    teacher: Sequence[Tensor], recovered: Sequence[Tensor], *, each_place: bool = False
) -> Tensor:
    """L_rec: the *normal* features come back from the *defective* ones.

    L_rec = sum over levels of mean over the batch of 1 − cos(flatten T(x_n), flatten R(T(x_a))).

    Args:
        teacher: T(x_n) at each level, ``(N, C, h, w)``.
        recovered: R at each level, of the same shapes.
        each_place: Take the cosine at each place over the channels and the mean over places,
            which weighs weak features as much as strong ones. Not the paper's.

    Returns:
        A scalar in [0, 6].
    """
    terms = []
    for t, r in zip(teacher, recovered, strict=True):
        if each_place:
            cosine = F.cosine_similarity(t.float(), r.float(), dim=1)  # (N, h, w)
        else:
            cosine = F.cosine_similarity(_flatten(t), _flatten(r))  # (N,), over h·w·C
        terms.append(1 - cosine.mean())
    return torch.stack(terms).sum()


def squared_recovery_error(teacher: Sequence[Tensor], recovered: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the mean squared error of R against T(x_n); not the paper's.

    Args:
        teacher: T(x_n) at each level, ``(N, C, h, w)``.
        recovered: R at each level, of the same shapes.

    Returns:
        A scalar ≥ 0.
    """
    pairs = zip(teacher, recovered, strict=True)
    return torch.stack([F.mse_loss(r.float(), t.float()) for t, r in pairs]).sum()


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """L_seg: binary cross-entropy of the U-Net's logits against the mask, mean over pixels.

    Args:
        logits: ``(N, 1, H, W)``.
        mask: ``(N, 1, H, W)`` float, 0 or 1.

    Returns:
        A scalar ≥ 0.
    """
    return F.binary_cross_entropy_with_logits(logits, mask)


def _flatten(features: Tensor) -> Tensor:
    """(N, C, h, w) → (N, h·w·C) float32; a view where the memory is channels-last."""
    return features.permute(0, 2, 3, 1).flatten(1).float()
