"""What a conversion would write: everything that is decided before the first byte."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.split_files import read_split
from threecad.errors import ConversionError, UsageError
from threecad.formats.items import make_id
from threecad.formats.membership import apply_split_file, assign_splits, divide
from threecad.formats.reading.settling import account_for, settle
from threecad.formats.registry import FORMATS, TREE, choose_reader
from threecad.formats.staging import RECORD
from threecad.system import parallel
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.account import Account
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.images.masks import MaskRule

__all__ = ["Division", "Plan", "plan_conversion"]

TEST_FRACTION = 0.2
"""Of the good images that nothing assigns to a split."""

_EXAMPLES = 3


@dataclass(frozen=True)
class Division:
    """Which images are wanted, and how they are divided where the source leaves it open.

    Attributes:
        categories: Only these; all of them when empty.
        supervised: Divide anew, with defects in every split.
        test_fraction: Fraction of the good images for testing; ``None`` is 0.2.
        seed: Part of the draw.
    """

    categories: tuple[str, ...] = ()
    supervised: bool = False
    test_fraction: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be written, and what became of the rest.

    Attributes:
        source: The folder that was read.
        from_format: Name of its layout.
        detected: Why that layout was assumed; empty if it was named.
        items: The images to write, sorted by id.
        account: What became of every file and annotation.
        findings: What is wrong with the source and did not keep it from being read.
        left_out: Number of its images that were not asked for.
        lost: Number of images that an earlier conversion wrote into the source and that are gone.
        renamed: Number of images whose stem another image of the type has.
        mask_rule: Overrides the rule by which masks are binarised.
    """

    source: Path
    from_format: str
    detected: str
    items: tuple[Item, ...]
    account: Account
    findings: tuple[str, ...]
    left_out: int
    lost: int
    renamed: int
    mask_rule: MaskRule | None = None

    @cached_property
    def masks(self) -> dict[str, int]:
        """By which rule how many masks are binarised; decodes all of them.

        Raises:
            MaskError: If one cannot be.
        """
        defective = [item for item in self.items if item.label and item.mask is not None]
        rules = parallel.map(partial(_rule_of, rule=self.mask_rule), defective, batch_size=64)
        return dict(sorted(Counter(rules).items()))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images per category and ``"<split> <good|defective>"``."""
        counts: dict[str, Counter[str]] = {}
        for item in self.items:
            kind = f"{item.split} {'defective' if item.label else 'good'}"
            counts.setdefault(item.category, Counter())[kind] += 1
        return {name: dict(sorted(counter.items())) for name, counter in sorted(counts.items())}

    @property
    def types(self) -> dict[str, dict[str, int]]:
        """Number of images per ``"<category> <split>"`` and defect type."""
        counts: dict[str, Counter[str]] = {}
        for item in self.items:
            counts.setdefault(f"{item.category} {item.split}", Counter())[item.defect_type] += 1
        return {name: dict(sorted(counter.items())) for name, counter in sorted(counts.items())}

    @property
    def examples(self) -> tuple[Item, ...]:
        """Three defective images with their masks, of as many types as there are."""
        first: dict[str, Item] = {}
        masked = [item for item in self.items if item.label and item.mask is not None]
        for item in masked:
            first.setdefault(item.defect_type, item)
        others = [item for item in masked if first[item.defect_type] is not item]
        return tuple([*first.values(), *others][:_EXAMPLES])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "schema": 1,
            "source": str(self.source),
            "from_format": self.from_format,
            "detected": self.detected,
            "counts": self.counts,
            "types": self.types,
            "masks": self.masks,
            "account": self.account.to_dict(),
            "findings": list(self.findings),
            "left_out": self.left_out,
            "examples": [
                {"id": item.id, "image": str(item.image), "mask": str(item.mask)}
                for item in self.examples
            ],
        }


def plan_conversion(
    source: str | os.PathLike[str] | None,
    from_: str | None,
    options: ReadOptions,
    division: Division,
    *,
    writer: str = TREE,
    workers: int | None = None,
) -> Plan:
    """Read a source and decide everything about its images but how they are written.

    Args:
        source: The folder to read; may be ``None`` with ``options.good``.
        from_: Name of its layout; found out if ``None``.
        options: What its reader is told.
        division: Which images are wanted, and how they are divided.
        writer: Name of the layout that is to be written.
        workers: Number of processes; ``None`` is one per core.

    Raises:
        UsageError: If the arguments make no sense together.
        ConversionError: If the source is not what it should be, or anything in it is in doubt.
    """
    name, reason, opened = choose_reader(source, from_, options)
    _check_divisions(name, options, division)
    items = _read(name, opened, options, workers)
    found, base, wanted = len(items), opened.root, division.categories
    lost = _written(base, wanted) - len([item for item in items if _is_wanted(item, wanted)])
    if options.split_file is not None and name != TREE:
        items = apply_split_file(
            items, read_split(options.split_file).with_fold(options.fold), base
        )
    _check_needed(items, name, options.category, division.test_fraction)
    fraction = TEST_FRACTION if division.test_fraction is None else division.test_fraction
    items = assign_splits(items, test_fraction=fraction, seed=division.seed)
    if division.supervised:
        items = divide(items, seed=division.seed, workers=workers)
    items = _select(items, wanted, opened)
    _check_masks(items, writer)
    renamed = 0
    if FORMATS[writer].masks_by_type:
        items, renamed = _with_own_masks(items)
    return Plan(
        source=base,
        from_format=name,
        detected=reason,
        items=tuple(items),
        account=account_for(opened, items),
        findings=tuple(opened.findings),
        left_out=found - len(items),
        lost=max(lost, 0),
        renamed=renamed,
        mask_rule=options.mask_rule,
    )


def _rule_of(item: Item, rule: MaskRule | None) -> str:
    assert item.mask is not None
    return item.mask.decode(rule)[1]


def _check_divisions(name: str, options: ReadOptions, division: Division) -> None:
    if division.supervised and options.split_file is not None:
        raise UsageError(
            "`supervised=True` makes a split and `split_file` brings one. Leave one out."
        )
    if options.fold is not None and options.split_file is None:
        raise UsageError(
            "`fold` needs a split file that was made with `threecad split --kind k-fold`."
        )
    if options.errata is not None and name != TREE:
        raise UsageError(
            f"`errata` corrects a 3CAD tree, and this is {name}. Convert it to 3cad first."
        )


def _read(name: str, source: Source, options: ReadOptions, workers: int | None) -> list[Item]:
    read = FORMATS[name].read
    assert read is not None
    try:
        items = read(source, options)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        # What a layout has not foreseen in documents of other shapes is still for the user to know.
        raise ConversionError(
            f"{source.root} cannot be read as {name}: something in it has another shape than "
            f"expected ({error!r}). Check its documents, or name another layout."
        ) from error
    return settle(items, source, options, workers=workers)


def _is_wanted(item: Item, categories: Collection[str]) -> bool:
    return not categories or item.category in categories


def _written(source: Path, categories: Collection[str]) -> int:
    """Return how many images the conversion that made ``source`` wrote; 0 if that is not known."""
    try:
        record = json.loads((source / OWN_FOLDER / RECORD).read_text(encoding="utf-8"))
        return sum(
            sum(kinds.values())
            for name, kinds in record["counts"].items()
            if not categories or name in categories
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _select(items: list[Item], categories: Collection[str], source: Source) -> list[Item]:
    known = sorted({item.category for item in items})
    if unknown := sorted(set(categories) - set(known)):
        raise UsageError(f"No category {unknown[0]!r}. There are: {', '.join(known) or 'none'}.")
    chosen = [item for item in items if _is_wanted(item, categories)]
    if not chosen:
        raise ConversionError(
            f"There is no image to convert in {source.root}: of its {len(source.files)} files "
            f"{len(source.images)} are images, none of which is described as this layout does it. "
            "Check the path, or name the layout with `from_`."
        )
    return sorted(chosen, key=lambda item: item.id)


def _check_masks(items: Sequence[Item], writer: str) -> None:
    bare = [item.id for item in items if item.label and item.mask is None]
    if bare and FORMATS[writer].masks_needed:
        raise ConversionError(
            f"{len(bare)} defective images have no mask, the first is {bare[0]}. In {writer} they "
            "could not be told from good ones. Add the masks, or choose another format."
        )


def _check_needed(
    items: Sequence[Item], name: str, category: str | None, test_fraction: float | None
) -> None:
    """Refuse a category or a test fraction that the source does not leave open."""
    named = sorted({item.category for item in items})
    if category is not None and named != [unicodedata.normalize("NFC", category)]:
        raise UsageError(
            f"`category={category!r}` cannot rename what is in {name}, which names its categories "
            f"itself: {', '.join(named)}. Leave it out; `threecad convert --category` picks one."
        )
    if test_fraction is not None and all(item.split or item.label for item in items):
        raise UsageError(
            f"`test_fraction` is for images without splits, and {name} has them. Leave it out."
        )


def _with_own_masks(items: Sequence[Item]) -> tuple[list[Item], int]:
    """Return the items with stems that differ among the defects of a type, and how many changed.

    Layouts that keep the masks of all splits in one folder would give them one mask. The image for
    testing keeps its stem.
    """
    taken = {item.id for item in items}
    owners: dict[tuple[str, str, str], str] = {}
    changed: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: (item.folder != "test", item.id)):
        place = (item.category, item.defect_type, item.stem)
        if not item.label or owners.setdefault(place, item.id) == item.id:
            continue
        stem, number = f"{item.stem}-{item.folder}", 1
        while (item.category, item.defect_type, stem) in owners or (
            new := make_id(item.category, item.folder, item.defect_type, stem)
        ) in taken:
            number += 1
            stem = f"{item.stem}-{item.folder}-{number}"
        owners[item.category, item.defect_type, stem] = new
        taken.add(new)
        changed[item.id] = replace(item, id=new)
    renamed = [changed.get(item.id, item) for item in items]
    return sorted(renamed, key=lambda item: item.id), len(changed)
