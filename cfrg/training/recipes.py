"""The maker of synthetic defects that the training options describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfrg.defects.recipes import PaperDefects, VariedDefects
from cfrg.defects.textures import DrawnTextures, FolderTextures

if TYPE_CHECKING:
    import os

    from cfrg.defects.pairs import DefectMaker
    from cfrg.images.cache import Pictures
    from cfrg.training.options import TrainingOptions

__all__ = ["make_defects"]


def make_defects(
    options: TrainingOptions,
    others: Pictures,
    textures: str | os.PathLike[str] | None = None,
) -> DefectMaker:
    """Return the maker of synthetic defects that the options describe.

    Args:
        options: Name the recipe and its switches.
        others: The good training images.
        textures: Folder of texture photographs; the embedded textures when ``None``.
    """
    source = FolderTextures(textures) if textures is not None else DrawnTextures()
    recipe = PaperDefects if options.synthesis == "paper" else VariedDefects
    return recipe(source, others, options, seed=options.seed)
