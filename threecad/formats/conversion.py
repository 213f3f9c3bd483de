"""From any layout to any other: a reader, the splits, a staged folder, a writer."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.dataset.errata import read_errata
from threecad.dataset.split_files import read_split
from threecad.errors import ConversionError, UsageError
from threecad.formats.cards import find_origin
from threecad.formats.membership import apply_split_file, assign_splits, divide
from threecad.formats.reading.options import ReadOptions
from threecad.formats.registry import FORMATS, TREE, choose_reader, choose_writer
from threecad.formats.scaling import scale_down
from threecad.formats.staging import RECORD, check_replaceable, staged_folder
from threecad.formats.writing import Placement, WriteOptions, check_disk_space
from threecad.system import atomic
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence

    from threecad.formats.items import Item
    from threecad.images.masks import MaskRule

__all__ = ["Conversion", "convert"]

TEST_FRACTION = 0.2
"""Of the good images that nothing assigns to a split."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        source: Where the images came from.
        destination: The folder that was written.
        from_format: Name of the layout read.
        detected: Why that layout was assumed; empty if it was named.
        to_format: Name of the layout written.
        counts: Number of images per category and ``"<split> <good|defective>"``.
        images: How each image got to its place: copied, linked, referenced, embedded or there.
        masks: By which rule each mask was binarised.
        left_out: Number of images of the source that were not asked for.
        notes: What is odd about the masks and what the layout could not hold, and how often;
            ``images-lost`` are those that an earlier conversion wrote into the source and that
            are not there any more.
        errata: SHA-256 of the corrections that were applied, if any.
    """

    source: str
    destination: str
    from_format: str
    detected: str
    to_format: str
    counts: dict[str, dict[str, int]]
    images: dict[str, int]
    masks: dict[str, int]
    left_out: int
    notes: dict[str, int]
    errata: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"schema": 1, **asdict(self)}


def convert(
    source: str | os.PathLike[str] | None,
    destination: str | os.PathLike[str],
    *,
    to: str | None = None,
    from_: str | None = None,
    categories: Collection[str] = (),
    category: str | None = None,
    good: str | os.PathLike[str] | None = None,
    bad: str | os.PathLike[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    errata: str | os.PathLike[str] | None = None,
    supervised: bool = False,
    test_fraction: float | None = None,
    seed: int = 0,
    placement: Placement = "copy",
    size: int | None = None,
    mask_rule: MaskRule | None = None,
    polygons: bool = False,
    shard_bytes: int = 500_000_000,
    force: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Conversion:
    """Write the images and masks of ``source`` to ``destination`` in another layout.

    The destination appears when it is complete. Interrupted, the same call goes on where it
    stopped (see ``threecad.formats.staging``). Masks are binarised by
    ``threecad.images.masks.decode_mask`` and written as 0 and 255.

    Args:
        source: The folder to read; may be ``None`` with ``good``.
        destination: The folder to make. It must be absent or empty, or ours and ``force``.
        to: Name of a layout in ``FORMATS``; 3CAD's own if only ``from_`` is given.
        from_: Name of a layout in ``FORMATS``; found out from the folder if ``None``.
        categories: Only these categories of the source; all of them when empty.
        category: Name of the category, for sources that name none; refused for others.
        good: Folder of defect-free photographs, instead of a layout; relative to ``source``.
        bad: Folder of defective photographs; its sub-folders name defect types.
        split_file: Which image belongs to which split. With a source that is no 3CAD tree, images
            are found by their path and take category, defect type and id from the file.
        fold: The fold to hold out, for a k-fold split file.
        errata: Corrections to apply to a 3CAD tree.
        supervised: Divide anew into training, validation and test, with defects in each
            (``threecad.dataset.splitting``), as ``yolo`` needs it. The images must be files.
        test_fraction: Fraction of the good images that is for testing, 0.2 if ``None``, where the
            source has no splits; refused for others. They are chosen by the hash of their content.
        seed: Part of that hash, and of the draw of ``supervised``.
        placement: ``"copy"`` the images, ``"link"`` (hard links; copies where that cannot be) or
            ``"reference"`` them where they are.
        size: Scale images down until no side is longer.
        mask_rule: Overrides how masks are binarised.
        polygons: Outlines instead of run lengths, in ``coco``.
        shard_bytes: Largest size of a shard, in ``parquet`` and ``webdataset``.
        force: Replace what an earlier conversion wrote.
        workers: Number of processes; ``None`` is one per core.
        progress: Show progress on stderr.

    Raises:
        UsageError: If the arguments make no sense together.
        ConversionError: If the source is not what it should be, or the destination is in the way.
    """
    target = Path(destination)
    if bad is not None and good is None:
        raise UsageError("--bad, the folder of defective parts, needs --good beside it.")
    good, bad = (_below(source, folder) for folder in (good, bad))
    _check_apart(source, good, bad, target)
    check_replaceable(target, force=force)
    name, reason, base = choose_reader(source, from_, good)
    writer = choose_writer(to, from_ or (TREE if good else None), placement, size)
    _check_divisions(name, split_file, fold, errata, supervised=supervised)
    items = _read(
        name,
        base,
        ReadOptions(
            category=category,
            categories=tuple(categories),
            good=good,
            bad=bad,
            split_file=Path(split_file) if split_file is not None else None,
            fold=fold,
            errata=Path(errata) if errata is not None else None,
        ),
    )
    found = len(items)
    lost = _written(base, categories) - len([i for i in items if _is_wanted(i, categories)])
    if split_file is not None and name != TREE:
        items = apply_split_file(items, read_split(split_file).with_fold(fold), base)
    _check_needed(items, name, category, test_fraction)
    fraction = TEST_FRACTION if test_fraction is None else test_fraction
    items = assign_splits(items, test_fraction=fraction, seed=seed)
    if supervised:
        items = divide(items, seed=seed, workers=workers)
    items = _select(items, categories)
    _check_masks(items, writer)
    if size is not None:
        items = [scale_down(item, size) for item in items]
    options = WriteOptions(
        destination=target,
        placement=placement,
        origin=find_origin(base if name == TREE else None, items),
        mask_rule=mask_rule,
        polygons=polygons,
        shard_bytes=shard_bytes,
        errata=read_errata(errata).digest if errata is not None else None,
        workers=workers,
        progress=progress,
    )
    with staged_folder(target, _recipe(items, writer, options), force=force) as folder:
        check_disk_space(items, target, placement)
        write = FORMATS[writer].write
        assert write is not None
        tally = write(items, folder, options)
        if lost > 0:
            tally.notes["images-lost"] = lost
        result = Conversion(
            source=str(base),
            destination=str(target),
            from_format=name,
            detected=reason,
            to_format=writer,
            counts=_count(items),
            images=dict(sorted(tally.images.items())),
            masks=dict(sorted(tally.masks.items())),
            left_out=found - len(items),
            notes=dict(sorted(tally.notes.items())),
            errata=options.errata,
        )
        _write_marker(folder, result, items)
    return result


def _check_divisions(
    name: str,
    split_file: str | os.PathLike[str] | None,
    fold: int | None,
    errata: str | os.PathLike[str] | None,
    *,
    supervised: bool,
) -> None:
    if supervised and split_file is not None:
        raise UsageError("--split makes a split and --split-file brings one. Leave one out.")
    if fold is not None and split_file is None:
        raise UsageError("--fold needs a split file that was made with --kind k-fold.")
    if errata is not None and name != TREE:
        raise UsageError(
            f"--errata corrects a 3CAD tree, and this is {name}. Convert it to 3cad first."
        )


def _read(name: str, source: Path, options: ReadOptions) -> list[Item]:
    read = FORMATS[name].read
    assert read is not None
    items = read(source, options)
    counts = Counter(item.id for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConversionError(f"Two images of {source} come to the id {twice[0]!r}. Rename one.")
    return items


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


def _select(items: list[Item], categories: Collection[str]) -> list[Item]:
    known = sorted({item.category for item in items})
    if unknown := sorted(set(categories) - set(known)):
        raise UsageError(f"No category {unknown[0]!r}. There are: {', '.join(known) or 'none'}.")
    chosen = [item for item in items if _is_wanted(item, categories)]
    if not chosen:
        raise ConversionError("There is no image to convert.")
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
            f"--category {category} cannot rename what is in {name}, which names its categories "
            f"itself: {', '.join(named)}. Leave it out; `threecad convert --category` picks one."
        )
    if test_fraction is not None and all(item.split or item.label for item in items):
        raise UsageError(
            f"--test-fraction is for images without splits, and {name} has them. Leave it out."
        )


def _check_apart(
    source: str | os.PathLike[str] | None, good: Path | None, bad: Path | None, target: Path
) -> None:
    """Refuse to write over what is read, or into it, where it would be read the next time."""
    outer = target.resolve()
    named = [Path(f) for f in (source, good, bad) if f is not None]
    for folder in named:
        if folder.resolve().is_relative_to(outer):
            raise UsageError(
                f"{target} holds {folder}, which is to be read. Choose another folder."
            )
    read = named if good is None else [folder for folder in (good, bad) if folder is not None]
    for folder in read:
        if outer.is_relative_to(folder.resolve()):
            raise UsageError(
                f"{target} is in {folder}, which is to be read. Choose another folder."
            )


def _below(
    source: str | os.PathLike[str] | None, folder: str | os.PathLike[str] | None
) -> Path | None:
    if folder is None:
        return None
    if source is not None and (Path(source) / folder).is_dir():
        return Path(source) / folder
    return Path(folder)


def _recipe(items: Sequence[Item], writer: str, options: WriteOptions) -> dict[str, Any]:
    """Return what decides how the destination looks: the same recipe gives the same files."""
    digest = hashlib.sha256()
    for item in items:
        mask = item.mask.stamp() if item.mask is not None else ""
        digest.update(
            f"{item.id}\t{item.split}\t{item.defect_type}\t{item.image.stamp()}\t{mask}\n".encode()
        )
    settings = asdict(options)
    for name in ("workers", "progress"):
        del settings[name]
    return {
        "to": writer,
        "items": digest.hexdigest(),
        **settings,
        "destination": str(options.destination),
    }


def _count(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for item in items:
        kind = f"{item.split} {'defective' if item.label else 'good'}"
        counts.setdefault(item.category, Counter())[kind] += 1
    return {name: dict(sorted(counter.items())) for name, counter in sorted(counts.items())}


def _write_marker(folder: Path, result: Conversion, items: Sequence[Item]) -> None:
    """Leave in the folder what it was made from. A 3CAD tree also says whether it has masks."""
    if result.to_format == TREE:
        masks = "none" if all(item.mask is None for item in items) else "all"
        atomic.write_json(
            folder / OWN_FOLDER / "import.json",
            {**result.to_dict(), "masks_by_rule": result.masks, "masks": masks},
        )
    else:
        line = json.dumps(result.to_dict(), ensure_ascii=False)
        atomic.write_text(folder / OWN_FOLDER / RECORD, line + "\n")
