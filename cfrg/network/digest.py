"""The digest by which the files of a run know the weights they belong to."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cfrg.network.config import CFRGConfig

__all__ = ["digest_tensors"]


def digest_tensors(config: CFRGConfig, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 over a network's tensors and its configuration.

    Tiles and the region of interest are left out: they can be changed after the training.
    """
    departures = {
        name: value
        for name, (value, _) in config.departures().items()
        if name not in ("tile", "tile_overlap", "region")
    }
    digest = hashlib.sha256(json.dumps(departures, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\t{tensor.dtype}\t{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
