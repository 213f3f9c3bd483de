"""From what an audit found to an errata file that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from threecad.auditing.meanings import different_masks as find_different_masks
from threecad.auditing.meanings import meanings, union_mask
from threecad.dataset.errata import Errata, Erratum
from threecad.errors import UsageError
from threecad.images.files import write_png

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from threecad.auditing.examination import Audit
    from threecad.dataset.samples import Sample
    from threecad.images.masks import MaskRule

__all__ = ["DifferentMasks", "write_errata"]

DifferentMasks = Literal["keep", "union", "first", "exclude"]
"""What to do with one picture that stands under one defect type with different masks."""

_UNUSABLE = ("image-unreadable", "mask-missing", "mask-unreadable", "mask-size")


def write_errata(
    audit: Audit, path: str | os.PathLike[str], *, different_masks: DifferentMasks = "keep"
) -> Errata:
    """Write the corrections that follow from an audit without a judgement of the pictures.

    - A picture that is good and defective at once is excluded, all copies of it.
    - Of a picture on both sides of a split only the test images stay (of near duplicates too).
    - A picture under several defect types stays once, with all its types and the union of its
      masks, which is written to the folder ``<name>-masks`` beside ``path``.
    - A sample whose image or mask cannot be used is excluded.

    All of that is within a category, unless the audit was made ``across_categories``. Everything
    else (near contradictions, odd masks) needs eyes; add it to the file by hand.

    Args:
        audit: What was found.
        path: The file to write.
        different_masks: What becomes of a picture that stands under one defect type with different
            masks: ``"keep"`` all of them, keep it once with their ``"union"`` or with the mask of
            the ``"first"`` id, or ``"exclude"`` it.

    Raises:
        UsageError: If ``different_masks`` is none of these.
    """
    if different_masks not in get_args(DifferentMasks):
        raise UsageError(
            f"different_masks is {different_masks!r}; expected one of "
            f"{', '.join(get_args(DifferentMasks))}."
        )
    path = Path(path)
    entries: dict[str, Erratum] = {}
    for erratum in _propose(audit, path, different_masks):
        entries.setdefault(erratum.id, erratum)
    errata = Errata(tuple(entries.values()), path.parent)
    errata.save(path)
    return errata


def _propose(audit: Audit, path: Path, choice: DifferentMasks) -> Iterator[Erratum]:
    """Yield corrections; of several for one sample the first counts."""
    for finding in audit.report.sorted():
        if finding.code in _UNUSABLE and finding.id is not None:
            yield Erratum(finding.id, "exclude", finding.message)
    for duplicate in audit.duplicates:
        if duplicate.meanings == ("categories",) and not audit.across_categories:
            continue
        samples = [audit.index[sample_id] for sample_id in duplicate.ids]
        if "contradiction" in duplicate.meanings:
            for sample in samples:
                others = ", ".join(other for other in duplicate.ids if other != sample.id)
                yield Erratum(sample.id, "exclude", f"good and defective at once: as {others}")
            continue
        kept = _of_last_split(samples)
        for sample in samples:
            if sample not in kept:
                yield Erratum(sample.id, "exclude", f"the same pixels as {kept[0].id}")
        if "types" in meanings(kept):
            yield from _join_types(kept, path, audit.mask_rule)
        else:
            yield from _settle_masks(kept, path, audit.mask_rule, choice)
    for pair in audit.near:
        samples = [audit.index[pair.first], audit.index[pair.second]]
        if meanings(samples)[0] == "leak":
            kept = _of_last_split(samples)
            for sample in samples:
                if sample not in kept:
                    yield Erratum(
                        sample.id,
                        "exclude",
                        f"looks the same as {kept[0].id} ({pair.distance} bits apart)",
                    )


def _of_last_split(samples: list[Sample]) -> list[Sample]:
    """Return the test images; where there are none, the validation images; else all."""
    for split in ("test", "val"):
        if there := [sample for sample in samples if sample.split == split]:
            return there
    return samples


def _join_types(samples: list[Sample], path: Path, rule: MaskRule | None) -> Iterator[Erratum]:
    types = sorted({name for sample in samples for name in sample.defect_types})
    yield from _join(samples, path, rule, f"the same pixels are under {', '.join(types)}", types)


def _settle_masks(
    samples: list[Sample], path: Path, rule: MaskRule | None, choice: DifferentMasks
) -> Iterator[Erratum]:
    """Yield what the choice makes of one picture with different masks under one type."""
    if choice == "keep":
        return
    reason = "the same pixels have different masks"
    for alike, _ in find_different_masks(samples, rule):
        if choice == "union":
            yield from _join(alike, path, rule, reason, [])
        else:
            for sample in alike if choice == "exclude" else alike[1:]:
                others = ", ".join(other.id for other in alike if other is not sample)
                yield Erratum(sample.id, "exclude", f"{reason}: as {others}")


def _join(
    samples: list[Sample], path: Path, rule: MaskRule | None, reason: str, types: list[str]
) -> Iterator[Erratum]:
    """Keep the first sample, with the union of all masks; nothing if they cannot be joined."""
    union = union_mask(samples, rule)
    if union is None:
        return
    first = samples[0]
    mask = f"{path.stem}-masks/{first.id}.png"
    write_png(path.parent / mask, union.astype(np.uint8) * 255)
    yield Erratum(first.id, "replace-mask", reason, defect_types=tuple(types), mask=mask)
    for sample in samples[1:]:
        yield Erratum(sample.id, "exclude", f"the same pixels as {first.id}, joined there")
