"""What decoding a file once can tell: sizes, hashes, regions, and whether it decodes at all.

``verify``, ``audit`` and ``split`` all start here. What ``audit`` and ``split`` ask of an image is
kept in ``ROOT/.threecad`` while the file is unchanged; ``verify --deep`` reads every byte again.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from threecad.errors import ImageError, MaskError
from threecad.images.damage import is_cut_short, read_ends
from threecad.images.files import NO_FLOATS, open_image, orientation_of, read_header
from threecad.images.hashing import gradient_hash, hash_file, pixel_hash
from threecad.images.masks import decode_mask
from threecad.images.regions import regions
from threecad.system import parallel
from threecad.system.caching import FileCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from PIL import Image

    from threecad.images.masks import MaskRule

__all__ = [
    "ImageFacts",
    "MaskFacts",
    "inspect_file",
    "inspect_header",
    "inspect_image",
    "inspect_images",
    "inspect_mask",
    "inspect_masks",
]

_CHUNK = 1024
"""Images between two writes of the cache: a killed run loses at most these."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file.

    Attributes:
        length: Bytes of the file.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        width: Pixels; 0 if the file does not decode.
        height: Pixels; 0 if the file does not decode.
        pixels: SHA-256 of the decoded pixels, equal for the same picture in another container.
        gradients: Perceptual hash of 544 bits, 136 hexadecimal digits (see ``gradient_hash``).
        problem: Why the file does not decode; ``None`` if it does.
        orientation: EXIF's number, 1 (upright) to 8; sizes are those of the stored pixels.
    """

    length: int
    sha256: str
    width: int = 0
    height: int = 0
    pixels: str = ""
    gradients: str = ""
    problem: str | None = None
    orientation: int = 1


@dataclass(frozen=True)
class MaskFacts:
    """What is known of one mask file.

    Attributes:
        length: Bytes of the file.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        width: Pixels; 0 if the file does not decode.
        height: Pixels; 0 if the file does not decode.
        rule: How values were told apart (see ``threecad.images.masks``).
        oddities: Codes of what is odd, such as ``mask-empty``.
        grey: Of an ambiguous mask, the pixels that the rule ``binary`` would add.
        classes: Defect classes of a label map; 0 for other masks.
        areas: Pixels of each 8-connected region, ascending.
        touches_border: Whether a defect pixel lies in the outermost rows or columns.
        problem: Why the file does not decode; ``None`` if it does.
    """

    length: int
    sha256: str
    width: int = 0
    height: int = 0
    rule: str = ""
    oddities: tuple[str, ...] = ()
    grey: int = 0
    classes: int = 0
    areas: tuple[int, ...] = ()
    touches_border: bool = False
    problem: str | None = None


def inspect_images(
    root: Path,
    images: Iterable[Path],
    *,
    trust_cache: bool = True,
    workers: int | None = None,
    cluster: str | None = None,
    description: str | None = None,
) -> dict[Path, ImageFacts]:
    """Return the facts of each image.

    A few hundred bytes are kept for each image, whatever its size.

    Args:
        root: The tree whose cache is used.
        images: Files below it.
        trust_cache: Take what is remembered of files whose size and modification time are
            unchanged. Otherwise every byte is read again (the cache is still renewed).
        workers: Worker processes; see ``threecad.system.parallel.map``.
        cluster: Where to run them, if not here.
        description: Title of the progress bar on stderr.
    """
    return _inspect(
        inspect_image,
        ImageFacts,
        "images",
        root,
        images,
        trust_cache,
        workers=workers,
        cluster=cluster,
        description=description,
    )


def inspect_masks(
    root: Path,
    masks: Iterable[Path],
    *,
    rule: MaskRule | None = None,
    trust_cache: bool = True,
    workers: int | None = None,
    cluster: str | None = None,
    description: str | None = None,
) -> dict[Path, MaskFacts]:
    """Return the facts of each mask.

    The arguments are those of ``inspect_images``; ``rule`` is that of ``threecad.decode_mask``.
    """
    return _inspect(
        partial(inspect_mask, rule=rule),
        MaskFacts,
        f"masks-{rule}" if rule else "masks",
        root,
        masks,
        trust_cache,
        workers=workers,
        cluster=cluster,
        description=description,
    )


Facts = TypeVar("Facts", ImageFacts, MaskFacts)


def _inspect(
    inspect: Callable[[Path], Facts],
    kind: type[Facts],
    name: str,
    root: Path,
    paths: Iterable[Path],
    trust_cache: bool,
    **options: Any,
) -> dict[Path, Facts]:
    wanted = list(paths)
    cache, digests = FileCache(root, name, version=_CACHE_VERSION), FileCache(root, "sha256")
    known = cache.get_many(wanted) if trust_cache else {}
    facts = {path: _from_record(kind, record) for path, record in known.items()}
    missing = [path for path in wanted if path not in facts]
    found = parallel.map(inspect, missing, **options)
    for chunk in _chunks(zip(missing, found, strict=True)):
        facts.update(chunk)
        chunk = {path: fact for path, fact in chunk.items() if fact.sha256}  # else not even read
        cache.put_many({path: _as_record(fact) for path, fact in chunk.items()})
        digests.put_many({path: fact.sha256 for path, fact in chunk.items()})
    return {path: facts[path] for path in wanted}


def _as_record(fact: ImageFacts | MaskFacts) -> dict[str, Any]:
    """Return what the cache keeps, under the names that it always had."""
    record = asdict(fact)
    return {"size": record.pop("length"), **record}


def _from_record(kind: type[Facts], record: dict[str, Any]) -> Facts:
    """Undo ``_as_record``, and what JSON does to tuples."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return kind(length=values.pop("size"), **values)


_CACHE_VERSION = 3


def inspect_image(path: Path) -> ImageFacts:
    """Read, hash and decode one file. A file that does not decode is a fact, not an exception."""
    facts, image = _decode(path)
    if image is None:
        return facts
    return replace(facts, pixels=pixel_hash(image), gradients=gradient_hash(image))


def inspect_file(path: Path) -> ImageFacts:
    """Do as ``inspect_image``, but leave the hashes of the pixels empty."""
    return _decode(path)[0]


def _decode(path: Path) -> tuple[ImageFacts, Image.Image | None]:
    try:
        data = path.read_bytes()
    except OSError as error:
        return ImageFacts(0, "", problem=_unread(error)), None
    length, sha256 = len(data), hashlib.sha256(data).hexdigest()
    try:
        image = open_image(path, data)
    except ImageError as error:
        return ImageFacts(length, sha256, problem=error.reason), None
    if image.mode == "F":
        return ImageFacts(length, sha256, problem=NO_FLOATS), None
    turned = orientation_of(image)
    return ImageFacts(length, sha256, image.width, image.height, orientation=turned), image


def inspect_mask(path: Path, rule: MaskRule | None = None) -> MaskFacts:
    """Read, hash and decode one mask. A file that does not decode is a fact, not an exception."""
    try:
        length, sha256 = path.stat().st_size, hash_file(path)
    except OSError as error:
        return MaskFacts(0, "", problem=_unread(error))
    try:
        decoded = decode_mask(path, rule=rule)
    except MaskError as error:
        return MaskFacts(length, sha256, problem=str(error).removeprefix(f"{path}: "))
    mask = decoded.mask
    return MaskFacts(
        length,
        sha256,
        mask.shape[1],
        mask.shape[0],
        decoded.rule,
        decoded.findings,
        decoded.grey,
        len(decoded.classes),
        tuple(sorted(region.area for region in regions(mask))),
        bool(mask[[0, -1]].any() or mask[:, [0, -1]].any()),
    )


def inspect_header(path: Path) -> ImageFacts:
    """Read only the header of one image and look whether its end is there.

    The file is decoded only where the end seems to be missing. The hashes are left empty, and
    damage in the middle of the file goes unnoticed.
    """
    length = 0
    try:
        length = path.stat().st_size
        header = read_header(path)
        with path.open("rb") as file:
            head, tail = read_ends(file)
    except ImageError as error:
        return ImageFacts(length, "", problem=error.reason)
    except OSError as error:
        return ImageFacts(length, "", problem=_unread(error))
    problem = inspect_image(path).problem if is_cut_short(tail, head) else None
    return ImageFacts(
        length, "", header.width, header.height, problem=problem, orientation=header.orientation
    )


def _unread(error: OSError) -> str:
    return f"it cannot be read: {error.strerror or error}"


def _chunks(items: Iterator[tuple[Path, Any]]) -> Iterator[dict[Path, Any]]:
    chunk: dict[Path, Any] = {}
    for path, value in items:
        chunk[path] = value
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = {}
    yield chunk
