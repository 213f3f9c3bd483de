"""Between reading and writing: every item without doubt, every file of the source accounted for.

This is done in one place for all layouts. What a layout returned and read is used; anything else
below the source is left out for a reason, or refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.naming import is_mask_folder, mask_owner
from threecad.dataset.samples import GOOD
from threecad.dataset.scanning import IMAGE_SUFFIXES
from threecad.errors import ConversionError, DataError
from threecad.formats.annotations.class_images import ClassImage
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.orientation import without_orientation
from threecad.formats.reading.account import Account
from threecad.formats.reading.options import BAD, foreign_id, item_of_id
from threecad.formats.reading.source import OTHER_PICTURES
from threecad.system import parallel
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.images.masks import MaskRule

__all__ = ["account_for", "settle"]

_TURNED_BY_A_TAG = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})


def settle(
    items: Sequence[Item],
    source: Source,
    options: ReadOptions,
    *,
    workers: int | None = None,
) -> list[Item]:
    """Return the items with every label decided and every photograph upright.

    Args:
        items: What a layout returned.
        source: The source that it read them from.
        options: What the layout was told.
        workers: Number of processes for masks that have to be looked at.

    Raises:
        ConversionError: If anything is in doubt that ``source.decisions`` leave open; it names all
            of it.
    """
    items = _without_skipped(_without_twins(items, source), source)
    items = _judge(items, source, options.mask_rule, workers)
    items = _with_masks(items, source)
    for item in items:
        _claim(item, source)
    items += _take_in_the_rest(items, source, options)
    items = [_upright(item, source) for item in items]
    if source.doubts:
        raise source.doubts.error(source.root)
    return items


def account_for(source: Source, kept: Iterable[Item]) -> Account:
    """Return the account of a source of whose items these are kept."""
    files = {path for item in kept for path in _files_of(item)}
    for path, use in list(source.uses.items()):
        if use in ("image", "mask") and path not in files:
            source.leave_out(path, "not asked for")
    known = source.all_files.keys()
    return Account.of(
        uses={source.relative(p): use for p, use in source.uses.items() if p in known},
        left_out={source.relative(p): why for p, why in source.left_out.items() if p in known},
        entries=source.entries,
        entries_left_out=source.entries_left_out,
        total=len(known),
    )


def _without_twins(items: Sequence[Item], source: Source) -> list[Item]:
    """Return the items with one id each; add a fault for two of one image or mask."""
    counts = Counter(item.id for item in items)
    items = [_with_folders(item, source) if counts[item.id] > 1 else item for item in items]
    ids: dict[str, Item] = {}
    images: dict[str, Item] = {}
    masks: dict[str, Item] = {}
    for item in items:
        if (other := ids.setdefault(item.id, item)) is not item:
            source.fault(f"{other.image} and {item.image} both come to {item.id}. Rename one.")
        elif (
            isinstance(item.image, File)
            and (other := images.setdefault(str(item.image), item)) is not item
        ):
            source.fault(f"{item.image} is listed twice, as {other.id} and as {item.id}.")
        if isinstance(item.mask, MaskImage) and isinstance(item.mask.content, File):
            other = masks.setdefault(str(item.mask), item)
            if other is not item:
                source.fault(f"{item.mask} is the mask of two images: {other.id} and {item.id}.")
    return list(items)


def _without_skipped(items: Sequence[Item], source: Source) -> list[Item]:
    kept = []
    for item in items:
        image, *rest = [*_files_of(item), None]
        if image is None or image not in source.skipped:
            kept.append(item)
            continue
        for path in (image, *rest):
            if path is not None:
                source.leave_out(path, source.skipped[image])
    return kept


def _with_folders(item: Item, source: Source) -> Item:
    """Return an item whose stem tells the folders of its image, too."""
    if not isinstance(item.image, File):
        return item
    stem = source.relative(item.image.path.with_suffix("")).replace("/", "_").lstrip("._")
    return replace(item, id=make_id(item.category, item.folder, item.defect_type, stem))


# Labels and masks


@dataclass(frozen=True)
class _Look:
    """What is seen in a mask: the number of its pixels, or why it cannot be read."""

    pixels: int = 0
    problem: str = ""


def _look(item: Item, rule: MaskRule | None) -> _Look:
    assert item.mask is not None
    try:
        return _Look(int(item.mask.decode(rule)[0].sum()))
    except (DataError, ConversionError, OSError, MemoryError) as error:
        return _Look(problem=f"{item.image}: {error}")


def _judge(
    items: Sequence[Item], source: Source, rule: MaskRule | None, workers: int | None
) -> list[Item]:
    """Return the items with the label that folder, table or mask give, where these agree."""
    doubtful = [item for item in items if _needs_a_look(item, source)]
    looks = parallel.map(partial(_look, rule=rule), doubtful, workers=workers, batch_size=64)
    seen = {item.id: look for item, look in zip(doubtful, looks, strict=True)}
    judged = []
    for item in items:
        chosen = _judge_one(item, seen[item.id], source) if item.id in seen else item
        if chosen is not None:
            judged.append(chosen)
    return judged


def _needs_a_look(item: Item, source: Source) -> bool:
    if item.mask is None:
        return False
    return item.judged_by_mask or not item.label or source.decisions.conflicts in ("mask", "skip")


def _judge_one(item: Item, look: _Look, source: Source) -> Item | None:
    if look.problem:
        source.fault(look.problem)
        return item
    if item.judged_by_mask and item.defect_type == BAD and not look.pixels:
        return _relabelled(item, GOOD)
    if bool(item.label) == bool(look.pixels):
        return replace(item, judged_by_mask=False)
    if item.label and not item.judged_by_mask and source.decisions.conflicts == "refuse":
        return item
    return _resolve(item, look, source)


def _resolve(item: Item, look: _Look, source: Source) -> Item | None:
    """Return an item whose label and mask contradict each other as it was decided."""
    if item.label:
        what = f"{item.image} is {item.defect_type}, but its mask ({item.mask}) is empty"
    else:
        what = f"{item.image} is good, but its mask ({item.mask}) has {look.pixels:,} pixels"
    match source.decisions.conflicts:
        case "label":
            _claim(item, source)
            return replace(item, judged_by_mask=False, mask=item.mask if item.label else None)
        case "mask":
            return _relabelled(item, BAD if look.pixels else GOOD)
        case "skip":
            for path in _files_of(item):
                source.leave_out(path, "label and mask contradict each other")
            return None
    source.doubts.add(what, switch="conflicts")
    return item


def _relabelled(item: Item, defect_type: str) -> Item:
    new = make_id(item.category, item.folder, defect_type, item.stem)
    return replace(item, id=new, defect_type=defect_type, judged_by_mask=False)


def _with_masks(items: Sequence[Item], source: Source) -> list[Item]:
    """Return the items without defective ones that lack a mask, where others have one."""
    bare = [item for item in items if item.label and item.mask is None]
    if not bare or len(bare) == sum(item.label for item in items):
        return list(items)
    for item in bare:
        if source.decisions.unlabelled == "skip":
            for path in _files_of(item):
                source.leave_out(path, "defective without a mask")
        else:
            source.doubts.add(
                f"{item.image} is {item.defect_type} but has no mask, as others have",
                switch="unlabelled",
            )
    return [item for item in items if not (item.label and item.mask is None)]


# Files


def _files_of(item: Item) -> list[Path]:
    """Return the files that an item is made of."""
    image = getattr(item.image, "content", item.image)
    mask = getattr(item.mask, "mask", item.mask)
    masks = [getattr(part, "content", part) for part in getattr(mask, "parts", [mask])]
    return [part.path for part in (image, *masks) if isinstance(part, (File, ClassImage))]


def _claim(item: Item, source: Source) -> None:
    image, *masks = _files_of(item) if isinstance(item.image, File) else [None, *_files_of(item)]
    if image is not None:
        source.claim(image, "image")
    for mask in masks:
        if mask is not None:
            source.claim(mask, "mask")


def _take_in_the_rest(items: Sequence[Item], source: Source, options: ReadOptions) -> list[Item]:
    """Decide on every file that nobody claimed; return those that are counted as good."""
    masked: dict[str, set[bool]] = defaultdict(set)
    for item in items:
        for path in _files_of(item)[:1]:
            masked[path.stem].add(bool(item.label) and item.mask is not None)
    described = {
        (path.parent, path.suffix.casefold())
        for path, use in source.uses.items()
        if use == "annotation"
    }
    twins = {(path.parent, path.stem) for path, use in source.uses.items() if use == "mask"}
    taken = {item.id for item in items}
    good = []
    for path, hidden in source.all_files.items():
        if path in source.uses or path in source.left_out:
            continue
        if hidden:
            own = OWN_FOLDER in path.parts
            source.leave_out(path, "of threecad" if own else "hidden or left by the system")
        elif not path.is_file():
            source.orphan_file(path, "is no file: a link to nowhere, or a device")
        elif path.suffix.casefold() in OTHER_PICTURES:
            _leave_unlabelled(path, source, "is in a format that is not read here; save it as .png")
        elif path.suffix.casefold() in IMAGE_SUFFIXES:
            if _is_mask(path, source):
                _leave_mask(path, source, masked, twins)
            elif source.decisions.unlabelled == "good":
                item = _unlabelled_good(path, source, options, taken)
                taken.add(item.id)
                _claim(item, source)
                good.append(item)
            else:
                _leave_unlabelled(path, source, "is named by no annotation")
        elif (path.parent, path.suffix.casefold()) in described:
            source.orphan_file(path, "belongs to no image")
        else:
            source.leave_out(path, "neither image nor annotation here")
    return good


def _is_mask(path: Path, source: Source) -> bool:
    folders = source.relative(path).split("/")[:-1]
    return mask_owner(path.stem) is not None or any(map(is_mask_folder, folders))


def _leave_mask(
    path: Path,
    source: Source,
    masked: dict[str, set[bool]],
    twins: Collection[tuple[Path, str]],
) -> None:
    owner = masked.get(path.stem) or masked.get(mask_owner(path.stem) or "")
    if (path.parent, path.stem) in twins:
        source.orphan_file(path, "is a second mask of its image in one folder")
    elif owner == {True}:
        source.leave_out(path, "a second description of its image")
    else:
        source.orphan_file(path, "is a mask that no image claims")


def _leave_unlabelled(path: Path, source: Source, what: str) -> None:
    source.leave_out(path, what)
    if source.decisions.unlabelled != "skip":
        source.doubts.add(f"{source.relative(path)} {what}", switch="unlabelled")


def _unlabelled_good(path: Path, source: Source, options: ReadOptions, taken: set[str]) -> Item:
    parts = source.relative(path).split("/")
    split = source.split_of(path)
    name = foreign_id([], split, path.stem, source.root, options)
    if name in taken:
        name = foreign_id([], split, "_".join([*parts[:-1], path.stem]), source.root, options)
    return item_of_id(name, image=File(path), mask=None, split=split)


def _upright(item: Item, source: Source) -> Item:
    drawn = item.mask if not isinstance(item.mask, (MaskImage, ClassImage)) else None
    turns = item.image.suffix in _TURNED_BY_A_TAG
    if not isinstance(item.image, File) or not (turns or drawn is not None):
        return item
    try:
        header = source.header(item.image.path)
    except DataError:
        return item  # what is wrong with it is said when it is copied
    stored = header.height, header.width
    if drawn is not None and drawn.shape not in (header.upright_size, stored):
        height, width = drawn.shape
        source.fault(
            f"{item.image} is {header.width} × {header.height} pixels, but its annotation is for "
            f"{width} × {height}."
        )
    return item if header.orientation == 1 else without_orientation(item, header)
