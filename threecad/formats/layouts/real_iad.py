"""``real-iad``: Real-IAD, a JSON file for every category beside folders of its views.

``<category>.json`` lists ``train`` and ``test`` with image, mask and class of the anomaly; paths
are seen from ``<category>/``, wherever that is. Without it the folders speak: ``OK/…`` and
``NG/<class>/…``, each defective ``.jpg`` with a mask of its stem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threecad.dataset.naming import is_good_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.documents import Record
from threecad.formats.reading.options import item_of_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]

_SPLITS = ("train", "val", "test")
_LOSSY = frozenset({".jpg", ".jpeg"})


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    files = [path for path in source.shared(".json") if _is_list(source.peek_json(path))]
    if files:
        return f"{source.relative(files[0])} lists images with their anomaly_class"
    for path in source.images:
        if _place(path, source) is not None:
            return f"{source.relative(path)} is below OK or NG and the number of a sample"
    return None


def _is_list(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("test"), list):
        return False
    return any(
        isinstance(entry, dict) and {"image_path", "anomaly_class"} <= entry.keys()
        for split in ("test", "train")
        for entry in content.get(split) or []
    )


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images that the lists name or, without lists, those below ``OK`` and ``NG``.

    Raises:
        ConversionError: If two lists describe one category: it is divided in several ways.
    """
    lists = [path for path in source.shared(".json") if _is_list(source.peek_json(path))]
    if not lists:
        for path in source.shared(".json"):
            with source.collecting():
                source.read_json(path)  # a list that was cut off is no reason to do without it
                source.leave_out(path, "no list of Real-IAD")
        return list(_read_folders(source))
    categories: dict[str, Path] = {}
    items: list[Item] = []
    for path in lists:
        if (other := categories.setdefault(path.stem, path)) != path:
            raise ConversionError(
                f"{source.relative(other)} and {source.relative(path)} divide {path.stem} each in "
                "its own way. Keep the one that is meant."
            )
        items += _read_list(path, source, options)
    return items


def _read_list(path: Path, source: Source, options: ReadOptions) -> Iterator[Item]:
    document = Record.of(source.read_json(path), source.relative(path))
    prefix = document.record("meta").get("prefix")
    homes = _homes(path.stem, prefix if isinstance(prefix, str) else "", source)
    category = options.category or path.stem
    for split in _SPLITS:
        for entry in document.records(split):
            with source.collecting():
                yield _item(entry, split, category, path, homes, source)


def _homes(category: str, prefix: str, source: Source) -> list[Path]:
    """Return the folders from which the paths of a category may be seen."""
    named = {
        parent
        for path in source.images
        for parent in path.parents
        if parent.name in (category, prefix.strip("/")) and source.root in parent.parents
    }
    return sorted(named, key=lambda folder: -len(folder.parts))


def _item(
    entry: Record, split: str, category: str, file: Path, homes: list[Path], source: Source
) -> Item:
    image = source.find(entry.text("image_path"), file, entry.where, bases=homes)
    kind = entry.text("anomaly_class")
    named = entry.get("mask_path")
    mask = source.find(named, file, entry.where, bases=homes) if named else None
    source.use_entry()
    defect_type = GOOD if is_good_name(kind) else kind
    return item_of_id(
        make_id(category, split, defect_type, image.stem),
        image=File(image),
        mask=MaskImage(File(mask)) if mask is not None else None,
        split=split,
    )


def _place(path: Path, source: Source) -> tuple[str, str] | None:
    """Return category and type of an image by its folders, as Real-IAD names them."""
    folders = ["", "", "", "", *source.relative(path).split("/")[:-1]]
    category, above, last, sample = folders[-4:]
    if not (sample[:1] in ("S", "s") and sample[1:].isdigit()):
        return None
    if last == "OK" and above:
        return above, GOOD
    return (category, last) if above == "NG" and category else None


def _read_folders(source: Source) -> Iterator[Item]:
    files = {
        (path.parent, path.stem, path.suffix.casefold() in _LOSSY): path for path in source.images
    }
    for (folder, stem, lossy), path in files.items():
        place = _place(path, source)
        if place is None or not lossy:
            continue
        category, defect_type = place
        mask = files.get((folder, stem, False))
        yield item_of_id(
            make_id(category, "test", defect_type, stem),
            image=File(path),
            mask=MaskImage(File(mask)) if mask is not None else None,
            split="",
        )
