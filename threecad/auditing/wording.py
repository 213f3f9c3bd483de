"""What an audit found, as findings for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from threecad.auditing.meanings import MEANINGS, different_masks, meanings, union_mask
from threecad.dataset.duplicates.near import LEAST_DISTANCE, largest_group, typical_distance
from threecad.dataset.findings import Finding
from threecad.images.regions import regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.dataset.duplicates.near import NearAcross, NearPair, NearSurvey
    from threecad.dataset.samples import Index, Sample
    from threecad.images.facts import ImageFacts
    from threecad.images.masks import MaskRule

__all__ = [
    "describe_across",
    "describe_alike",
    "describe_exact",
    "describe_near",
    "describe_undecidable",
    "list_ids",
]

_EXAMPLES = 3


def describe_exact(
    samples: Sequence[Sample], names: Sequence[str], rule: MaskRule | None
) -> Iterator[Finding]:
    """Yield a finding for each meaning of samples with equal pixels."""
    for name in names:
        ids = [sample.id for sample in samples]
        message = f"The same pixels are {MEANINGS[name].title}: {list_ids(ids)}."
        if name == "types":
            message += f" {_describe_types(samples, rule)}"
        elif name == "masks":
            message += f" {_describe_masks(samples, rule)}"
        elif name == "categories":
            message += _describe_categories(samples)
        yield Finding(
            f"duplicate-{name}",
            MEANINGS[name].exact,
            message,
            id=ids[0],
            advice=MEANINGS[name].advice,
        )


def _describe_types(samples: Sequence[Sample], rule: MaskRule | None) -> str:
    defective = [sample for sample in samples if sample.label]
    types = sorted({name for sample in defective for name in sample.defect_types})
    union = union_mask(defective, rule)
    if union is None:
        masks = "its masks cannot be joined (missing, unreadable or of several sizes)"
    else:
        masks = (
            f"the union of its masks has {np.count_nonzero(union):,} pixels in "
            f"{len(regions(union))} region(s)"
        )
    return f"Its types are {', '.join(types) or 'unknown'}; {masks}."


def _describe_masks(samples: Sequence[Sample], rule: MaskRule | None) -> str:
    sizes = [
        f"{sample.id} {np.count_nonzero(mask):,}"
        for alike, masks in different_masks(samples, rule)
        for sample, mask in zip(alike, masks, strict=True)
    ]
    return f"Their defect pixels: {list_ids(sizes)}."


def _describe_categories(samples: Sequence[Sample]) -> str:
    graver = [name for name in meanings(samples) if name != "categories"]
    if not graver:
        return ""
    titles = " and ".join(MEANINGS[name].title for name in graver)
    return f" For a detector of all categories they are {titles}."


def describe_near(
    ids: Sequence[str], names: Sequence[str], pairs: Sequence[NearPair]
) -> Iterator[Finding]:
    """Yield a finding for each meaning of samples that look the same."""
    closest, widest = pairs[0].distance, pairs[-1].distance
    apart = f"{closest}" if closest == widest else f"{closest} to {widest}"
    for name in names:
        yield Finding(
            f"near-{name}",
            MEANINGS[name].near,
            f"{list_ids(ids, joined=' and ')} look the same, {MEANINGS[name].title} "
            f"({apart} bits apart, limit {pairs[0].limit}).",
            id=ids[0],
            advice=MEANINGS[name].near_advice,
        )


def describe_alike(name: str, survey: NearSurvey, images: int) -> Finding:
    """Return the finding that a category looks alike, with the closest pairs."""
    alike = frozenset(survey.alike)
    examples = [pair for pair in survey.closest if pair.first in alike][:_EXAMPLES]
    shown = "; ".join(f"{p.first} and {p.second} ({p.distance} bits)" for p in examples)
    return Finding(
        "near-alike",
        "info",
        f"{name}: {len(alike):,} of {images:,} images look alike, each like some other (of "
        f"{survey.pairs:,} pairs in all). That is more than {largest_group(images)} in one group, "
        f"so they are no copies of one part, and none of them is reported. The closest: {shown}.",
        path=name,
        advice="Look at the closest pairs. `threecad split --near` lowers the limit there until no "
        f"group is larger than {largest_group(images)} images.",
    )


def describe_across(across: Mapping[tuple[str, str], NearAcross]) -> Iterator[Finding]:
    """Yield a finding for each two categories in which images look the same."""
    for (one, other), found in across.items():
        pair = found.closest
        yield Finding(
            "near-categories",
            MEANINGS["categories"].near,
            f"{one} and {other} have {found.pairs:,} pair(s) of images that look the same; the "
            f"closest are {pair.first} and {pair.second} ({pair.distance} bits apart, limit "
            f"{pair.limit}).",
            id=pair.first,
            advice=MEANINGS["categories"].near_advice,
        )


def describe_undecidable(
    index: Index, images: Mapping[Path, ImageFacts], fraction: float
) -> tuple[list[Finding], dict[str, int]]:
    """Return findings on categories too uniform to tell, and each category's limit in bits."""
    findings, limits = [], {}
    for name in index.categories:
        distance = typical_distance(index.select(category=name), images)
        limits[name] = int(fraction * distance)
        if distance < LEAST_DISTANCE:
            findings.append(
                Finding(
                    "near-undecidable",
                    "info",
                    f"The images of {name} are too alike ({distance:.0f} bits apart on average) "
                    "for near duplicates to stand out; only equal pixels were looked for.",
                    path=name,
                )
            )
    return findings, limits


def list_ids(ids: Sequence[str], shown: int = 4, joined: str = ", ") -> str:
    """Return the first ``shown`` ids for people, and how many more there are.

    Two are joined by ``joined``.
    """
    if len(ids) == 2:
        return joined.join(ids)
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return ", ".join(ids[:shown]) + more
