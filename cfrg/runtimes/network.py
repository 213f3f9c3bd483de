"""A detector's network in the shape in which every runtime takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cfrg.network.layers import padded_size
from cfrg.network.reading import Reading
from cfrg.teachers.folding import fold_batch_norms
from cfrg.teachers.vision_transformer import VisionTransformer

if TYPE_CHECKING:
    from cfrg.memory.neighbours import NearestNeighbourMemory
    from cfrg.network.model import CFRG

__all__ = ["Network"]


class Network(nn.Module):
    """(N, 3, h, w) float32 → (N, 1, h, w) float32, the maps before smoothing.

    Args:
        model: The detector; a copy of it is used, with the batch normalisations folded.
        half: Compute in half precision what may be.
    """

    def __init__(self, model: CFRG | NearestNeighbourMemory, *, half: bool = False) -> None:
        super().__init__()
        self.model = fold_batch_norms(model)
        for module in self.model.modules():
            if isinstance(module, VisionTransformer):
                module.fix_size(*padded_size(*model.config.image_size))
        self.dtype = torch.float16 if half else torch.float32
        self.model.to(self.dtype)
        for module in self.model.modules():
            if isinstance(module, Reading):
                module.float()  # distances are small differences of large numbers
                if half and module.config.memory_weight:  # kept in half, computed with in full
                    module.vectors = module.vectors.half()
        # torch.export.save takes weights in another memory format for parts of a larger tensor.
        self.model.to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the anomaly map of ``forward``."""
        anomaly_map: Tensor = self.model(x.to(self.dtype)).anomaly_map
        return anomaly_map.float()
