"""Getting the dataset: from Google Drive, the Hub, the web or a zip to a tree on disk."""

from __future__ import annotations

from threecad.fetching.downloading import download

__all__ = ["download"]
