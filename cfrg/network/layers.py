"""The trained parts of CFRG, and the statistics that put features and maps on one scale.

Feature fusion and recovery decoder are those of reverse distillation
(https://arxiv.org/abs/2201.10703). Lists of levels run from fine (H/4) to deep (H/16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.network.config import CFRGConfig
    from cfrg.teachers.backbones import Channels

__all__ = [
    "STRIDE",
    "Adapter",
    "Block",
    "Decoder",
    "Fusion",
    "Moments",
    "Standardizer",
    "UNet",
    "UpBlock",
    "pad_to_stride",
    "padded_size",
]

STRIDE = 32  # the network halves an image five times


def padded_size(height: int, width: int) -> tuple[int, int]:
    """The next multiples of 32."""
    return height + -height % STRIDE, width + -width % STRIDE


def pad_to_stride(image: Tensor) -> Tensor:
    """Repeat the last row and column until height and width are multiples of 32."""
    height, width = image.shape[-2:]
    rows, columns = padded_size(height, width)
    margin = (0, columns - width, 0, rows - height)
    return F.pad(image, margin, mode="replicate") if any(margin) else image


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def _double(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), nn.BatchNorm2d(outputs)]


class Adapter(nn.Sequential):
    """Bring a student level to the teacher's channels: two separable steps.

    The last ReLU is left out where the teacher's features can be negative.
    """

    def __init__(self, inputs: int, outputs: int, *, nonnegative: bool) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            *_conv_norm(inputs, inputs, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            *_conv_norm(inputs, outputs, 1),
            nn.ReLU(inplace=True) if nonnegative else nn.Identity(),
        )


class Block(nn.Module):
    """Bottleneck 1×1 → 3×3 → 1×1 with a shortcut, which may halve or double the size.

    Doubling is a 2×2 transposed convolution with stride 2, in the middle and on the shortcut.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, resize: Literal["half", "double"] | None = None
    ) -> None:
        super().__init__()
        stride = 2 if resize == "half" else 1
        if resize == "double":
            middle, shortcut = _double(width, width), _double(inputs, outputs)
        else:
            middle = _conv_norm(width, width, 3, stride)
            shortcut = [] if inputs == outputs else _conv_norm(inputs, outputs, 1, stride)
        self.body = nn.Sequential(
            *_conv_norm(inputs, width, 1),
            nn.ReLU(inplace=True),
            *middle,
            nn.ReLU(inplace=True),
            *_conv_norm(width, outputs, 1),
        )
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h, w), or half or twice that size."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Fusion(nn.Module):
    """The one-class bottleneck: three teacher levels into one small embedding at H/32."""

    def __init__(self, channels: Channels, *, blocks: int, width: int, outputs: int) -> None:
        super().__init__()
        c1, c2, c3 = channels
        self.level1 = nn.Sequential(
            *_conv_norm(c1, c2, 3, stride=2),
            nn.ReLU(inplace=True),
            *_conv_norm(c2, c3, 3, stride=2),
            nn.ReLU(inplace=True),
        )
        self.level2 = nn.Sequential(*_conv_norm(c2, c3, 3, stride=2), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            Block(3 * c3, width, outputs, "half"),
            *(Block(outputs, width, outputs) for _ in range(blocks - 1)),
        )

    def forward(self, teacher: Sequence[Tensor]) -> Tensor:
        """Three levels → (N, E, H/32, W/32)."""
        t1, t2, t3 = teacher
        fused = torch.cat([self.level1(t1), self.level2(t2), t3], 1)  # (N, 3·C3, H/16, W/16)
        return self.blocks(fused)  # type: ignore[no-any-return]  # (N, E, H/32, W/32)


class Decoder(nn.Module):
    """The recovery: a mirrored Wide-ResNet from the embedding back to the teacher's levels.

    Where a level is narrower or wider than the teacher's, or the teacher's features can be
    negative, a 1×1 convolution ends it.
    """

    def __init__(self, inputs: int, channels: Channels, config: CFRGConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()  # deep to fine
        self.heads = nn.ModuleList()
        for level in (2, 1, 0):
            width, outputs = config.decoder_widths[level], config.decoder_channels[level]
            rest = (Block(outputs, width, outputs) for _ in range(config.decoder_blocks[level] - 1))
            self.layers.append(nn.Sequential(Block(inputs, width, outputs, "double"), *rest))
            fits = config.nonnegative and outputs == channels[level]
            self.heads.append(nn.Identity() if fits else nn.Conv2d(outputs, channels[level], 1))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, E, H/32, W/32) → three levels of the teacher's shapes."""
        recovered = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            x = layer(x)  # H/16, H/8, H/4
            recovered.append(head(x))
        return recovered[::-1]  # fine to deep, as the teacher's


class UpBlock(nn.Module):
    """Double the size, append the skip, convolve twice."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        self.conv1 = nn.Conv2d(outputs + skip, outputs, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(N, inputs, h, w) and a skip of twice that size → (N, outputs, 2h, 2w)."""
        x = self.up(x)
        if skip is not None:
            x = torch.cat([x, skip], 1)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


class UNet(nn.Module):
    """Segment the weighted teacher features: level 3 is the input, 2 and 1 are the skips."""

    def __init__(self, channels: Channels, widths: Sequence[int]) -> None:
        super().__init__()
        c1, c2, c3 = channels
        w1, w2, w3, w4 = widths
        self.up1 = UpBlock(c3, c2, w1)
        self.up2 = UpBlock(w1, c1, w2)
        self.up3 = UpBlock(w2, 0, w3)
        self.up4 = UpBlock(w3, 0, w4)
        self.head = nn.Conv2d(w4, 1, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Three levels → logits (N, 1, H, W)."""
        x1, x2, x3 = levels
        x = self.up1(x3, x2)  # (N, 512, H/8, W/8)
        x = self.up2(x, x1)  # (N, 256, H/4, W/4)
        x = self.up3(x)  # (N, 128, H/2, W/2)
        x = self.up4(x)  # (N, 64, H, W)
        return self.head(x)  # type: ignore[no-any-return]  # (N, 1, H, W)


class Moments:
    """Running mean and deviation of rows, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = torch.zeros(1, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Count the values of each row of ``(R, M)``."""
        rows = rows.double().cpu()
        self.count += rows.shape[1]
        self.sum = self.sum + rows.sum(1)
        self.squares = self.squares + rows.square().sum(1)

    @property
    def mean(self) -> Tensor:
        """``(R,)`` means."""
        return self.sum / self.count

    @property
    def std(self) -> Tensor:
        """``(R,)`` standard deviations, kept above zero."""
        variance = self.squares / self.count - self.mean.square()
        return variance.clamp_min(1e-12).sqrt()


class Standardizer(nn.Module):
    """Each channel on mean 0, deviation 1; the identity until ``fit``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same, standardised."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def fit(self, moments: Moments) -> None:
        """Take over the statistics."""
        self.mean.copy_(moments.mean)
        self.std.copy_(moments.std)
