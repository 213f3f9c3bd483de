"""``croissant``: Croissant 1.0, a machine-readable description of plain files.

``croissant.json`` describes ``index.csv``, ``images/<sample id>.<ext>`` and
``masks/<sample id>.png`` in three record sets, ``samples``, ``images`` and ``masks``, which share
the field ``id``. They are not joined in the description, so that a reader never has to hold all
images at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import CITATIONS
from threecad.errors import ConversionError
from threecad.formats.cards import HOMEPAGE, TITLES, introduce
from threecad.formats.contents import AsPng, File, MaskImage
from threecad.formats.reading.options import item_of_id
from threecad.formats.writing import Tally, place_image, place_mask, work_through, write_new
from threecad.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILE = "croissant.json"
_TABLE = "index.csv"
_TYPES = {
    "id": "sc:Text",
    "category": "sc:Text",
    "split": "sc:Text",
    "defect_type": "sc:Text",
    "label": "sc:Integer",
    "image": "sc:Text",
    "mask": "sc:Text",
}
_PUBLISHED = {
    "citeAs": CITATIONS["3CAD"],
    "datePublished": "2025-02",
    "license": "none stated",
    "url": HOMEPAGE,
}
_ENCODINGS = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if (source.root / _FILE).is_file() and (source.root / _TABLE).is_file():
        return f"it has {_FILE}"
    return None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write images, masks, the table and its description."""
    tally = Tally()
    if unknown := sum(item.image.suffix not in _ENCODINGS for item in items):
        tally.notes["images encoded as PNG"] = unknown
        items = [
            i if i.image.suffix in _ENCODINGS else replace(i, image=AsPng(i.image)) for i in items
        ]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(_TYPES), lineterminator="\n")
    writer.writeheader()
    place = partial(_place, folder=folder, options=options)
    for part, row in work_through(place, items, options, "writing croissant"):
        tally.add(part)
        writer.writerow(row)
    data = table.getvalue().encode()
    write_new(folder / _TABLE, data)
    document = _describe(items, hashlib.sha256(data).hexdigest(), options)
    write_new(folder / _FILE, json.dumps(document, indent=2, ensure_ascii=False).encode())
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> tuple[Tally, dict[str, Any]]:
    tally = Tally()
    image = place_image(item, folder, f"images/{item.id}{item.image.suffix}", options, tally)
    mask = ""
    if item.label and item.mask is not None:
        mask = f"masks/{item.id}.png"
        place_mask(item, folder / mask, options, tally)
    return tally, {
        "id": item.id,
        "category": item.category,
        "split": item.split,
        "defect_type": item.defect_type,
        "label": item.label,
        "image": image,
        "mask": mask,
    }


def _describe(items: Sequence[Item], table_digest: str, options: WriteOptions) -> dict[str, Any]:
    suffixes = sorted({item.image.suffix for item in items})
    sets = [_file_set("image-files", "images", suffixes)]
    records = [_table_records(), _file_records("images", "image-files")]
    if any(item.label and item.mask is not None for item in items):
        sets.append(_file_set("mask-files", "masks", [".png"]))
        records.append(_file_records("masks", "mask-files"))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": TITLES[options.origin],
        "description": introduce(items, options.origin, errata=options.errata),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **(_PUBLISHED if options.origin == "3cad" else {}),
        "version": __version__,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "index",
                "name": "index",
                "contentUrl": _TABLE,
                "encodingFormat": "text/csv",
                "sha256": table_digest,
            },
            *sets,
        ],
        "recordSet": records,
    }


def _file_set(name: str, folder: str, suffixes: Iterable[str]) -> dict[str, Any]:
    listed = list(suffixes)
    encodings = sorted({_ENCODINGS[suffix] for suffix in listed})
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": encodings if len(encodings) > 1 else encodings[0],
        "includes": [f"{folder}/**/*{suffix}" for suffix in listed],
    }


def _table_records() -> dict[str, Any]:
    table = {"fileObject": {"@id": "index"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "key": {"@id": "samples/id"},
        "field": [
            _field("samples", name, kind, {**table, "extract": {"column": name}})
            for name, kind in _TYPES.items()
        ],
    }


def _file_records(name: str, file_set: str) -> dict[str, Any]:
    source = {"fileSet": {"@id": file_set}}
    path = {
        **source,
        "extract": {"fileProperty": "fullpath"},
        "transform": {"regex": rf"(?:^|.*/){name}/([^/]+/[^/]+/[^/]+/[^/]+)\.[^./]+$"},
    }
    content = {**source, "extract": {"fileProperty": "content"}}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": [
            _field(name, "id", "sc:Text", path),
            _field(name, "content", "sc:ImageObject", content),
        ],
    }


def _field(record_set: str, name: str, kind: str, source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "dataType": kind,
        "source": source,
    }


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images that ``index.csv`` lists.

    Raises:
        ConversionError: If the table is not ours, or names a missing file.
    """
    del options
    table = source.root / _TABLE
    source.claim(source.root / _FILE, "index")
    items = []
    for number, row in source.read_table(table):
        if not set(_TYPES) <= set(row):
            raise ConversionError(
                f"{table} is not the table of a Croissant folder that threecad wrote: expected the "
                f"columns {', '.join(_TYPES)}."
            )
        with source.collecting():
            items.append(_item(row, source, table, f"{table}, line {number}"))
    return items


def _item(row: Mapping[str, str], source: Source, table: Path, where: str) -> Item:
    mask = row["mask"]
    return item_of_id(
        row["id"],
        image=File(source.find(row["image"], table, where)),
        mask=MaskImage(File(source.find(mask, table, where))) if mask else None,
        split=row["split"],
    )


# The context that the specification prescribes word for word.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
