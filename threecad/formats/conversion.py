"""From any layout to any other: a reader, the splits, a staged folder, a writer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad import atomic
from threecad.errors import ConversionError, UsageError
from threecad.formats import (
    coco,
    croissant,
    imagefolder,
    labelme,
    meta_json,
    mvtec,
    pairs,
    parquet,
    photographs,
    tabular,
    tree,
    visa,
    voc,
    webdataset,
    yolo,
)
from threecad.formats.items import File, MaskImage
from threecad.formats.placing import Placement, Tally, WriteOptions, check_disk_space
from threecad.formats.reading import ReadOptions, assign_splits, item_of_id
from threecad.formats.scaling import scale_down
from threecad.formats.staging import RECORD, check_replaceable, staged_folder
from threecad.hub.cards import find_origin
from threecad.locations import OWN_FOLDER

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Sequence

    from threecad.formats.items import Item
    from threecad.masks import MaskRule
    from threecad.split_files import SplitRow

__all__ = ["FORMATS", "Conversion", "Format", "convert", "detect"]

TREE = "3cad"
"""Name of our own layout."""


@dataclass(frozen=True)
class Format:
    """A layout and what can be done with it.

    Attributes:
        summary: What it is, in a few words.
        read: Returns the items of a folder; ``None`` if we only write it.
        write: Writes items into a folder; ``None`` if we only read it.
        looks_like: Returns why a folder looks like it, or ``None``.
        references: Whether it can refer to images where they are.
        masks_needed: Whether a defective image without a mask would pass for a good one.
    """

    summary: str
    read: Callable[[Path, ReadOptions], list[Item]] | None = None
    write: Callable[[Sequence[Item], Path, WriteOptions], Tally] | None = None
    looks_like: Callable[[Path], str | None] | None = None
    references: bool = False
    masks_needed: bool = False


# In the order in which they are tried when the layout of a folder is to be found out.
FORMATS: dict[str, Format] = {
    "visa": Format("VisA: split_csv/1cls.csv", visa.read, visa.write, visa.looks_like),
    "parquet": Format(
        "a Hugging Face dataset, images embedded",
        parquet.read,
        parquet.write,
        parquet.looks_like,
    ),
    "coco": Format(
        "COCO instance segmentation",
        coco.read,
        coco.write,
        coco.looks_like,
        references=True,
        masks_needed=True,
    ),
    "meta-json": Format(
        "meta.json of ADer, AnomalyCLIP and UniAD",
        meta_json.read,
        meta_json.write,
        meta_json.looks_like,
        references=True,
    ),
    "imagefolder": Format(
        "images and tables for Hugging Face's imagefolder",
        imagefolder.read,
        imagefolder.write,
        imagefolder.looks_like,
    ),
    "webdataset": Format(
        "tar shards",
        webdataset.read,
        webdataset.write,
        webdataset.looks_like,
        masks_needed=True,
    ),
    "yolo": Format(
        "ultralytics' YOLO segmentation",
        yolo.read,
        yolo.write,
        yolo.looks_like,
        masks_needed=True,
    ),
    "voc": Format(
        "Pascal VOC, boxes and segmentation",
        voc.read,
        voc.write,
        voc.looks_like,
        masks_needed=True,
    ),
    "croissant": Format(
        "Croissant 1.0 over plain files",
        croissant.read,
        croissant.write,
        croissant.looks_like,
    ),
    "anomalib": Format(
        "a table for anomalib's Tabular data module",
        tabular.read,
        tabular.write,
        tabular.looks_like,
        references=True,
    ),
    "labelme": Format(
        "labelme, a JSON file beside every image",
        labelme.read,
        labelme.write,
        labelme.looks_like,
        references=True,
        masks_needed=True,
    ),
    "mvtec": Format("MVTec-AD: <stem>_mask.png", mvtec.read, mvtec.write, mvtec.looks_like),
    TREE: Format("3CAD's own tree", tree.read, tree.write, tree.looks_like),
    "pairs": Format("images with their masks beside them", pairs.read, None, pairs.looks_like),
    "photographs": Format("good parts, bad parts, no masks", photographs.read),
}


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
        notes: What is odd about the masks and what the layout could not hold, and how often.
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
    errata: str | os.PathLike[str] | None = None,
    supervised: bool = False,
    test_fraction: float = 0.2,
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
    stopped (see :mod:`threecad.formats.staging`). Masks are binarised by
    :func:`threecad.masks.decode_mask` and written as 0 and 255.

    Args:
        source: The folder to read; may be ``None`` with ``good``.
        destination: The folder to make. It must be absent or empty, or ours and ``force``.
        to: Name of a layout in ``FORMATS``; 3CAD's own if only ``from_`` is given.
        from_: Name of a layout in ``FORMATS``; found out from the folder if ``None``.
        categories: Only these categories of the source; all of them when empty.
        category: Name of the category, for sources that name none.
        good: Folder of defect-free photographs, instead of a layout; relative to ``source``.
        bad: Folder of defective photographs; its sub-folders name defect types.
        split_file: Which image belongs to which split. With a source that is no 3CAD tree, images
            are found by their path and take category, defect type and id from the file.
        errata: Corrections to apply to a 3CAD tree.
        supervised: Divide a 3CAD tree anew into training, validation and test, with defects in each
            (``threecad.splitting``), as ``yolo`` needs it.
        test_fraction: Fraction of the good images that is for testing, where the source has no
            splits. They are chosen by the hash of their content.
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
    folders = [Path(f) for f in (source, good, bad) if f is not None]
    _check_apart(folders, target)
    check_replaceable(target, force=force)
    good, bad = (_below(source, folder) for folder in (good, bad))
    name, reason, base = _choose_reader(source, from_, good)
    writer = _choose_writer(to, from_ or (TREE if good else None), placement, size)
    items = _read(
        name,
        base,
        ReadOptions(
            category=category,
            categories=tuple(categories),
            good=good,
            bad=bad,
            split_file=Path(split_file) if split_file is not None else None,
            errata=Path(errata) if errata is not None else None,
        ),
    )
    found = len(items)
    if supervised:
        items = _divide(items, name, base, split_file, seed, workers)
    if split_file is not None and name != TREE:
        items = _apply_split_file(items, Path(split_file), base)
    items = assign_splits(items, test_fraction=test_fraction, seed=seed)
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
        workers=workers,
        progress=progress,
    )
    with staged_folder(target, _recipe(items, writer, options), force=force) as folder:
        check_disk_space(items, target, placement)
        write = FORMATS[writer].write
        assert write is not None
        tally = write(items, folder, options)
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
        )
        _write_marker(folder, result, items)
    return result


def detect(source: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the name of the layout of a folder and why it is taken for it.

    Raises:
        ConversionError: If it looks like none that we read.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise ConversionError(f"There is no folder {folder}. Check the path.")
    for name, layout in FORMATS.items():
        if layout.looks_like is not None and (reason := layout.looks_like(folder)):
            return name, reason
    readable = sorted(name for name, layout in FORMATS.items() if layout.read)
    raise ConversionError(
        f"The layout of {folder} is none that threecad knows. Name it with --from "
        f"({', '.join(readable)}) or, for photographs without masks, give the folder of good "
        "parts with --good."
    )


def _choose_reader(
    source: str | os.PathLike[str] | None, from_: str | None, good: Path | None
) -> tuple[str, str, Path]:
    """Return the name of the layout to read, why, and the folder it is in."""
    if good is not None:
        if from_ not in (None, "photographs"):
            raise UsageError(f"--good is for photographs, not for --from {from_}.")
        return "photographs", "", Path(source) if source is not None else good
    if source is None:
        raise UsageError("Name the folder to read, or give the folder of good parts with --good.")
    if not Path(source).is_dir():
        raise ConversionError(f"There is no folder {source}. Check the path.")
    if from_ is None:
        name, reason = detect(source)
        return name, reason, Path(source)
    if from_ not in FORMATS or FORMATS[from_].read is None:
        readable = sorted(name for name, layout in FORMATS.items() if layout.read)
        raise UsageError(f"{from_!r} cannot be read. Formats: {', '.join(readable)}.")
    return from_, "", Path(source)


def _choose_writer(
    to: str | None, from_: str | None, placement: Placement, size: int | None
) -> str:
    if to is None and from_ is None:
        raise UsageError("Name the format: --to FORMAT to write it, or --from FORMAT to read it.")
    name = to or TREE
    if name not in FORMATS or FORMATS[name].write is None:
        writable = sorted(name for name, layout in FORMATS.items() if layout.write)
        raise UsageError(f"{name!r} cannot be written. Formats: {', '.join(writable)}.")
    if placement == "reference" and not FORMATS[name].references:
        able = sorted(name for name, layout in FORMATS.items() if layout.references)
        raise UsageError(
            f"{name} cannot refer to images outside its folder. Use --link, or one of: "
            f"{', '.join(able)}."
        )
    if placement == "reference" and size is not None:
        raise UsageError("--size makes new images, so --reference is impossible. Leave one out.")
    return name


def _read(name: str, source: Path, options: ReadOptions) -> list[Item]:
    read = FORMATS[name].read
    assert read is not None
    items = read(source, options)
    counts = Counter(item.id for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConversionError(f"Two images of {source} come to the id {twice[0]!r}. Rename one.")
    return items


def _apply_split_file(items: Sequence[Item], split_file: Path, source: Path) -> list[Item]:
    """Return the items that a split file names, as it names them.

    Raises:
        ConversionError: If it names an image or mask that the source has not.
    """
    from threecad.split_files import read_split

    by_path = {item.image.path.resolve(): item for item in items if isinstance(item.image, File)}
    chosen, missing = [], []
    for row in read_split(split_file).rows:
        item = by_path.get((source / row.image).resolve())
        mask = source / row.mask
        if item is None or (row.mask and not mask.is_file()):
            missing.append(row.image if item is None else row.mask)
        else:
            chosen.append(_item_of_row(item, row, mask if row.mask else None))
    if missing:
        raise ConversionError(
            f"{split_file} names {len(missing)} files that are not among the images of {source}, "
            f"the first is {missing[0]!r}. Is it the split file of this folder?"
        )
    return chosen


def _item_of_row(item: Item, row: SplitRow, mask: Path | None) -> Item:
    if row.id:
        return item_of_id(
            row.id,
            image=item.image,
            mask=MaskImage(File(mask)) if mask is not None else None,
            split=row.split,
        )
    return replace(item, split=row.split)


def _divide(
    items: Sequence[Item],
    name: str,
    source: Path,
    split_file: str | os.PathLike[str] | None,
    seed: int,
    workers: int | None,
) -> list[Item]:
    """Return the items in a supervised split."""
    from threecad.indexing import scan
    from threecad.splitting import split

    if name != TREE or split_file is not None:
        raise UsageError(
            "--split divides a 3CAD tree. `threecad import` makes one; a --split-file says already "
            "what belongs where."
        )
    made = split(scan(source), "supervised", seed=seed, workers=workers)
    splits = {row.id: row.split for row in made.rows}
    return [replace(item, split=splits[item.id]) for item in items if item.id in splits]


def _select(items: list[Item], categories: Collection[str]) -> list[Item]:
    known = sorted({item.category for item in items})
    if unknown := sorted(set(categories) - set(known)):
        raise UsageError(f"No category {unknown[0]!r}. There are: {', '.join(known) or 'none'}.")
    chosen = [item for item in items if not categories or item.category in categories]
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


def _check_apart(sources: Sequence[Path], target: Path) -> None:
    inner = target.resolve()
    for source in sources:
        if source.resolve() == inner or source.resolve().is_relative_to(inner):
            raise UsageError(
                f"{target} holds {source}, which is to be read. Choose another folder."
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
