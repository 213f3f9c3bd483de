"""The moving average of a network's weights, which is steadier than the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["WeightAverage", "own_state"]


class WeightAverage:
    """Exponential moving average of all that a network learns, its statistics included.

    a ← a + (1 − d)·(w − a), with d rising to ``decay`` as min(decay, (1 + step) / (10 + step)), so
    that the first steps, which are far off, are soon forgotten.

    Args:
        model: The network; its frozen teacher is left out.
        decay: Weight of the past, 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {
            name: value.detach().clone()
            for name, value in own_state(model).items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Count the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = own_state(model)
        # In place, in one call: hundreds of small tensors cost more to start than to compute.
        torch._foreach_lerp_(
            list(self.values.values()), [now[name] for name in self.values], 1 - decay
        )

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the average in the place of the network's own weights."""
        now = own_state(model)
        for name, value in self.values.items():
            now[name].copy_(value)


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state, without those of its frozen teacher."""
    return {
        name: value for name, value in model.state_dict().items() if not name.startswith("teacher.")
    }
