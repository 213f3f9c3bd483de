"""Images and masks put in their place: copied, linked or referred to; masks as 0/255 PNG."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import cv2
import numpy as np

from threecad.errors import ConversionError, DataError, MaskError
from threecad.formats.contents import File
from threecad.formats.items import Item, relative_posix
from threecad.system import parallel
from threecad.system.atomic import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.formats.cards import Origin
    from threecad.images.masks import MaskRule

__all__ = [
    "MASK_ESTIMATE",
    "Placement",
    "Tally",
    "WriteOptions",
    "check_disk_space",
    "encode_mask",
    "note_split",
    "place_image",
    "place_mask",
    "plan_shards",
    "read_item_mask",
    "work_through",
    "write_new",
]

Placement = Literal["copy", "link", "reference"]
Value = TypeVar("Value")

_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class WriteOptions:
    """What a writer may be asked for.

    Attributes:
        destination: The folder as it will be called once it is finished.
        placement: ``copy`` the images, hard-``link`` them, or ``reference`` them where they are.
        origin: Whose images they are, for cards and descriptions.
        mask_rule: Overrides the rule by which masks are binarised.
        polygons: Outlines instead of run lengths, where a format has both.
        shard_bytes: Largest size of a shard.
        errata: SHA-256 of the corrections that were applied, for cards and descriptions.
        workers: Number of processes; ``None`` is one per core.
        progress: Show a progress bar on stderr.
    """

    destination: Path
    placement: Placement = "copy"
    origin: Origin = "other"
    mask_rule: MaskRule | None = None
    polygons: bool = False
    shard_bytes: int = 500_000_000
    errata: str | None = None
    workers: int | None = None
    progress: bool = False


@dataclass
class Tally:
    """What was done, added up over all items.

    Attributes:
        images: How each image got to its place: ``copied``, ``linked``, ``referenced``, ``there``
            (from an interrupted run), ``embedded``.
        masks: By which rule each mask was binarised.
        notes: What is odd about the masks, and what the format cannot hold.
    """

    images: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the counts of ``other``."""
        self.images.update(other.images)
        self.masks.update(other.masks)
        self.notes.update(other.notes)


def note_split(item: Item, tally: Tally) -> None:
    """Count an image whose folder, in layouts where that alone tells the split, tells another."""
    if item.split != item.folder:
        tally.notes["split-not-kept"] += 1


def work_through(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    options: WriteOptions,
    description: str,
    *,
    batch_size: int = 16,
) -> Iterator[Value]:
    """Yield ``function(item)`` for every item, in order, in parallel, a few batches ahead.

    Raises:
        ConversionError: After all items, if ``function`` raised ``DataError`` for some of them; it
            names the first ten.
    """
    errors: list[str] = []
    results = parallel.map(
        partial(_attempt, function),
        items,
        workers=options.workers,
        batch_size=batch_size,
        description=description if options.progress else None,
    )
    for value, error in results:
        if error is not None:
            errors.append(error)
        elif not errors:  # the caller pairs results with items: none may be left out
            yield cast("Value", value)
    if errors:
        shown = "\n".join(f"  {error}" for error in errors[:_ERRORS_SHOWN])
        more = f"\n  and {len(errors) - _ERRORS_SHOWN} more" if len(errors) > _ERRORS_SHOWN else ""
        raise ConversionError(
            f"{len(errors)} of {len(items)} images cannot be converted:\n{shown}{more}\n"
            "Repair or remove them and run the same command again: it goes on where it stopped."
        )


def _attempt(function: Callable[[Item], Value], item: Item) -> tuple[Value | None, str | None]:
    try:
        return function(item), None
    except (DataError, ConversionError, OSError) as error:
        return None, f"{item.id}: {error}"


def place_image(item: Item, folder: Path, name: str, options: WriteOptions, tally: Tally) -> str:
    """Put the image of ``item`` at ``folder / name``.

    An image that is there already was put there by an interrupted run and is left alone.

    Returns:
        The path to write into an index file, relative to the folder: ``name``, or with
        ``placement="reference"`` where the image itself is.
    """
    content = item.image
    if options.placement == "reference":
        if not isinstance(content, File):
            raise ConversionError(f"{content} is no file of its own, so it cannot be referred to.")
        tally.images["referenced"] += 1
        return relative_posix(content.path.resolve(), options.destination.resolve())
    target = folder / name
    if target.exists():
        tally.images["there"] += 1
        return name
    content.read_size()  # raises where there is no image
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, File) and options.placement == "link" and _link(content.path, target):
        tally.images["linked"] += 1
    elif isinstance(content, File):
        temporary = _temporary(target)
        shutil.copyfile(content.path, temporary)
        temporary.replace(target)
        tally.images["copied"] += 1
    else:
        write_new(target, content.read_bytes())
        tally.images["copied"] += 1
    return name


def place_mask(item: Item, target: Path, options: WriteOptions, tally: Tally) -> None:
    """Write the mask of ``item`` to ``target`` as a grey PNG of 0 and 255."""
    if target.exists():
        tally.masks["there"] += 1
        return
    write_new(target, encode_mask(read_item_mask(item, options.mask_rule, tally)))


def read_item_mask(item: Item, rule: MaskRule | None, tally: Tally) -> NDArray[np.bool_]:
    """Return the mask of ``item``, ``(H, W) bool``.

    Raises:
        MaskError: If there is none, it cannot be decoded or its size is not the image's.
    """
    if item.mask is None:
        raise MaskError("it is defective but has no mask.")
    mask, used, findings = item.mask.decode(rule)
    tally.masks[used] += 1
    tally.notes.update(findings)
    size = item.image.read_size()
    if mask.shape != size:
        raise MaskError(
            f"the mask {item.mask} is {mask.shape[1]}x{mask.shape[0]} pixels but its image "
            f"{item.image} is {size[1]}x{size[0]}. Give them the same size."
        )
    return mask


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """Return a ``(H, W)`` bool mask as the bytes of a grey PNG file of 0 and 255."""
    _, data = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))
    return bytes(data)


def write_new(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target``, whole or not at all.

    Unlike ``threecad.system.atomic`` this does not force every file to disk: the staged folder
    does so once, before it is renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.write_bytes(data)
    temporary.replace(target)


def check_disk_space(items: Sequence[Item], target: Path, placement: Placement) -> None:
    """Raise unless the disk of ``target`` has room for the items.

    Raises:
        ConversionError: If it has not.
    """
    folder = next(parent for parent in target.resolve().parents if parent.exists())
    device = folder.stat().st_dev
    needed = 0
    for item in items:
        linked = (
            placement != "copy"
            and isinstance(item.image, File)
            and (placement == "reference" or item.image.path.stat().st_dev == device)
        )
        needed += 0 if linked else item.image.length
        needed += MASK_ESTIMATE if item.mask is not None else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConversionError(
            f"{target} needs about {needed / 1e9:.1f} GB but only {free / 1e9:.1f} GB are free. "
            "Free some space, choose another disk, or use `placement='link'` on the "
            "disk of the source."
        )


def _link(source: Path, target: Path) -> bool:
    """Make ``target`` a hard link to ``source``; return whether the file system allows it."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _temporary(target: Path) -> Path:
    return target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}{target.suffix}")


MASK_ESTIMATE = 16 << 10
"""Bytes that a mask is reckoned with before it is encoded."""


def plan_shards(
    items: Sequence[Item], key: Callable[[Item], str], shard_bytes: int
) -> Iterator[tuple[str, int, int, list[Item]]]:
    """Yield the shards: their group, their number in it, how many it has, and their items.

    Items of one group follow each other; none is larger than ``shard_bytes`` unless a single image
    is.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group, members in sorted(groups.items()):
        shards: list[list[Item]] = [[]]
        filled = 0
        for item in members:
            length = item.image.length + MASK_ESTIMATE
            if shards[-1] and filled + length > shard_bytes:
                shards.append([])
                filled = 0
            shards[-1].append(item)
            filled += length
        for number, shard in enumerate(shards):
            yield group, number, len(shards), shard
