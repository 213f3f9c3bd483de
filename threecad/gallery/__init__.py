"""The dataset to look at: one HTML page with every image, its mask and its anomaly map."""

from __future__ import annotations

from threecad.gallery.page import write_gallery

__all__ = ["write_gallery"]
