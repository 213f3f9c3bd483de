"""Parquet files that embed the images, written out as a tree.

Two forms are read: our own (``image_id``, ``image``, ``mask``: what ``threecad convert --to
parquet`` writes) and one record per image with its path in a JSON column (``image``, ``mask``,
``metadata`` with ``image_path`` and ``image_sha256``).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from threecad.dataset.catalog import find_category
from threecad.dataset.scanning import GOOD, IMAGE_SUFFIXES
from threecad.errors import ExtractionError
from threecad.fetching.extraction import Extraction
from threecad.fetching.member_names import Claims, is_wanted, safe_parts, tree_path
from threecad.system import atomic
from threecad.system.disk import writing_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = dict[str, Any]
    Picture = tuple[PurePosixPath, bytes]

__all__ = ["unpack_records"]

_ROWS = 32
"""Rows decoded at a time; bounds the memory to as many images."""
_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)


def unpack_records(
    path: Path, root: Path, wanted: tuple[str, ...] | None = None, *, progress: bool = True
) -> Extraction:
    """Write the images and masks of one Parquet file to ``root``.

    Args:
        path: The file.
        root: Where the category folders go.
        wanted: Names or codes of the categories to write; all by default.
        progress: Whether to show a progress bar on stderr.

    Raises:
        ExtractionError: If the file is damaged, has neither form, or names unsafe paths.
        DownloadError: If ``root`` cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    done, claims = Extraction(), Claims()
    try:
        with parquet.ParquetFile(path) as file:
            pictures, columns = _form(file.schema_arrow.names, path)
            bar = tqdm(
                total=file.metadata.num_rows, desc=path.name, unit="image", disable=not progress
            )
            with bar, writing_to(root):
                for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                    for row in batch.to_pylist():
                        _write_row(pictures(row), root, wanted, claims, done)
                    bar.update(batch.num_rows)
    except (pa.ArrowException, EOFError) as error:
        raise ExtractionError(f"{path} is no readable Parquet file ({error}).") from error
    return done


def _form(names: list[str], path: Path) -> tuple[Callable[[Row], list[Picture]], list[str]]:
    """Return the reader for a file with these columns, and the columns it needs."""
    if {"image_id", "image"} <= set(names):
        return _own_pictures, [name for name in ("image_id", "image", "mask") if name in names]
    if {"metadata", "image"} <= set(names):
        used = ("image", "images", "annot", "cate", "metadata", "mask")
        return _record_pictures, [name for name in used if name in names]
    raise ExtractionError(
        f"{path} has the columns {', '.join(names)}. Expected image_id and image, or metadata and "
        "image: it is not 3CAD in a form that is known here."
    )


def _write_row(
    pictures: list[Picture],
    root: Path,
    wanted: tuple[str, ...] | None,
    claims: Claims,
    done: Extraction,
) -> None:
    if not pictures:
        done.ignored += 1
    for target, content in pictures:
        category = target.parts[0]
        identity = hashlib.sha256(content).digest()
        if is_wanted(category, wanted) and claims.add(target, target.as_posix(), identity):
            done.count(category, len(content), _write(root / target, content))


def _write(target: Path, content: bytes) -> bool:
    """Write a file; False if it is there already with the same bytes."""
    if target.is_file() and target.read_bytes() == content:
        return False
    with atomic.replacing(target, durable=False) as temporary:
        temporary.write_bytes(content)
    return True


def _own_pictures(row: Row) -> list[Picture]:
    """Return image and mask of a row of our own form, each with its place below the root."""
    image_id = str(row["image_id"])
    parts = safe_parts(image_id)
    if len(parts) != 4:
        raise ExtractionError(
            f"{image_id!r} is no image_id. Expected <Category>/<split>/<defect_type>/<stem>."
        )
    image = _content(row["image"], image_id)
    target = PurePosixPath(*parts[:3], parts[3] + _suffix(row["image"], image, image_id))
    return [(target, image), *_mask(row.get("mask"), target)]


def _record_pictures(row: Row) -> list[Picture]:
    """Return image and mask of a record; none if it is not of 3CAD."""
    try:
        facts = json.loads(row["metadata"])
        path = PurePosixPath(*safe_parts(str(facts["image_path"])))
    except (TypeError, ValueError, KeyError) as error:
        raise ExtractionError(
            f"The metadata {row['metadata']!r:.80} names no image_path ({error!r})."
        ) from error
    target = tree_path(path.parts) or _place_by_label(row, facts, path.name)
    if target is None or find_category(target.parts[0]) is None:
        return []
    stored = row["image"] or next(iter(row.get("images") or []), None)
    image = _content(stored, path.as_posix())
    digest = hashlib.sha256(image).hexdigest()
    if (stated := facts.get("image_sha256")) and digest != str(stated).lower():
        raise ExtractionError(f"{path} has SHA-256 {digest}, but its record states {stated}.")
    return [(target, image), *_mask(row.get("mask"), target)]


def _place_by_label(row: Row, facts: dict[str, Any], name: str) -> PurePosixPath | None:
    """Return the place that the labels of a record give its image, whose path does not."""
    try:
        labels = json.loads(row.get("annot") or "{}")
        parts = (str(row["cate"]), str(facts["split"]), str(labels.get("defect_type") or GOOD))
    except (ValueError, KeyError, AttributeError):
        return None
    return tree_path(safe_parts("/".join((*parts, name))))


def _mask(stored: Any, image: PurePosixPath) -> Iterator[Picture]:
    category, split, defect_type, file = image.parts
    if stored is None or split != "test" or defect_type == GOOD:
        return
    content = _content(stored, f"the mask of {image}")
    suffix = _suffix(stored, content, str(image))
    name = PurePosixPath(file).stem + suffix
    yield PurePosixPath(category, "ground_truth", defect_type, name), content


def _content(stored: Any, name: str) -> bytes:
    """Return the bytes of an embedded image.

    Raises:
        ExtractionError: If it is not embedded.
    """
    content = stored.get("bytes") if isinstance(stored, dict) else stored
    if not isinstance(content, bytes) or not content:
        raise ExtractionError(
            f"{name} is not embedded in the Parquet file, which holds only a path. Its owner has "
            "to publish it with the images embedded."
        )
    return content


def _suffix(stored: Any, content: bytes, name: str) -> str:
    """Return the suffix for an image: that of its stored path, or what its first bytes say."""
    path = stored.get("path") if isinstance(stored, dict) else None
    suffix = PurePosixPath(str(path or "")).suffix
    if suffix.casefold() in IMAGE_SUFFIXES:
        return suffix
    for magic, suffix in _MAGIC:
        if content.startswith(magic):
            return suffix
    raise ExtractionError(f"{name} is no PNG, JPEG, BMP or TIFF image.")
