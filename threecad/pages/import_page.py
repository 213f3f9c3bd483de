"""What an import would make of a folder, as one self-contained HTML page to look at."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import cv2
import numpy as np

from threecad.images.files import png_bytes, rgb_array
from threecad.pages.figures import outline
from threecad.pages.rendering import render_template
from threecad.system import atomic
from threecad.version import __version__

if TYPE_CHECKING:
    import os

    from threecad.formats.items import Item
    from threecad.formats.planning import Plan
    from threecad.images.masks import MaskRule

__all__ = ["render_plan", "write_plan"]

_SIDE = 480  # pixels of the longest side of a picture


def write_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write the page of ``render_plan`` to ``path``."""
    atomic.write_text(path, render_plan(plan))


def render_plan(plan: Plan) -> str:
    """Return splits, types, mask rules and account, and examples with the outlines of their masks.

    Raises:
        ImageError: If an example's image cannot be read.
        MaskError: If its mask cannot be.
    """
    return render_template(
        "import.html",
        plan=plan,
        account=str(plan.account),
        pictures=[(item, *_picture(item, plan.mask_rule)) for item in plan.examples],
        version=__version__,
    )


def _picture(item: Item, rule: MaskRule | None) -> tuple[str, int, str]:
    """Return a data URL of the image with its mask outlined, the mask's pixels, and its rule."""
    image = rgb_array(item.image.open())
    pixels, used = 0, "no mask"
    if item.mask is not None:
        mask, used, _ = item.mask.decode(rule)
        pixels = int(mask.sum())
        image = outline(image, mask)
    scale = _SIDE / max(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode()}", pixels, used
