"""Images that are there twice: exactly (by pixels) or nearly (by a perceptual hash).

Two images of one category are nearly the same when their gradient hashes differ in at most
``NEAR_FRACTION`` of the bits in which two images of that category differ on average, and their
aspect ratios agree within ``ASPECT_TOLERANCE``. Measuring against the category's own average keeps
parts photographed in one fixed position, whose outlines agree in most bits, from all being called
duplicates. ``docs/audit.md`` justifies the numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.images.facts import inspect_images
from threecad.images.hashing import GRADIENT_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from threecad.dataset.scanning import Index, Sample
    from threecad.images.facts import ImageFacts

__all__ = [
    "ASPECT_TOLERANCE",
    "LEAST_DISTANCE",
    "NEAR_FRACTION",
    "NearPair",
    "duplicate_groups",
    "find_exact",
    "find_near",
    "merge",
    "typical_distance",
]

NEAR_FRACTION = 0.18
"""Share of the typical distance at which two images count as nearly the same."""

LEAST_DISTANCE = 40
"""Typical distance below which the images of a category are too alike to be told apart."""

ASPECT_TOLERANCE = 0.05
"""Largest relative difference of the aspect ratios of two near duplicates."""

_BLOCK = 2048


@dataclass(frozen=True, order=True)
class NearPair:
    """Two samples that look the same.

    Attributes:
        first: Id of the one.
        second: Id of the other, sorted after ``first``.
        distance: Differing bits of the gradient hashes, of 544.
        limit: The largest distance that counts as near for these two categories.
    """

    first: str
    second: str
    distance: int
    limit: int


def duplicate_groups(
    index: Index,
    *,
    near: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Return, for each sample id, the smallest id among its duplicates (its own if it has none).

    Near duplicates are followed from one to the next, so a group may hold two images that are not
    themselves near. An image that does not decode has no duplicates.
    """
    facts = inspect_images(
        index.root,
        [sample.image for sample in index],
        workers=workers,
        cluster=cluster,
        description="looking for duplicates" if progress else None,
    )
    pairs = [(group[0], other) for group in find_exact(index, facts) for other in group[1:]]
    if near:
        pairs += [(pair.first, pair.second) for pair in find_near(index, facts)]
    return merge((sample.id for sample in index), pairs)


def find_exact(
    samples: Iterable[Sample], facts: Mapping[Path, ImageFacts]
) -> list[tuple[str, ...]]:
    """Return the groups of two or more ids whose images have equal pixels, sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if pixels := facts[sample.image].pixels:
            groups[pixels].append(sample.id)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def find_near(
    samples: Iterable[Sample],
    facts: Mapping[Path, ImageFacts],
    *,
    fraction: float = NEAR_FRACTION,
) -> list[NearPair]:
    """Return the pairs of images that are nearly, but not exactly, the same, closest first.

    Of images with equal pixels only the first (by id) takes part. All pairs are compared, by
    blocked matrix products: memory grows with the number of images, not with its square.
    Categories whose ``typical_distance`` is below ``LEAST_DISTANCE`` yield nothing.
    """
    unique: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda sample: sample.id):
        if pixels := facts[sample.image].pixels:
            unique.setdefault(pixels, sample)
    by_category: dict[str, list[Sample]] = defaultdict(list)
    for sample in unique.values():
        by_category[sample.category].append(sample)
    hashes = {name: _Hashes(members, facts) for name, members in sorted(by_category.items())}
    names = list(hashes)
    pairs: list[NearPair] = []
    for position, one in enumerate(names):
        for other in names[position:]:
            typical = _expected_distance(hashes[one].means, hashes[other].means)
            if typical >= LEAST_DISTANCE:
                pairs += _near_pairs(hashes[one], hashes[other], int(fraction * typical))
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


def typical_distance(samples: Iterable[Sample], facts: Mapping[Path, ImageFacts]) -> float:
    """Return the mean number of hash bits in which two of the images differ, of 544."""
    members = [sample for sample in samples if facts[sample.image].gradients]
    if not members:
        return 0.0
    means = _Hashes(members, facts).means
    return _expected_distance(means, means)


def merge(ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return, for each id, the smallest id it is connected with through ``pairs``."""
    parent = {sample_id: sample_id for sample_id in ids}

    def find(sample_id: str) -> str:
        while parent[sample_id] != sample_id:
            parent[sample_id] = parent[parent[sample_id]]
            sample_id = parent[sample_id]
        return sample_id

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        parent[high] = low
    return {sample_id: find(sample_id) for sample_id in parent}


class _Hashes:
    """The gradient hashes of one category as ±1, so that a dot product counts agreeing bits."""

    def __init__(self, samples: list[Sample], facts: Mapping[Path, ImageFacts]) -> None:
        self.ids = [sample.id for sample in samples]
        packed = b"".join(bytes.fromhex(facts[sample.image].gradients) for sample in samples)
        bits = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(len(samples), -1), axis=1)
        self.bits: npt.NDArray[np.uint8] = bits  # (N, 544)
        self.means: npt.NDArray[np.float64] = bits.mean(axis=0)
        shapes = [(facts[sample.image].width, facts[sample.image].height) for sample in samples]
        self.log_aspect = np.log([width / height for width, height in shapes])

    def signs(self, rows: slice) -> npt.NDArray[np.float32]:
        return self.bits[rows].astype(np.float32) * 2 - 1


def _expected_distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the mean distance of a random image of the one category from one of the other."""
    return float((one * (1 - other) + other * (1 - one)).sum())


def _near_pairs(one: _Hashes, other: _Hashes, limit: int) -> Iterator[NearPair]:
    for top in range(0, len(one.ids), _BLOCK):
        rows = one.signs(slice(top, top + _BLOCK))
        for left in range(top if one is other else 0, len(other.ids), _BLOCK):
            columns = other.signs(slice(left, left + _BLOCK))
            distances = (GRADIENT_BITS - rows @ columns.T) / 2  # exact: small whole numbers
            for row, column in np.argwhere(distances <= limit):
                i, j = top + int(row), left + int(column)
                if one is other and i >= j:
                    continue
                if abs(one.log_aspect[i] - other.log_aspect[j]) > np.log1p(ASPECT_TOLERANCE):
                    continue
                first, second = sorted((one.ids[i], other.ids[j]))
                yield NearPair(first, second, int(distances[row, column]), limit)
