"""A network of the real shape that is quick to compute."""

from __future__ import annotations

from typing import Any

__all__ = ["SMALL"]

SMALL: dict[str, Any] = {
    "fusion_blocks": 1,
    "fusion_width": 16,
    "fusion_channels": 32,
    "decoder_blocks": (1, 1, 1),
    "decoder_widths": (8, 8, 8),
    "decoder_channels": (8, 8, 16),
    "unet_channels": (8, 8, 8, 8),
}
"""Fields of ``CFRGConfig``, beside a preset."""
