"""The residual blocks of ResNets, under torchvision's names, and the dropping of whole branches.

They are torchvision's, bit for bit; importing that takes as long as importing torch.

References:
    He et al., Deep Residual Learning, https://arxiv.org/abs/1512.03385
    Huang et al., Deep Networks with Stochastic Depth, https://arxiv.org/abs/1603.09382
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BasicBlock", "Bottleneck", "StochasticDepth"]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution.
        shortcut: Brings the input to the shape of the output; the input itself when ``None``.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, shortcut: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h/stride, w/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """Convolutions of 1×1, 3×3 and 1×1 and a shortcut.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the 3×3 convolution.
        shortcut: As for ``BasicBlock``.
        narrowing: Channels that go out for each of the 3×3 convolution; 2 in a wide ResNet-50-2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        shortcut: nn.Module | None = None,
        *,
        narrowing: int = 4,
    ) -> None:
        super().__init__()
        width = outputs // narrowing
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h/stride, w/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class StochasticDepth(nn.Module):
    """In training, set the branch of some images to zero and scale the others up.

    Args:
        p: Probability of being set to zero, from 0 to less than 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → the same."""
        if not self.training or not self.p:
            return x
        kept = 1 - self.p
        shape = (len(x), *(1,) * (x.ndim - 1))
        scale = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(kept).div_(kept)
        return x * scale
