"""Annotations that people corrected, as errata of the tree that the images are from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.dataset.errata import Errata, Erratum
from threecad.dataset.samples import read_sample_mask
from threecad.errors import ConversionError, UsageError
from threecad.formats.conversion import plan
from threecad.images.files import read_size, write_png

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from threecad.dataset.samples import Index, Sample
    from threecad.formats.items import Item

__all__ = ["write_corrections"]

AGREE = 0.9
"""Intersection over union from which two outlines of a defect count as the same."""

SHOWN = 10


def write_corrections(
    source: str | os.PathLike[str],
    index: Index,
    out: str | os.PathLike[str],
    **options: Any,
) -> Errata:
    """Write what people changed in annotations of a tree's images as an errata file.

    The images are known by their names: the id with ``__`` for slashes, as
    ``threecad.formats.suggestions`` calls them. A good image with a shape left on it is relabelled
    and gets a mask; a defective one with none is relabelled good; one whose shapes cover another
    area than its mask (intersection over union below 0.9), or that had none, gets a new mask.
    Images that nobody annotated are left as they are.

    Args:
        source: The folder of annotations, as ``convert`` reads them.
        index: The tree.
        out: The errata file; new masks go to the folder ``<name>-masks`` beside it.
        **options: Of ``threecad.formats.plan``: ``from_``, ``mask_rule``, ``decisions``.

    Raises:
        UsageError: If ``out`` is no ``.json``.
        ConversionError: If the annotations are in doubt, or of other images than the tree's.
    """
    out = Path(out)
    if out.suffix != ".json":
        raise UsageError(f"{out}: errata are a .json file. Name one.")
    made = plan(source, category="corrected", **options)
    samples = {sample.id.replace("/", "__").casefold(): sample for sample in index}
    if foreign := [item.stem for item in made.items if item.stem.casefold() not in samples]:
        raise ConversionError(
            f"{len(foreign)} of the {len(made.items)} images of {source} are none of {index.root}, "
            f"first {', '.join(foreign[:SHOWN])}. Expected names like "
            "Category__test__good__000001, as `cfrg predict` gives them for a tree."
        )
    rule = options.get("mask_rule")
    pairs = ((samples[item.stem.casefold()], item) for item in made.items)
    found = (_correct(sample, item, rule, out) for sample, item in pairs)
    errata = Errata(tuple(erratum for erratum in found if erratum is not None), out.parent)
    errata.save(out)
    return errata


def _correct(sample: Sample, item: Item, rule: Any, out: Path) -> Erratum | None:
    if not item.label:
        if not sample.label:
            return None
        return Erratum(sample.id, "relabel", "corrected by a person: no defect", defect_type="good")
    mask = None if item.mask is None else item.mask.decode(rule)[0]
    size = read_size(sample.image)
    if mask is not None and mask.shape != size:
        raise ConversionError(
            f"{item.image} was annotated at {mask.shape[1]} × {mask.shape[0]} pixels; {sample.id} "
            f"has {size[1]} × {size[0]}. Annotate the image itself."
        )
    if not sample.label:
        name = None if mask is None else _save(mask, sample, out)
        return Erratum(
            sample.id,
            "relabel",
            "corrected by a person: a defect",
            defect_type=item.defect_type,
            mask=name,
        )
    if mask is None or _agree(mask, sample, size):
        return None
    reason = "corrected by a person: another outline"
    return Erratum(sample.id, "replace-mask", reason, mask=_save(mask, sample, out))


def _agree(mask: NDArray[np.bool_], sample: Sample, size: tuple[int, int]) -> bool:
    if sample.mask is None:
        return False
    known = read_sample_mask(sample, size)
    union = int((known | mask).sum())
    return not union or int((known & mask).sum()) >= AGREE * union


def _save(mask: NDArray[np.bool_], sample: Sample, out: Path) -> str:
    path = out.parent / f"{out.stem}-masks" / f"{sample.id.replace('/', '__')}.png"
    write_png(path, mask.astype(np.uint8) * np.uint8(255))
    return path.relative_to(out.parent).as_posix()
