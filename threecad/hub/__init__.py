"""3CAD as a Hugging Face dataset: ``load_dataset("3cad")``, cards, and copies on the Hub."""

from __future__ import annotations

from threecad.hub.hook import NAME, install_hook
from threecad.hub.loading import load_dataset

__all__ = ["NAME", "install_hook", "load_dataset"]
