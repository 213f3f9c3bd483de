"""From any layout to any other: a reader, the splits, a staged folder, a writer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.dataset.errata import read_errata
from threecad.errors import UsageError
from threecad.formats.cards import find_origin
from threecad.formats.planning import Division, plan_conversion
from threecad.formats.reading.decisions import Decisions
from threecad.formats.reading.options import ReadOptions
from threecad.formats.registry import FORMATS, TREE, choose_writer
from threecad.formats.scaling import scale_down
from threecad.formats.staging import RECORD, check_replaceable, staged_folder
from threecad.formats.writing import Placement, WriteOptions, check_disk_space
from threecad.system import atomic
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence

    from threecad.formats.items import Item
    from threecad.formats.planning import Plan
    from threecad.formats.reading.account import Account
    from threecad.images.masks import MaskRule

__all__ = ["Conversion", "convert", "plan"]


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
            are not there any more, ``stems-renamed`` those whose stem another image of the same
            defect type has, where one folder holds the masks of all splits.
        account: What became of every file and annotation of the source.
        findings: What is wrong with the source and did not keep it from being read.
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
    account: Account
    findings: tuple[str, ...] = ()
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
    decisions: Decisions | None = None,
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
        decisions: What to do with images, masks and annotations that are in doubt; without it they
            are refused.
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
    reading = _reading(
        source,
        category=category,
        good=good,
        bad=bad,
        split_file=split_file,
        fold=fold,
        errata=errata,
        mask_rule=mask_rule,
        decisions=decisions,
    )
    good, bad = reading.good, reading.bad
    _check_apart(source, good, bad, target)
    check_replaceable(target, force=force)
    writer = choose_writer(to, from_ or (TREE if good else None), placement, size)
    made = plan_conversion(
        source,
        from_,
        reading,
        Division(tuple(categories), supervised, test_fraction, seed),
        writer=writer,
        workers=workers,
    )
    options = WriteOptions(
        destination=target,
        placement=placement,
        origin=find_origin(made.source if made.from_format == TREE else None, made.items),
        mask_rule=mask_rule,
        polygons=polygons,
        shard_bytes=shard_bytes,
        errata=read_errata(errata).digest if errata is not None else None,
        workers=workers,
        progress=progress,
    )
    items = made.items if size is None else [scale_down(item, size) for item in made.items]
    return _write(made, items, writer, options, force=force)


def plan(
    source: str | os.PathLike[str] | None,
    *,
    from_: str | None = None,
    category: str | None = None,
    good: str | os.PathLike[str] | None = None,
    bad: str | os.PathLike[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    mask_rule: MaskRule | None = None,
    decisions: Decisions | None = None,
    workers: int | None = None,
) -> Plan:
    """Return what ``convert`` would make of ``source`` in the layout of 3CAD, and write nothing.

    The arguments are those of ``convert``.

    Raises:
        UsageError: If the arguments make no sense together.
        ConversionError: If the source is not what it should be, or anything in it is in doubt.
    """
    reading = _reading(
        source,
        category=category,
        good=good,
        bad=bad,
        split_file=split_file,
        fold=fold,
        mask_rule=mask_rule,
        decisions=decisions,
    )
    division = Division(test_fraction=test_fraction, seed=seed)
    return plan_conversion(source, from_, reading, division, workers=workers)


def _reading(
    source: str | os.PathLike[str] | None,
    *,
    good: str | os.PathLike[str] | None,
    bad: str | os.PathLike[str] | None,
    decisions: Decisions | None,
    split_file: str | os.PathLike[str] | None,
    errata: str | os.PathLike[str] | None = None,
    **options: Any,
) -> ReadOptions:
    if bad is not None and good is None:
        raise UsageError("`bad`, the folder of defective parts, needs `good` beside it.")
    return ReadOptions(
        good=_below(source, good),
        bad=_below(source, bad),
        split_file=Path(split_file) if split_file is not None else None,
        errata=Path(errata) if errata is not None else None,
        decisions=decisions or Decisions(),
        **options,
    )


def _write(
    made: Plan, items: Sequence[Item], writer: str, options: WriteOptions, *, force: bool
) -> Conversion:
    target = options.destination
    with staged_folder(target, _recipe(items, writer, options), force=force) as folder:
        check_disk_space(items, target, options.placement)
        write = FORMATS[writer].write
        assert write is not None
        tally = write(items, folder, options)
        for note, number in (("images-lost", made.lost), ("stems-renamed", made.renamed)):
            if number:
                tally.notes[note] = number
        result = Conversion(
            source=str(made.source),
            destination=str(target),
            from_format=made.from_format,
            detected=made.detected,
            to_format=writer,
            counts=made.counts,
            images=dict(sorted(tally.images.items())),
            masks=dict(sorted(tally.masks.items())),
            left_out=made.left_out,
            notes=dict(sorted(tally.notes.items())),
            account=made.account,
            findings=made.findings,
            errata=options.errata,
        )
        _write_marker(folder, result, items)
    return result


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
