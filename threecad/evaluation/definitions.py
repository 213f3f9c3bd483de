"""Names of figures, as results and their JSON use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = [
    "FIGURE_NAMES",
    "IMAGE_KEYS",
    "KEYS",
    "PAPER_PRO",
    "SHORT_NAMES",
    "is_replaced",
    "pro_key",
    "recall_key",
]

IMAGE_KEYS = ("image_auroc", "image_ap", "image_f1_max")
PAPER_PRO = "pro_per_image"

FIGURE_NAMES: dict[str, str] = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1_max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1_max": "Pixel F1-max",
    "pro_30": "PRO@0.3",
    "pro_05": "PRO@0.05",
    PAPER_PRO: "PRO per image (paper)",
    "region_recall_05": "Region recall@0.05",
    "region_recall_01": "Region recall@0.01",
}
"""Every figure a result can hold under the default settings, and its name in tables."""

SHORT_NAMES: dict[str, str] = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1",
    "pro_30": "PRO @0.3",
    "pro_05": "PRO @0.05",
    PAPER_PRO: "PRO paper",
    "region_recall_05": "recall @0.05",
    "region_recall_01": "recall @0.01",
}
"""Names for narrow columns; they break at the space."""

KEYS = tuple(FIGURE_NAMES)[:8]
"""The figures every result has at its top level."""


def is_replaced(key: str, figures: Container[str]) -> bool:
    """Return whether the paper's PRO stands among ``figures`` in the place of this one."""
    return key.startswith("pro_") and key != PAPER_PRO and PAPER_PRO in figures


def pro_key(limit: float) -> str:
    """Return the key of PRO up to ``limit``: ``pro_30`` for 0.3, ``pro_05`` for 0.05."""
    return f"pro_{_percent(limit)}"


def recall_key(rate: float) -> str:
    """Return the key of region recall at ``rate``."""
    return f"region_recall_{_percent(rate)}"


def _percent(rate: float) -> str:
    percent = 100 * rate
    if abs(percent - round(percent)) < 1e-9:
        return f"{round(percent):02d}"
    return f"{percent:.6g}".replace(".", "p")
