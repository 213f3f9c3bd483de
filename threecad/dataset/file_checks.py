"""What is wrong with single files: images and masks that do not decode, fit or make sense."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Literal

from threecad.dataset.findings import Finding
from threecad.dataset.samples import relative_path
from threecad.errors import ImageError
from threecad.images.camera_bits import find_bits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from threecad.dataset.samples import Index, Sample
    from threecad.images.facts import ImageFacts, MaskFacts

__all__ = [
    "OUTLIER_DEVIATIONS",
    "OUTLIER_FACTOR",
    "SPECK_AREA",
    "check_depths",
    "check_images",
    "check_masks",
    "odd_mask",
    "suspect_masks",
    "unlike_size",
    "unreadable",
]

SPECK_AREA = 4
"""Regions of fewer pixels are specks: at a quarter of the size nearest-neighbour loses them."""

OUTLIER_DEVIATIONS = 5.0
"""Robust standard deviations of log area from the type's median at which a mask stands out."""

OUTLIER_FACTOR = 10.0
"""Smallest ratio to the type's median area at which a mask stands out."""

PEEKED = 8
"""Images of a category that are looked at to see whether they are nearly black."""

_OUTLIER_SAMPLE = 10  # masks of a type below which its distribution is not known


def check_images(index: Index, images: Mapping[Path, ImageFacts]) -> Iterator[Finding]:
    """Name the images that do not decode, and photographs that viewers turn."""
    for sample in index:
        if (turned := images[sample.image].orientation) != 1:
            path = relative_path(sample.image, index.root)
            yield Finding(
                "image-turned",
                "warning",
                f"{path} carries the EXIF orientation {turned}: viewers turn it, and its mask lies "
                "over the pixels as they are stored.",
                id=sample.id,
                path=path,
                advice="`threecad convert` writes it without; check that the mask was not drawn on "
                "the turned photograph.",
            )
        if problem := images[sample.image].problem:
            yield unreadable("image", sample, relative_path(sample.image, index.root), problem)


def check_depths(index: Index) -> Iterator[Finding]:
    """Name the categories whose cameras use only the lower of sixteen bits.

    ``PEEKED`` images of each are looked at.
    """
    for category in index.categories:
        samples = [sample for sample in index if sample.category == category]
        step = max(1, len(samples) // PEEKED)
        try:
            used = find_bits(sample.image for sample in samples[::step][:PEEKED])
        except ImageError:  # named by itself
            continue
        if 8 < used < 16:
            yield Finding(
                "image-dark",
                "warning",
                f"The images of {category} have 16 bits a channel, of which the lower {used} are "
                "used: by the upper eight, which most programs take, they are nearly black.",
                advice=f"Train with `bits={used}`; other programs need images of 8 bits.",
            )


def unreadable(kind: Literal["image", "mask"], sample: Sample, path: str, problem: str) -> Finding:
    """Say that the image or the mask of a sample does not decode."""
    return Finding(
        f"{kind}-unreadable",
        "error",
        f"{path} cannot be decoded: {problem.rstrip('.')}.",
        id=sample.id,
        path=path,
        advice="Restore it from the archive.",
    )


def unlike_size(
    sample: Sample, path: str, size: tuple[int, int], image: str, expected: tuple[int, int]
) -> Finding:
    """Say that a mask is not of its image's size; both are (height, width)."""
    return Finding(
        "mask-size",
        "error",
        f"{path} is {size[1]} × {size[0]} pixels, but its image {image} "
        f"is {expected[1]} × {expected[0]}.",
        id=sample.id,
        path=path,
        advice="Restore both from the archive.",
    )


def check_masks(
    index: Index, images: Mapping[Path, ImageFacts], masks: Mapping[Path, MaskFacts]
) -> Iterator[Finding]:
    """Name the masks that do not decode, do not fit their image, or are odd in their values."""
    for sample in index:
        if sample.mask is None:
            continue
        fact, image = masks[sample.mask], images[sample.image]
        path = relative_path(sample.mask, index.root)
        if fact.problem:
            yield unreadable("mask", sample, path, fact.problem)
            continue
        if image.width and (fact.width, fact.height) != (image.width, image.height):
            size, expected = (fact.height, fact.width), (image.height, image.width)
            name = relative_path(sample.image, index.root)
            yield unlike_size(sample, path, size, name, expected)
        for code in fact.oddities:
            yield odd_mask(code, sample, path, fact.rule, sum(fact.areas), fact.grey)


def odd_mask(
    code: str, sample: Sample, path: str, rule: str, area: int, grey: int | None = None
) -> Finding:
    """Say what is odd about a mask that decodes.

    Args:
        code: ``mask-empty``, ``mask-full`` or ``mask-ambiguous``.
        sample: Whose mask it is.
        path: Of the mask.
        rule: By which it was decoded.
        area: Pixels that are defect by it.
        grey: Pixels that the rule ``binary`` would add, where that is known.
    """
    if code == "mask-empty":
        message = f"{path} has no defect pixel (rule: {rule})"
        advice = (
            "The image keeps its label, but pixel metrics cannot use it: restore the mask, or "
            "exclude the image with an errata file."
        )
    elif code == "mask-full":
        message = f"{path} is defect from edge to edge (rule: {rule})"
        advice = "Look at it: a defect rarely covers a whole part."
    else:
        message = f"{path}: {area:,} pixels are defect by the rule {rule}"
        if rule == "threshold" and grey is not None:
            message += f", {grey:,} more would be by the rule binary"
        message += "; its values do not say which is meant"
        advice = (
            "A few grey pixels are the seam of a smooth outline: threshold is right. Look where "
            "they are many; `mask_rule` decides otherwise."
        )
    return Finding(code, "warning", f"{message}.", id=sample.id, path=path, advice=advice)


def suspect_masks(index: Index, masks: Mapping[Path, MaskFacts]) -> Iterator[Finding]:
    """Name masks that decode and fit but deserve a look.

    Defects that touch the border, specks, areas far from the type's median (by more than
    ``OUTLIER_DEVIATIONS`` robust standard deviations of the log area and a factor of
    ``OUTLIER_FACTOR``), and, once for each type, soft masks and label maps.
    """
    by_type: dict[tuple[str, str], list[tuple[Sample, Path, MaskFacts]]] = defaultdict(list)
    for sample in index:
        if sample.mask is not None and masks[sample.mask].areas:
            key = sample.category, sample.defect_type
            by_type[key].append((sample, sample.mask, masks[sample.mask]))
    for (category, defect_type), members in sorted(by_type.items()):
        name = f"{category}/ground_truth/{defect_type}"
        yield from _unusual_kinds(name, [fact for _, _, fact in members])
        areas = [sum(fact.areas) for _, _, fact in members]
        middle, spread = _log_spread(areas)
        for (sample, mask, fact), area in zip(members, areas, strict=True):
            path = relative_path(mask, index.root)
            if fact.touches_border:
                yield Finding(
                    "mask-border",
                    "info",
                    f"{path} reaches the border of the image.",
                    id=sample.id,
                    path=path,
                    advice="A defect that is cut off, or a stray line at the border: look at it.",
                )
            if specks := sum(region < SPECK_AREA for region in fact.areas):
                yield Finding(
                    "mask-specks",
                    "warning",
                    f"{path}: {specks} of {len(fact.areas)} regions are smaller than {SPECK_AREA} "
                    "pixels.",
                    id=sample.id,
                    path=path,
                    advice="Slips of the annotation tool count as whole defects in PRO.",
                )
            factor = math.exp(abs(math.log(area) - middle))
            if (
                len(members) >= _OUTLIER_SAMPLE
                and factor > OUTLIER_FACTOR
                and math.log(factor) > OUTLIER_DEVIATIONS * spread
            ):
                yield Finding(
                    "mask-area",
                    "warning",
                    f"{path} covers {area:,} pixels, {factor:,.0f} times "
                    f"{'more' if math.log(area) > middle else 'less'} than the median of "
                    f"{defect_type} ({math.exp(middle):,.0f}).",
                    id=sample.id,
                    path=path,
                    advice="Look whether it is the mask of another image or another type.",
                )


def _unusual_kinds(name: str, facts: list[MaskFacts]) -> Iterator[Finding]:
    soft = sum(fact.rule == "threshold" for fact in facts)
    if soft:
        yield Finding(
            "mask-soft",
            "info",
            f"{soft} of {len(facts)} masks in {name} have grey values in between; from half of "
            "the range on is defect.",
            path=name,
        )
    maps = [fact for fact in facts if fact.rule == "labels"]
    if maps:
        classes = max(fact.classes for fact in maps)
        yield Finding(
            "mask-labels",
            "info",
            f"{len(maps)} of {len(facts)} masks in {name} are label maps of up to {classes} "
            "classes; all of them are defect.",
            path=name,
        )


def _log_spread(areas: list[int]) -> tuple[float, float]:
    """Return the median of the log areas and their standard deviation, robustly estimated."""
    logs = [math.log(area) for area in areas]
    middle = median(logs)
    return middle, 1.4826 * median(abs(value - middle) for value in logs)
