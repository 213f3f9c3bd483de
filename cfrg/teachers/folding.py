"""Batch normalisation folded into the convolutions before it, for prediction only, and back."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["fold_batch_norms", "restore_batch_norms"]

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(model: Module) -> Module:
    """A copy of the model in which no batch normalisation is left to compute.

    In evaluation mode a batch normalisation is a fixed scale and shift of each channel, which the
    convolution before it can do: same maps up to rounding, fewer passes over memory.

    Args:
        model: In it, a batch normalisation that follows a convolution among the children of one
            module is called right after it; so it is in every network of this package.

    Returns:
        The copy, in evaluation mode. It cannot be trained.
    """
    model = deepcopy(model).eval()
    for _, module, name, next_name in list(_find_pairs(model)):
        before, after = getattr(module, name), getattr(module, next_name)
        transposed = isinstance(before, nn.ConvTranspose2d)
        setattr(module, name, fuse_conv_bn_eval(before, after, transposed))
        setattr(module, next_name, nn.Identity())
    return model.requires_grad_(False)


def restore_batch_norms(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Complete the tensors of a file that leaves out batch normalisations, or parts of them.

    One that was folded into the convolution before it comes back as one that adds that
    convolution's bias. Counters of batches, which old files lack, begin at 0; nothing reads them.

    Args:
        model: Says where batch normalisations are; as for ``fold_batch_norms``.
        tensors: By the model's names. What else is missing stays so.
    """
    complete = dict(tensors)
    for prefix, module, name, next_name in _find_pairs(model):
        conv, norm = getattr(module, name), getattr(module, next_name)
        bias, place = f"{prefix}{name}.bias", f"{prefix}{next_name}."
        folded = conv.bias is None and bias in complete
        if folded and not any(key.startswith(place) for key in complete):
            shift = complete.pop(bias)
            one = torch.ones_like(shift)
            complete[f"{place}weight"], complete[f"{place}bias"] = one, shift
            complete[f"{place}running_mean"] = torch.zeros_like(shift)
            complete[f"{place}running_var"] = one - norm.eps
        if f"{place}running_var" in complete:
            complete.setdefault(f"{place}num_batches_tracked", torch.tensor(0))
    return complete


def _find_pairs(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, str]]:
    """Each convolution with a batch normalisation behind it: prefix, parent and both names."""
    for path, module in model.named_modules():
        for (name, before), (next_name, after) in pairwise(module.named_children()):
            if isinstance(before, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(
                after, nn.BatchNorm2d
            ):
                yield f"{path}." if path else "", module, name, next_name
