"""From what an audit found to an errata file that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from threecad.auditing.examination import meanings, union_mask
from threecad.dataset.errata import Errata, Erratum
from threecad.images.files import write_png

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from threecad.auditing.examination import Audit
    from threecad.dataset.samples import Sample
    from threecad.images.masks import MaskRule

__all__ = ["write_errata"]

_UNUSABLE = ("image-unreadable", "mask-missing", "mask-unreadable", "mask-size")


def write_errata(audit: Audit, path: str | os.PathLike[str]) -> Errata:
    """Write the corrections that follow from an audit without a judgement of the pictures.

    - A picture that is good and defective at once is excluded, all copies of it.
    - Of a picture on both sides of a split only the test images stay (of near duplicates too).
    - A picture under several defect types stays once, with all its types and the union of its
      masks, which is written to the folder ``<name>-masks`` beside ``path``.
    - A sample whose image or mask cannot be used is excluded.

    Everything else (near contradictions, odd masks) needs eyes; add it to the file by hand.
    """
    path = Path(path)
    entries: dict[str, Erratum] = {}
    for erratum in _propose(audit, path):
        entries.setdefault(erratum.id, erratum)
    errata = Errata(tuple(entries.values()), path.parent)
    errata.save(path)
    return errata


def _propose(audit: Audit, path: Path) -> Iterator[Erratum]:
    """Yield corrections; of several for one sample the first counts."""
    for finding in audit.report.sorted():
        if finding.code in _UNUSABLE and finding.id is not None:
            yield Erratum(finding.id, "exclude", finding.message)
    for group in audit.exact:
        samples = [audit.index[sample_id] for sample_id in group]
        if "contradiction" in meanings(samples):
            for sample in samples:
                others = ", ".join(other for other in group if other != sample.id)
                yield Erratum(sample.id, "exclude", f"good and defective at once: as {others}")
            continue
        kept = _of_last_split(samples)
        for sample in samples:
            if sample not in kept:
                yield Erratum(sample.id, "exclude", f"the same pixels as {kept[0].id}")
        if "types" in meanings(kept):
            yield from _join_types(kept, path, audit.mask_rule)
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
    union = union_mask(samples, rule)
    if union is None:
        return
    first = samples[0]
    mask = f"{path.stem}-masks/{first.id}.png"
    write_png(path.parent / mask, union.astype(np.uint8) * 255)
    types = sorted({name for sample in samples for name in sample.defect_types})
    yield Erratum(
        first.id,
        "replace-mask",
        f"the same pixels are under {', '.join(types)}",
        defect_types=tuple(types),
        mask=mask,
    )
    for sample in samples[1:]:
        yield Erratum(sample.id, "exclude", f"the same pixels as {first.id}, joined there")
