"""Images that look the same, in groups: however many there are, memory stays bounded.

Two images are near when their gradient hashes differ in at most ``NEAR_FRACTION`` of the bits in
which two images of their category differ on average, and their aspect ratios agree within
``ASPECT_TOLERANCE``. Measuring against the category's own average keeps parts photographed in one
fixed position, whose outlines agree in most bits, from all being called duplicates.
``docs/audit.md`` justifies the numbers.

Near images are followed from one to the next. Where that would join more than ``largest_group``
images, they are no copies of one part: the category looks alike, and there the limit is lowered
until no group is larger. All that is remembered of the pairs is a minimum spanning forest, which
has the same groups as all pairs at every limit, their number, and the closest.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.dataset.duplicates.forest import Edges, Forest
from threecad.images.hashing import GRADIENT_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from threecad.dataset.samples import Sample
    from threecad.images.facts import ImageFacts

__all__ = [
    "ASPECT_TOLERANCE",
    "CLOSEST",
    "LEAST_DISTANCE",
    "NEAR_FRACTION",
    "NearAcross",
    "NearGroup",
    "NearPair",
    "NearSurvey",
    "find_near",
    "find_near_across",
    "largest_group",
    "survey_near",
    "typical_distance",
]

NEAR_FRACTION = 0.18
"""Share of the typical distance at which two images count as nearly the same."""

LEAST_DISTANCE = 40
"""Typical distance below which the images of a category are too alike to be told apart."""

ASPECT_TOLERANCE = 0.05
"""Largest relative difference of the aspect ratios of two near duplicates."""

CLOSEST = 10_000
"""So many pairs are remembered, the closest ones; all are counted."""

_LARGEST, _LARGEST_SHARE, _ALWAYS = 50, 4, 5
_BLOCK = 1024


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


@dataclass(frozen=True)
class NearGroup:
    """Samples that look the same, one after the other.

    Attributes:
        ids: Their ids, sorted.
        pairs: Those of them that are near each other, closest first.
    """

    ids: tuple[str, ...]
    pairs: tuple[NearPair, ...]


@dataclass(frozen=True)
class NearSurvey:
    """What of some samples looks the same.

    Attributes:
        groups: Groups of at most ``largest_group`` images, outside of ``alike``.
        alike: Images that follow from one to the next into more than that: they look alike, and are
            no copies of one part.
        closer: Groups among ``alike`` under a lowered limit, which leaves no group too large.
        pairs: How many pairs are near.
        closest: The closest of them, at most ``CLOSEST``.
    """

    groups: tuple[NearGroup, ...]
    alike: tuple[str, ...]
    closer: tuple[tuple[str, ...], ...]
    pairs: int
    closest: tuple[NearPair, ...]


@dataclass(frozen=True)
class NearAcross:
    """What looks the same in two categories.

    Attributes:
        pairs: How many pairs do.
        closest: The closest of them.
    """

    pairs: int
    closest: NearPair


def largest_group(images: int) -> int:
    """Return how many of ``images`` are at most taken for copies of one part.

    50, but no more than a quarter of the images; five always.
    """
    return min(_LARGEST, max(images // _LARGEST_SHARE, _ALWAYS))


def survey_near(
    samples: Iterable[Sample],
    facts: Mapping[Path, ImageFacts],
    *,
    fraction: float = NEAR_FRACTION,
) -> NearSurvey:
    """Return the groups of images that are nearly, but not exactly, the same.

    All pairs are compared, of samples of several categories across them, too, by blocked matrix
    products: memory grows with the number of images, not with its square. Of equal pixels in one
    folder only the first (by id) takes part. Categories whose ``typical_distance`` is below
    ``LEAST_DISTANCE`` yield nothing.
    """
    search = _Search(samples, facts, fraction)
    forest = Forest(len(search.ids))
    closest = _Closest()
    for block in search.blocks():
        forest.add(block)
        closest.add(block)
    cap = largest_group(len(search.ids))
    joined, crowded = forest.groups(cap)
    groups, closer = [], []
    for members in _members(joined):
        ids = tuple(sorted(search.ids[i] for i in members))
        if crowded[members[0]]:
            closer.append(ids)
        else:
            groups.append(NearGroup(ids, tuple(sorted(search.pairs(members), key=_closeness))))
    return NearSurvey(
        tuple(sorted(groups, key=lambda group: (_closeness(group.pairs[0]), group.ids))),
        tuple(sorted(search.ids[i] for i in np.flatnonzero(crowded))),
        tuple(sorted(closer)),
        closest.seen,
        tuple(sorted((search.pair(*edge) for edge in closest.edges()), key=_closeness)),
    )


def find_near(
    samples: Iterable[Sample],
    facts: Mapping[Path, ImageFacts],
    *,
    fraction: float = NEAR_FRACTION,
) -> list[NearPair]:
    """Return the pairs of images that are nearly the same, closest first; at most ``CLOSEST``."""
    search, closest = _Search(samples, facts, fraction), _Closest()
    for block in search.blocks():
        closest.add(block)
    return sorted((search.pair(*edge) for edge in closest.edges()), key=_closeness)


def find_near_across(
    samples: Iterable[Sample],
    facts: Mapping[Path, ImageFacts],
    *,
    fraction: float = NEAR_FRACTION,
) -> dict[tuple[str, str], NearAcross]:
    """Return what looks the same in each two categories, where anything does."""
    search = _Search(samples, facts, fraction)
    found: dict[tuple[str, str], NearAcross] = {}
    for block in search.blocks(across_only=True):
        for (one, other), edges in search.by_categories(block):
            i, j, distance = (int(column[0]) for column in (edges.i, edges.j, edges.distance))
            closest, number = search.pair(i, j, distance), len(edges)
            if before := found.get((one, other)):
                number += before.pairs
                closest = min(closest, before.closest, key=_closeness)
            found[one, other] = NearAcross(number, closest)
    return dict(sorted(found.items()))


def typical_distance(samples: Iterable[Sample], facts: Mapping[Path, ImageFacts]) -> float:
    """Return the mean number of hash bits in which two of the images differ, of 544."""
    hashes = [facts[s.image].gradients for s in samples if facts[s.image].gradients]
    if not hashes:
        return 0.0
    means = _unpack(hashes).mean(axis=0)
    return _expected_distance(means, means)


def _closeness(pair: NearPair) -> tuple[int, str, str]:
    return pair.distance, pair.first, pair.second


class _Search:
    """The gradient hashes of some samples, in order of category and id, and their near pairs."""

    def __init__(
        self, samples: Iterable[Sample], facts: Mapping[Path, ImageFacts], fraction: float
    ) -> None:
        unique: dict[tuple[str, ...], Sample] = {}
        for sample in sorted(samples, key=lambda sample: sample.id):
            if pixels := facts[sample.image].pixels:
                place = (pixels, sample.category, sample.split, sample.defect_type)
                unique.setdefault(place, sample)
        ordered = sorted(unique.values(), key=lambda sample: (sample.category, sample.id))
        known = [facts[sample.image] for sample in ordered]
        self.ids = [sample.id for sample in ordered]
        self._bits = _unpack([fact.gradients for fact in known])  # (N, 544)
        self._log_aspect = np.log([fact.width / fact.height for fact in known])
        self._pixels = np.unique([fact.pixels for fact in known], return_inverse=True)[1]
        self._names, self._category = np.unique(
            [sample.category for sample in ordered], return_inverse=True
        )
        self._limits = self._measure(fraction)

    def _measure(self, fraction: float) -> npt.NDArray[np.int16]:
        """Return the limit for each pair of categories; below 0 where nothing is near."""
        number = len(self._names)
        means = [self._bits[self._category == c].mean(axis=0) for c in range(number)]
        limits = np.full((number, number), -1, np.int16)
        for a in range(number):
            for b in range(number):
                typical = _expected_distance(means[a], means[b])
                if typical >= LEAST_DISTANCE:
                    limits[a, b] = int(fraction * typical)
        return limits

    def blocks(self, *, across_only: bool = False) -> Iterator[Edges]:
        """Yield the near pairs, a bounded number at a time.

        Args:
            across_only: Only those of two categories.
        """
        for top in range(0, len(self.ids), _BLOCK):
            rows = self._signs(slice(top, top + _BLOCK))
            for left in range(top, len(self.ids), _BLOCK):
                if across_only and self._category[top] == self._category[left : left + _BLOCK][-1]:
                    continue  # samples are in order of category, so all of the block are of one
                columns = self._signs(slice(left, left + _BLOCK))
                distances = (GRADIENT_BITS - rows @ columns.T) / 2  # exact: small whole numbers
                limits = self._limits[
                    np.ix_(self._category[top : top + _BLOCK], self._category[left : left + _BLOCK])
                ]
                i, j = np.nonzero(distances <= limits)
                edges = Edges(
                    (i + top).astype(np.int32),
                    (j + left).astype(np.int32),
                    distances[i, j].astype(np.int16),
                )
                fitting = self._fitting(edges)
                if across_only:
                    fitting &= self._category[edges.i] != self._category[edges.j]
                yield edges.take(fitting)

    def by_categories(self, edges: Edges) -> Iterator[tuple[tuple[str, str], Edges]]:
        """Yield the edges of each two categories, closest first."""
        edges = edges.sorted()
        pairs = self._category[edges.i] * len(self._names) + self._category[edges.j]
        for pair in np.unique(pairs):
            one, other = divmod(int(pair), len(self._names))
            yield (str(self._names[one]), str(self._names[other])), edges.take(pairs == pair)

    def _fitting(self, edges: Edges) -> npt.NDArray[np.bool_]:
        """Tell which edges are one of two, of like aspect ratio and not of equal pixels."""
        i, j = edges.i, edges.j
        apart = np.abs(self._log_aspect[i] - self._log_aspect[j])
        fitting: npt.NDArray[np.bool_] = (
            (i < j) & (apart <= np.log1p(ASPECT_TOLERANCE)) & (self._pixels[i] != self._pixels[j])
        )
        return fitting

    def _signs(self, rows: slice) -> npt.NDArray[np.float32]:
        """Return hashes as ±1, so that a dot product counts agreeing bits."""
        return self._bits[rows].astype(np.float32) * 2 - 1

    def pairs(self, members: list[int]) -> Iterator[NearPair]:
        """Yield the near pairs among a few samples."""
        for position, i in enumerate(members):
            others = np.array(members[position + 1 :], np.int32)
            distances = (self._bits[i] != self._bits[others]).sum(axis=1)
            edges = Edges(np.full(len(others), i, np.int32), others, distances.astype(np.int16))
            limits = self._limits[self._category[i], self._category[others]]
            for one in np.flatnonzero((distances <= limits) & self._fitting(edges)):
                yield self.pair(i, int(others[one]), int(distances[one]))

    def pair(self, i: int, j: int, distance: int) -> NearPair:
        first, second = sorted((self.ids[i], self.ids[j]))
        limit = int(self._limits[self._category[i], self._category[j]])
        return NearPair(first, second, distance, limit)


class _Closest:
    """The number of pairs, and the closest of them."""

    def __init__(self) -> None:
        self.seen = 0
        self._edges = Edges.none()

    def add(self, edges: Edges) -> None:
        self.seen += len(edges)
        if len(edges) > CLOSEST:  # sorting all would take longer than finding them
            last = np.partition(edges.distance, CLOSEST)[CLOSEST]
            edges = edges.take(edges.distance <= last)
        self._edges = (self._edges + edges).sorted().take(slice(CLOSEST))

    def edges(self) -> Iterator[tuple[int, int, int]]:
        edges = self._edges
        yield from zip(edges.i.tolist(), edges.j.tolist(), edges.distance.tolist(), strict=True)


def _members(joined: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield the positions of each group of two or more."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, first in enumerate(joined.tolist()):
        members[first].append(position)
    return (group for group in members.values() if len(group) > 1)


def _unpack(hashes: list[str]) -> npt.NDArray[np.uint8]:
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8)
    return np.unpackbits(packed.reshape(len(hashes), GRADIENT_BITS // 8), axis=1)


def _expected_distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the mean distance of a random image of the one category from one of the other."""
    return float((one * (1 - other) + other * (1 - one)).sum())
