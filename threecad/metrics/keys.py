"""Names of figures, as results and their JSON use them."""

from __future__ import annotations

__all__ = ["IMAGE_KEYS", "PAPER_PRO", "pro_key", "recall_key"]

IMAGE_KEYS = ("image_auroc", "image_ap", "image_f1_max")
PAPER_PRO = "pro_per_image"


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
