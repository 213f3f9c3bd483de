"""Which image is for training, validation and test.

A split is made from groups of duplicates, never from single images, so that one picture cannot be
on two sides. The order in which groups are drawn is that of the SHA-256 of seed and group name: it
depends on neither the platform nor the other categories, and fewer shots, or a smaller fraction,
are always a part of more. A picture that two categories share counts in each as if it were alone,
as for detectors of one category; ``across_categories`` keeps it on one side for those of all.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, get_args

from threecad.dataset.duplicates.exact import duplicate_groups
from threecad.dataset.split_files import SplitFile, SplitRow
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from threecad.dataset.samples import Index, Sample, Split

__all__ = ["SplitKind", "split"]

SplitKind = Literal[
    "official", "few-shot", "k-fold", "holdout", "leak-free", "supervised", "one-class", "noisy"
]

_IN_TEST = "the same picture is a test image"


def split(
    index: Index,
    kind: SplitKind,
    *,
    seed: int = 0,
    shots: int | None = None,
    folds: int | None = None,
    fraction: float | None = None,
    near: bool = False,
    across_categories: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> SplitFile:
    """Divide the samples of ``index``.

    ===========  ==================================================================================
    kind         what it does
    ===========  ==================================================================================
    official     as in the tree
    leak-free    as in the tree, less the training images that are test images too
    holdout      ``fraction`` of the training images to validation; the test images as in the tree
    few-shot     ``shots`` training images per category; the test images as in the tree
    k-fold       the good images in ``folds`` parts, each held out once; every defect is tested
    supervised   training, validation and test with defects in each; ``fraction`` each for the
                 latter two
    one-class    training with good images alone: every defect is tested, and ``fraction`` of the
                 good images
    noisy        ``fraction`` of the defective test images moved into training
    ===========  ==================================================================================

    Every kind but ``official`` keeps the duplicates of a category on one side, leaving a training
    image out where its duplicate is a test image, and draws per category and defect type.

    Args:
        index: What to divide; samples with split ``val`` count as training images.
        kind: One of the kinds above.
        seed: Chooses the draw.
        shots: For ``few-shot``, default 4.
        folds: For ``k-fold``, default 5.
        fraction: For ``holdout`` (default 0.2), ``supervised`` (0.15), ``one-class`` (0.2) and
            ``noisy`` (0.1).
        near: Keep near duplicates together as well as pixel-identical images.
        across_categories: Keep duplicates of several categories together, too, for a detector of
            all of them. The split of a category then depends on the others.
        workers: Worker processes that look for duplicates.
        cluster: Where to run them, if not here; see ``threecad.system.parallel.map``.
        progress: Show a progress bar on stderr.

    Returns:
        The split. Nothing is written yet; call its ``save``.

    Raises:
        UsageError: If an option does not belong to ``kind``, is out of its range, or asks for more
            images than there are.
    """
    if kind not in get_args(SplitKind):
        raise UsageError(f"Split kind {kind!r} is none of {', '.join(get_args(SplitKind))}.")
    if not len(index):
        raise UsageError(f"There are no images to split in {index.root}.")
    given = {"shots": shots, "folds": folds, "fraction": fraction}
    options = _options(kind, {name: value for name, value in given.items() if value is not None})
    if kind == "official":
        groups = {sample.id: sample.id for sample in index}
    else:
        groups = duplicate_groups(
            index,
            near=near,
            across_categories=across_categories,
            workers=workers,
            cluster=cluster,
            progress=progress,
        )
    plan = _Plan()
    units = sorted(_units(index, groups, seed), key=lambda unit: (unit.category, unit.rank))
    for _, members in groupby(units, key=lambda unit: unit.category):
        _KINDS[kind](list(members), plan, **options)
    rows = [
        SplitRow.of(sample, index.root, *plan.placed[sample.id])
        for sample in index
        if sample.id in plan.placed
    ]
    if kind != "official":
        options["near"] = near
        if across_categories:
            options["across_categories"] = True
    if index.errata_digest is not None:
        options["errata"] = index.errata_digest
    return SplitFile(
        tuple(rows), kind, seed, options, index.fingerprint, plan.left_out, tuple(plan.notes)
    )


_DEFAULTS: dict[str, dict[str, Any]] = {
    "few-shot": {"shots": 4},
    "k-fold": {"folds": 5},
    "holdout": {"fraction": 0.2},
    "supervised": {"fraction": 0.15},
    "one-class": {"fraction": 0.2},
    "noisy": {"fraction": 0.1},
}


def _options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``kind`` with what was given, or its defaults.

    Raises:
        UsageError: If one does not belong to ``kind`` or is out of its range.
    """
    known = _DEFAULTS.get(kind, {})
    for name in given:
        if name not in known:
            owners = ", ".join(owner for owner in _DEFAULTS if name in _DEFAULTS[owner])
            raise UsageError(f"{name} has no meaning for a {kind} split, only for: {owners}.")
    options = {**known, **given}
    highest = 0.5 if kind == "supervised" else 1
    if "fraction" in options and not 0 < options["fraction"] < highest:
        raise UsageError(
            f"fraction is {options['fraction']}; for a {kind} split it is between 0 and {highest}."
        )
    for name, lowest in (("shots", 1), ("folds", 2)):
        if name in options and options[name] < lowest:
            raise UsageError(f"{name} is {options[name]}; expected at least {lowest}.")
    return options


@dataclass(frozen=True, eq=False)
class _Unit:
    """Samples that stay together, sorted by id: duplicates of each other, or a single one.

    If they are of several categories, the first one decides on all of them.
    """

    rank: bytes
    samples: tuple[Sample, ...]

    @property
    def category(self) -> str:
        return self.samples[0].category

    @property
    def stratum(self) -> str:
        mine = (sample for sample in self.samples if sample.category == self.category)
        return "|".join(sorted({sample.defect_type for sample in mine}))

    @property
    def touches_test(self) -> bool:
        return any(sample.split == "test" for sample in self.samples)

    @property
    def touches_defect(self) -> bool:
        return any(sample.label for sample in self.samples)


def _units(index: Index, groups: Mapping[str, str], seed: int) -> Iterable[_Unit]:
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in index:
        members[groups[sample.id]].append(sample)
    for name, together in members.items():
        yield _Unit(hashlib.sha256(f"{seed}/{name}".encode()).digest(), tuple(together))


class _Plan:
    """Where each sample goes, and what does not go anywhere."""

    def __init__(self) -> None:
        self.placed: dict[str, tuple[Split, int | None]] = {}
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []

    def place(self, samples: Iterable[Sample], split: Split, fold: int | None = None) -> None:
        for sample in samples:
            self.placed[sample.id] = (split, fold)

    def leave_out(self, samples: Iterable[Sample], reason: str) -> None:
        for sample in samples:
            self.left_out[sample.id] = reason

    def keep_test(self, units: Iterable[_Unit]) -> list[_Unit]:
        """Place the test images as they are; return the units that are free to be trained on."""
        free = []
        for unit in units:
            self.place((s for s in unit.samples if s.split == "test"), "test")
            if unit.touches_test:
                self.leave_out((s for s in unit.samples if s.split != "test"), _IN_TEST)
            else:
                free.append(unit)
        return free


def _official(units: list[_Unit], plan: _Plan) -> None:
    for unit in units:
        for sample in unit.samples:
            plan.place([sample], sample.split)


def _leak_free(units: list[_Unit], plan: _Plan) -> None:
    for unit in plan.keep_test(units):
        for sample in unit.samples:
            plan.place([sample], sample.split)


def _holdout(units: list[_Unit], plan: _Plan, fraction: float) -> None:
    free = plan.keep_test(units)
    held_out: set[_Unit] = set()
    for stratum in _strata(free):
        held_out |= _draw(stratum, fraction)
    if not held_out:
        raise UsageError(
            f"{units[0].category} has {len(free)} different training image(s) that are not test "
            "images too: too few to hold any out."
        )
    for unit in free:
        plan.place(unit.samples, "val" if unit in held_out else "train")


def _few_shot(units: list[_Unit], plan: _Plan, shots: int) -> None:
    free = [unit for unit in plan.keep_test(units) if not unit.touches_defect]
    if len(free) < shots:
        raise UsageError(
            f"{units[0].category} has {len(free)} different good training images that are not "
            f"test images too, fewer than shots={shots}."
        )
    for unit in free[:shots]:
        plan.place(unit.samples[:1], "train")


def _k_fold(units: list[_Unit], plan: _Plan, folds: int) -> None:
    sizes = dict.fromkeys(range(folds), 0)
    for unit in units:
        if unit.touches_defect:
            plan.place(unit.samples, "test")
            continue
        fold = min(sizes, key=lambda number: (sizes[number], number))
        sizes[fold] += len(unit.samples)
        plan.place(unit.samples, "train", fold)
    if not all(sizes.values()):
        raise UsageError(
            f"{units[0].category} has too few different good images for {folds} folds."
        )


def _supervised(units: list[_Unit], plan: _Plan, fraction: float) -> None:
    for stratum in _strata(units):
        test = _draw(stratum, fraction)
        rest = [unit for unit in stratum if unit not in test]
        # The same share of the whole, so a larger one of what is left.
        share = fraction * _images(stratum) / _images(rest)
        val = _draw(rest, share)
        for unit in stratum:
            plan.place(unit.samples, "test" if unit in test else "val" if unit in val else "train")
        if not val:
            plan.notes.append(
                f"{stratum[0].category}: {stratum[0].stratum} has {len(stratum)} different "
                f"image(s), too few for three parts; {'val has' if test else 'val and test have'} "
                "none."
            )


def _one_class(units: list[_Unit], plan: _Plan, fraction: float) -> None:
    good = [unit for unit in units if not unit.touches_defect]
    tested = _draw(good, fraction)
    if not tested:
        raise UsageError(
            f"{units[0].category} has {len(good)} different good image(s) that are not defective "
            "ones too: too few to train with some and test with others."
        )
    for unit in units:
        # The good copy of a defective image is tested with it.
        trained_on = not unit.touches_defect and unit not in tested
        plan.place(unit.samples, "train" if trained_on else "test")


def _noisy(units: list[_Unit], plan: _Plan, fraction: float) -> None:
    free = plan.keep_test(units)
    for unit in free:
        plan.place(unit.samples, "train")
    movable = [
        unit
        for unit in units
        if all(sample.label and sample.split == "test" for sample in unit.samples)
    ]
    for stratum in _strata(movable):
        for unit in _draw(stratum, fraction):
            plan.place(unit.samples, "train")


_KINDS: dict[str, Callable[..., None]] = {
    "official": _official,
    "few-shot": _few_shot,
    "k-fold": _k_fold,
    "holdout": _holdout,
    "leak-free": _leak_free,
    "supervised": _supervised,
    "one-class": _one_class,
    "noisy": _noisy,
}


def _strata(units: Iterable[_Unit]) -> list[list[_Unit]]:
    """Return the units by defect type, each list in drawing order."""
    strata: dict[str, list[_Unit]] = defaultdict(list)
    for unit in units:
        strata[unit.stratum].append(unit)
    return [strata[name] for name in sorted(strata)]


def _draw(units: list[_Unit], fraction: float) -> set[_Unit]:
    """Return the first units that together hold ``fraction`` of the images.

    Of two units or more at least one is drawn and at least one is not; a single one is not drawn.
    """
    quota, count = fraction * _images(units), 0
    drawn: set[_Unit] = set()
    for unit in units[:-1]:
        # Half an image more or less is as close as whole images come to a fraction.
        if drawn and count + len(unit.samples) / 2 > quota:
            break
        drawn.add(unit)
        count += len(unit.samples)
    return drawn


def _images(units: Iterable[_Unit]) -> int:
    return sum(len(unit.samples) for unit in units)
