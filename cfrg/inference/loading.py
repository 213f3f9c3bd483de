"""A trained model of either kind, from a folder or a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfrg.memory.neighbours import NearestNeighbourMemory
from cfrg.network.model import CFRG
from cfrg.network.pretrained import find_config

if TYPE_CHECKING:
    import os

__all__ = ["TrainedModel", "load_model"]

TrainedModel = CFRG | NearestNeighbourMemory


def load_model(
    source: str | os.PathLike[str], *, revision: str | None = None, **options: Any
) -> TrainedModel:
    """Return a trained network or memory, in evaluation mode.

    Args:
        source: A run folder, or ``owner/name`` on the Hub.
        revision: Branch, tag or commit of the repository.
        **options: Of ``PretrainedModel.from_pretrained``.

    Raises:
        ModelError: No such folder or repository, or files that do not fit together.
    """
    config = find_config(source, revision=revision)
    kind = NearestNeighbourMemory if config.is_memory else CFRG
    return kind.from_pretrained(source, revision=revision, **options)
