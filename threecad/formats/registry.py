"""The layouts that threecad reads and writes, and how the one of a folder is found out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from threecad.errors import ConversionError, UsageError
from threecad.formats.layouts import (
    anomalib,
    coco,
    croissant,
    cvat,
    dagm,
    datumaro,
    imagefolder,
    label_studio,
    labelme,
    meta_json,
    mvtec,
    pairs,
    parquet,
    photographs,
    real_iad,
    threecad,
    visa,
    voc,
    webdataset,
    yolo,
)
from threecad.formats.reading.source import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import Placement, Tally, WriteOptions

__all__ = ["ALIASES", "FORMATS", "TREE", "Format", "choose_reader", "choose_writer", "detect"]

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
        masks_by_type: Whether the masks of all splits stand in one folder for each type, so that
            stems must differ there.
    """

    summary: str
    read: Callable[[Source, ReadOptions], list[Item]] | None = None
    write: Callable[[Sequence[Item], Path, WriteOptions], Tally] | None = None
    looks_like: Callable[[Source], str | None] | None = None
    references: bool = False
    masks_needed: bool = False
    masks_by_type: bool = False


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
    "datumaro": Format("Datumaro's JSON", datumaro.read, None, datumaro.looks_like),
    "label-studio": Format(
        "Label Studio's JSON export", label_studio.read, None, label_studio.looks_like
    ),
    "cvat": Format("CVAT's XML 1.1 for images", cvat.read, None, cvat.looks_like),
    "meta-json": Format(
        "meta.json of ADer, AnomalyCLIP and UniAD",
        meta_json.read,
        meta_json.write,
        meta_json.looks_like,
        references=True,
        masks_by_type=True,
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
        anomalib.read,
        anomalib.write,
        anomalib.looks_like,
        references=True,
        masks_by_type=True,
    ),
    "labelme": Format(
        "labelme, a JSON file beside every image",
        labelme.read,
        labelme.write,
        labelme.looks_like,
        references=True,
        masks_needed=True,
    ),
    "real-iad": Format(
        "Real-IAD: lists in JSON, or OK and NG", real_iad.read, None, real_iad.looks_like
    ),
    "dagm": Format("DAGM 2007: Label/Labels.txt", dagm.read, None, dagm.looks_like),
    "mvtec": Format(
        "MVTec-AD: <stem>_mask.png",
        mvtec.read,
        mvtec.write,
        mvtec.looks_like,
        masks_by_type=True,
    ),
    TREE: Format(
        "3CAD's own tree", threecad.read, threecad.write, threecad.looks_like, masks_by_type=True
    ),
    "pairs": Format("images with their masks beside them", pairs.read, None, pairs.looks_like),
    "photographs": Format("good parts, bad parts, no masks", photographs.read),
}


ALIASES = {
    "btad": TREE,
    "mvtec-loco": "mvtec",
    "mvtec-ad-2": "mvtec",
    "ksdd": "pairs",
    "ksdd2": "pairs",
    "images-masks": "pairs",
    "roboflow-coco": "coco",
    "roboflow-yolo": "yolo",
    "ultralytics": "yolo",
    "cvat-mask": "voc",
}
"""Data sets and programs by their own names, and the layout that reads them."""


def detect(source: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the name of the layout of a folder and why it is taken for it.

    Raises:
        ConversionError: If it looks like none that we read.
    """
    return detect_in(Source(Path(source)))


def detect_in(source: Source) -> tuple[str, str]:
    """Return the name of the layout of a source and why it is taken for it.

    Raises:
        ConversionError: If it looks like none that we read.
    """
    for name, layout in FORMATS.items():
        if layout.looks_like is not None and (reason := layout.looks_like(source)):
            return name, reason
    readable = sorted(name for name, layout in FORMATS.items() if layout.read)
    raise ConversionError(
        f"The layout of {source.root} is none that threecad knows. Name it with `from_` "
        f"({', '.join(readable)}) or, for photographs without masks, name the folder of "
        f"good parts: `threecad import --good FOLDER`. It holds {_holdings(source)}."
    )


def _holdings(source: Source) -> str:
    """Say in a few words what a source holds."""
    kinds = Counter(path.suffix.casefold() or path.name for path in source.files)
    shown = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(4))
    return f"{len(source.files)} files ({shown})" if kinds else "no files"


def choose_reader(
    source: str | os.PathLike[str] | None, from_: str | None, options: ReadOptions
) -> tuple[str, str, Source]:
    """Return the name of the layout to read, why, and the source it is in.

    Raises:
        UsageError: If the layout asked for is not read.
        ConversionError: If there is no such folder, or its layout is not known.
    """
    if options.good is not None:
        if from_ not in (None, "photographs"):
            raise UsageError(f"`good` is for photographs, not for `from_={from_!r}`.")
        folders = [folder for folder in (options.good, options.bad) if folder is not None]
        root = Path(source) if source is not None else options.good
        return "photographs", "", Source(root, folders, options.decisions)
    if source is None:
        raise UsageError("Name the folder to read, or give the folder of good parts with `good`.")
    opened = Source(Path(source), decisions=options.decisions)
    if from_ is None:
        return *detect_in(opened), opened
    from_ = ALIASES.get(from_, from_)
    if from_ not in FORMATS or FORMATS[from_].read is None:
        readable = sorted(name for name, layout in FORMATS.items() if layout.read)
        raise UsageError(
            f"{from_!r} cannot be read. Formats: {', '.join(readable)}. Data sets: "
            f"{', '.join(sorted(ALIASES))}."
        )
    return from_, "", opened


def choose_writer(to: str | None, from_: str | None, placement: Placement, size: int | None) -> str:
    """Return the name of the layout to write.

    Raises:
        UsageError: If it is not written, or not in the way asked for.
    """
    if to is None and from_ is None:
        raise UsageError("Name the format: `to=FORMAT` to write it, or `from_=FORMAT` to read it.")
    name = to or TREE
    if name not in FORMATS or FORMATS[name].write is None:
        writable = sorted(name for name, layout in FORMATS.items() if layout.write)
        raise UsageError(f"{name!r} cannot be written. Formats: {', '.join(writable)}.")
    if placement == "reference" and not FORMATS[name].references:
        able = sorted(name for name, layout in FORMATS.items() if layout.references)
        raise UsageError(
            f"{name} cannot refer to images outside its folder. Use `placement='link'`, or one of: "
            f"{', '.join(able)}."
        )
    if placement == "reference" and size is not None:
        raise UsageError(
            "`size` makes new images, so `placement='reference'` is impossible. Leave one out."
        )
    return name
