"""EfficientNet-B0 and its Lite forms, as far as their features are used.

References:
    Tan and Le, EfficientNet, https://arxiv.org/abs/1905.11946
    EfficientNet-Lite, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.teachers.residual import StochasticDepth

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "B0_STAGES",
    "LITE2_STAGES",
    "EfficientNet",
    "MBConv",
    "SameConv2d",
    "SqueezeExcite",
    "rename_efficientnet",
]


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's ``SAME`` pads an even-sized input.

    A stride of 2 then needs an odd number of padding pixels, and right and bottom get the extra
    one: (0, 1) for a 3×3 kernel, (1, 2) for 5×5. Symmetric padding would shift the features.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=before if before == after else 0,
            groups=groups,
            bias=False,
        )
        self.extra = (before, after, before, after) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → (N, D, ⌈h/s⌉, ⌈w/s⌉)."""
        return super().forward(x if self.extra is None else F.pad(x, self.extra))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SqueezeExcite(nn.Module):
    """Channel gates from the image mean: x · σ(W₂ swish(W₁ mean(x)))."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same shape."""
        gates: Tensor = F.adaptive_avg_pool2d(x, 1)  # (N, C, 1, 1)
        gates = self.expand(F.silu(self.reduce(gates)))
        return torch.sigmoid(gates) * x


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1×1, depthwise k×k, squeeze-excite, project 1×1 (linear)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expansion: int,
        kernel: int,
        stride: int,
        lite: bool,
        drop: float,
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.activation = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
        self.expand: nn.Module | None = None
        if expansion != 1:
            self.expand = SameConv2d(inputs, width, 1)
            self.expand_norm = _norm(width)
        self.depthwise = SameConv2d(width, width, kernel, stride=stride, groups=width)
        self.depthwise_norm = _norm(width)
        self.gate = None if lite else SqueezeExcite(width, max(1, inputs // 4))
        self.project = SameConv2d(width, outputs, 1)
        self.project_norm = _norm(outputs)
        self.drop: nn.Module | None = None
        if stride == 1 and inputs == outputs:
            self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h, w), or half that size."""
        y: Tensor = x
        if self.expand is not None:
            y = self.activation(self.expand_norm(self.expand(y)))
        y = self.activation(self.depthwise_norm(self.depthwise(y)))
        if self.gate is not None:
            y = self.gate(y)
        y = self.project_norm(self.project(y))
        if self.drop is not None:
            y = self.drop(y) + x
        return y


class EfficientNet(nn.Module):
    """EfficientNet, or its Lite form (ReLU6, no squeeze-excite), as far as the deepest tap.

    Args:
        stages: (expansion, output channels, blocks, stride, kernel) of each stage; the whole
            list counts for the scaling of drop-connect, 0.2·i/B for block i of B.
        taps: Indices of the three blocks whose outputs are the features, shallow to deep.
        lite: Build the Lite form.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, int, int, int, int]],
        taps: tuple[int, int, int],
        *,
        lite: bool,
    ) -> None:
        super().__init__()
        self.taps = taps
        self.stem = SameConv2d(3, 32, 3, stride=2)
        self.stem_norm = _norm(32)
        self.activation = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
        total = sum(blocks for _, _, blocks, _, _ in stages)
        self.blocks = nn.ModuleList()
        inputs = 32
        for expansion, outputs, blocks, stage_stride, kernel in stages:
            for stride in [stage_stride] + [1] * (blocks - 1):
                if (index := len(self.blocks)) > taps[-1]:
                    return
                self.blocks.append(
                    MBConv(
                        inputs,
                        outputs,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride,
                        lite=lite,
                        drop=0.2 * index / total,
                    )
                )
                inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) → the features at the three taps."""
        x = self.activation(self.stem_norm(self.stem(x)))  # (N, 32, H/2, W/2)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)  # H/4, H/8, H/16
        return features


B0_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
LITE2_STAGES = (  # B0 with widths × 1.1 and depths × 1.2, first and last stage not deepened
    (1, 16, 1, 1, 3),
    (6, 24, 3, 2, 3),
    (6, 48, 3, 2, 5),
    (6, 88, 4, 2, 3),
    (6, 120, 4, 1, 5),
    (6, 208, 5, 2, 5),
    (6, 352, 1, 1, 3),
)


def rename_efficientnet(key: str, *, deepest: int) -> str | None:
    """Our name for a key of the widespread PyTorch EfficientNet.

    Args:
        key: E.g. ``_blocks.3._depthwise_conv.weight``.
        deepest: The last block that is built.

    Returns:
        E.g. ``blocks.3.depthwise.weight``; None for later blocks, head and classifier, which
        are not used; the key itself where it is none of that network's.
    """
    parts = {"_conv_stem": "stem", "_bn0": "stem_norm"}
    head, _, leaf = key.partition(".")
    prefix = ""
    if head in {"_conv_head", "_bn1", "_fc"}:
        return None
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        block, head, leaf = match.groups()
        if int(block) > deepest:
            return None
        prefix = f"blocks.{block}."
        parts = {
            "_expand_conv": "expand",
            "_bn0": "expand_norm",
            "_depthwise_conv": "depthwise",
            "_bn1": "depthwise_norm",
            "_se_reduce": "gate.reduce",
            "_se_expand": "gate.expand",
            "_project_conv": "project",
            "_bn2": "project_norm",
        }
    return f"{prefix}{parts[head]}.{leaf}" if head in parts else key
