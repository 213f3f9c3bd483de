"""Whether a difference between methods on the same images means anything.

Of two methods: the difference of image AUROC, its interval by a paired bootstrap over images, and
DeLong's test (DeLong, DeLong and Clarke-Pearson, 1988, Biometrics 44, 837). Of several: Holm's
correction (1979, Scandinavian Journal of Statistics 6, 65). Over categories: mean ranks, Friedman's
test, and Nemenyi's critical difference (Demšar, 2006, Journal of Machine Learning Research 7, 1).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from threecad.evaluation.results import Result

__all__ = ["Difference", "Ranks", "Significance", "correct_by_holm", "delong", "judge", "rank"]

ALPHA = 0.05
REPLICATES = 2000
LEAST_CATEGORIES, LEAST_METHODS = 3, 3


class Category(NamedTuple):
    """The images of a category: labels ``(N,)``, and scores ``(M, N)`` of M methods."""

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How two methods differ in image AUROC, in the mean over categories.

    Attributes:
        better: The method with the higher figure.
        worse: The other.
        images: Number of images.
        difference: The figure of the better less that of the other.
        interval: Its 95 % paired bootstrap interval.
        p: DeLong's p-value, two-sided; ``None`` where the scores leave the test no variance.
        p_holm: The same after Holm's correction over all pairs.
        comparisons: Number of pairs.
    """

    better: str
    worse: str
    images: int
    difference: float
    interval: tuple[float, float]
    p: float | None
    p_holm: float | None
    comparisons: int

    @property
    def established(self) -> bool:
        """Whether the difference is significant at 5 % after the correction."""
        return self.p_holm is not None and self.p_holm < ALPHA

    def __str__(self) -> str:
        """Return the sentence that a careful author would write."""
        low, high = (100 * limit for limit in self.interval)
        verdict = "established" if self.established else "not established"
        if self.p is None or self.p_holm is None:
            test = "DeLong's test has no variance here: not established"
        elif self.comparisons == 1:
            test = f"DeLong {_say_p(self.p)}: {verdict}"
        else:
            test = (
                f"DeLong {_say_p(self.p)}; after Holm over {self.comparisons} comparisons "
                f"{_say_p(self.p_holm)}: {verdict}"
            )
        begin = f"On {self.images:,} images {self.better}"
        if not self.difference:
            return f"{begin} and {self.worse} have the same image AUROC ({test})."
        return (
            f"{begin} exceeds {self.worse} by {100 * self.difference:.1f} points of image AUROC "
            f"(95 % {low:.1f} to {high:.1f}, {test})."
        )


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over categories; 1 is best.

    Attributes:
        mean: Method → mean rank, best first.
        categories: Number of categories.
        p: Friedman's p-value.
        critical_difference: Mean ranks further apart than this differ (Nemenyi, 5 %).
    """

    mean: dict[str, float]
    categories: int
    p: float
    critical_difference: float

    def __str__(self) -> str:
        """Return a sentence."""
        order = ", ".join(f"{name} {value:.2f}" for name, value in self.mean.items())
        text = f"Mean ranks over {self.categories} categories: {order} (Friedman {_say_p(self.p)}"
        if self.p >= ALPHA:
            return f"{text}: no method is shown to differ from another)."
        apart = [
            f"{a} and {b}"
            for a, b in combinations(self.mean, 2)
            if self.mean[b] - self.mean[a] > self.critical_difference
        ]
        found = f"apart are {', '.join(apart)}" if apart else "no pair is further apart"
        return f"{text}; critical difference {self.critical_difference:.2f}: {found})."


@dataclass(frozen=True)
class Significance:
    """All differences between methods, and their ranks where there are enough of both."""

    differences: list[Difference]
    ranks: Ranks | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "figure": "image_auroc",
            "differences": [
                {**asdict(d), "interval": list(d.interval), "established": d.established}
                for d in self.differences
            ],
            "ranks": None if self.ranks is None else asdict(self.ranks),
        }

    def __str__(self) -> str:
        """Return a sentence per line."""
        lines = [str(difference) for difference in self.differences]
        return "\n".join([*lines, *([] if self.ranks is None else [str(self.ranks)])])


def judge(
    results: Mapping[str, Result], *, replicates: int = REPLICATES, seed: int = 0
) -> Significance:
    """Test all pairs of methods for a difference of image AUROC on the same images.

    Args:
        results: Name → result of ``threecad.evaluate``, which holds the score of each image.
        replicates: Number of bootstrap replicates.
        seed: Seed of the bootstrap.

    Raises:
        UsageError: If there are fewer than two results, one holds no images, or they are not of
            the same images with the same labels.
    """
    names = list(results)
    if len(names) < 2:
        raise UsageError("A test needs two results or more of the same images.")
    categories = _align(results)
    figures = np.array([auroc(category) for category in categories.values()])  # (C, M)
    means = figures.mean(0)
    moved = np.mean(
        [
            _resample(category, replicates, np.random.default_rng([seed, zlib.crc32(c.encode())]))
            for c, category in categories.items()
        ],
        axis=0,
    )
    covariance = np.sum([delong(category) for category in categories.values()], axis=0)
    covariance = covariance / len(categories) ** 2
    images = sum(category.labels.size for category in categories.values())
    pairs = [
        (i, j) if means[i] >= means[j] else (j, i) for i, j in combinations(range(len(names)), 2)
    ]
    tested = [_p_value(means[i] - means[j], _variance(covariance, i, j)) for i, j in pairs]
    corrected = correct_by_holm(tested)
    differences = []
    for (i, j), p, p_holm in zip(pairs, tested, corrected, strict=True):
        low, high = np.quantile(moved[:, i] - moved[:, j], [0.025, 0.975])
        differences.append(
            Difference(
                names[i],
                names[j],
                images,
                float(means[i] - means[j]),
                (float(low), float(high)),
                p,
                p_holm,
                len(pairs),
            )
        )
    enough = len(categories) >= LEAST_CATEGORIES and len(names) >= LEAST_METHODS
    return Significance(differences, rank(names, figures) if enough else None)


def auroc(category: Category) -> NDArray[np.float64]:
    """Return image AUROC of each method, ``(M,)``; ties count half."""
    good, defective = category.scores[:, ~category.labels], category.scores[:, category.labels]
    ranks = stats.rankdata(category.scores, axis=1)[:, category.labels].sum(1)
    n, m = defective.shape[1], good.shape[1]
    found: NDArray[np.float64] = (ranks - n * (n + 1) / 2) / (n * m)
    return found


def delong(category: Category) -> NDArray[np.float64]:
    """Return DeLong's covariance of the methods' AUROC, ``(M, M)``.

    By midranks (Sun and Xu, 2014, IEEE Signal Processing Letters 21, 1389).
    """
    defective, good = category.scores[:, category.labels], category.scores[:, ~category.labels]
    n, m = defective.shape[1], good.shape[1]
    among_all = stats.rankdata(np.hstack([defective, good]), axis=1)
    above_good = (among_all[:, :n] - stats.rankdata(defective, axis=1)) / m
    below_defective = 1 - (among_all[:, n:] - stats.rankdata(good, axis=1)) / n
    spread = np.atleast_2d(np.cov(above_good)) / n + np.atleast_2d(np.cov(below_defective)) / m
    return np.asarray(spread, np.float64)


def correct_by_holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's correction; an undefined one counts as a comparison."""
    sizes = [math.inf if value is None else value for value in values]
    order = sorted(range(len(values)), key=sizes.__getitem__)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for place, i in enumerate(order):
        p = values[i]
        if p is not None:
            highest = max(highest, min(1.0, (len(values) - place) * p))
            corrected[i] = highest
    return corrected


def rank(names: Sequence[str], figures: NDArray[np.float64]) -> Ranks:
    """Return the mean ranks of methods from their figures, ``(C, M)``, higher is better."""
    count, methods = figures.shape
    ranks = stats.rankdata(-figures, axis=1).mean(0)
    same = bool((figures == figures[:, :1]).all())
    p = 1.0 if same else float(stats.friedmanchisquare(*figures.T).pvalue)
    quantile = stats.studentized_range.ppf(1 - ALPHA, methods, np.inf) / math.sqrt(2)
    critical = quantile * math.sqrt(methods * (methods + 1) / (6 * count))
    order = np.argsort(ranks, kind="stable")
    return Ranks({names[i]: float(ranks[i]) for i in order}, count, p, float(critical))


def _align(results: Mapping[str, Result]) -> dict[str, Category]:
    """Return labels and scores of the images, the same for all results, by category."""
    first, *others = results
    for name, result in results.items():
        if not result.images:
            raise UsageError(
                f"{name} does not hold the scores of its images, which tests need. Evaluate again "
                "with `threecad evaluate --out`."
            )
    expected = results[first]
    for name in others:
        result = results[name]
        differing = [
            sample_id
            for sample_id in sorted(expected.images.keys() | result.images.keys())
            if expected.images.get(sample_id, {}).get("label")
            != result.images.get(sample_id, {}).get("label")
        ]
        prints = [r.provenance.get("fingerprint") for r in (expected, result)]
        if differing or prints[0] != prints[1]:
            example = f", such as {differing[0]}" if differing else ""
            raise UsageError(
                f"{first} and {name} are not of the same images (fingerprints {prints[0]} and "
                f"{prints[1]}{example}). Evaluate both on the same tree, split and errata."
            )
    categories: dict[str, Category] = {}
    for category in expected.by_category:
        ids = [i for i in sorted(expected.images) if i.partition("/")[0] == category]
        labels = np.array([expected.images[i]["label"] == 1 for i in ids], np.bool_)
        if min(labels.sum(), (~labels).sum()) < 2:
            raise UsageError(
                f"{category} has {labels.sum()} defective and {(~labels).sum()} good images; a "
                "test needs two of each or more."
            )
        scores = [[result.images[i]["score"] for i in ids] for result in results.values()]
        categories[category] = Category(labels, np.array(scores, np.float64))
    return categories


def _resample(
    category: Category, replicates: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return image AUROC ``(R, M)`` in replicates that draw the same images for all methods."""
    defective, good = np.flatnonzero(category.labels), np.flatnonzero(~category.labels)
    ordered = np.sort(category.scores[:, good], axis=1)
    drawn_defective = generator.multinomial(
        defective.size, np.full(defective.size, 1 / defective.size), size=replicates
    )
    drawn_good = generator.multinomial(
        good.size, np.full(good.size, 1 / good.size), size=replicates
    )
    found = np.empty((replicates, len(category.scores)))
    for method, scores in enumerate(category.scores):
        place = np.argsort(scores[good], kind="stable")
        running = np.zeros((replicates, good.size + 1))
        running[:, 1:] = np.cumsum(drawn_good[:, place], axis=1)
        below = np.searchsorted(ordered[method], scores[defective], side="left")
        upto = np.searchsorted(ordered[method], scores[defective], side="right")
        wins = (running[:, below] + running[:, upto]) / 2
        found[:, method] = (drawn_defective * wins).sum(1) / (good.size * defective.size)
    return found


def _variance(covariance: NDArray[np.float64], i: int, j: int) -> float:
    return float(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])


def _p_value(difference: float, variance: float) -> float | None:
    if variance <= 1e-14:
        return 1.0 if abs(difference) < 1e-12 else None
    return float(2 * stats.norm.sf(abs(difference) / math.sqrt(variance)))


def _say_p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
