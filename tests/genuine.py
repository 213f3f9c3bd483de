"""Stand-ins for the archive: its names and counts, with tiny pictures, in either edition.

The English names and all counts are those others found in the archive. Of the pinyin names only
those of ``Aluminum_Camera_Cover`` are published; the others here are made up.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from threecad.dataset.archive_facts import Edition, PublishedGroup, archive_facts
from threecad.dataset.catalog import CATEGORIES

SIDE = 8
"""Width and height of the pictures."""

_MADE_UP = {
    "Multiple-defects": "duozhong",
    "abrasion": "mosun",
    "black spot": "heidian",
    "bruise": "yashang",
    "bump": "pengshang",
    "deformation": "bianxing",
    "dirt": "zangwu",
    "discoloration": "yise",
    "fluff": "maoxu",
    "fracture": "duanlie",
    "ink": "moshui",
    "inner warping": "neiqiaopian",
    "knife mark": "daowen",
    "outer warping": "waiqiaopian",
    "paint nodule": "qilizi",
    "pinhole": "zhenkong",
    "scrape": "guahen",
    "scratche": "huashang",
    "uneven": "aotu",
    "wear crack": "moliewen",
    "wire damage": "xiansun",
}


def write_genuine(
    root: Path,
    *,
    edition: Edition = "english",
    categories: Iterable[str] = CATEGORIES,
    duplicates: bool = False,
) -> Path:
    """Write a tree with the names and counts of the archive: 38,501 files if all categories.

    All masks of a category are links to one file, so remove or replace them, never write into one.

    Args:
        root: Where.
        edition: How the defect types are called.
        categories: Which categories.
        duplicates: Whether the pictures that are known to be equal are; a known copy whose partner
            is not published repeats the first training image of its category.
    """
    equal = dict(_equal_pictures()) if duplicates else {}
    for name in categories:
        for folder, number in type_folders(name, edition).items():
            (root / name / folder).mkdir(parents=True)
            english = folder if edition == "english" else _in_english(name, folder)
            for i in range(number):
                picture = f"{name}/{english}/{i:06d}"
                content = png(equal.get(picture, picture))
                (root / name / folder / f"{i:06d}.png").write_bytes(content)
            if not folder.endswith("/good"):
                _write_masks(root / name, folder.removeprefix("test/"), number)
    if duplicates:
        for group in archive_facts().duplicates:
            _write_other_masks(root, group, edition)
    return root


def type_folders(name: str, edition: Edition = "english") -> dict[str, int]:
    """Return ``train/good``, ``test/good`` and the defect folders of a category -> images."""
    category = CATEGORIES[name]
    names = pinyin_names(name)
    types = {
        f"test/{names[folder] if edition == 'pinyin' else folder}": number
        for folder, number in category.archive_types().items()
    }
    return {"train/good": category.train, "test/good": category.test_good, **types}


def pinyin_names(name: str) -> dict[str, str]:
    """Return English folder -> pinyin folder of a category."""
    published = {english: pinyin for pinyin, english in CATEGORIES[name].archive.pinyin.items()}
    return _MADE_UP | published


def png(name: str, side: int = SIDE) -> bytes:
    """Return a grey picture of noise as a PNG file; it is always the same for one name."""
    noise = hashlib.shake_128(name.encode()).digest(side * side)
    return _png([noise[row * side : (row + 1) * side] for row in range(side)])


def _in_english(name: str, folder: str) -> str:
    back = {f"test/{pinyin}": f"test/{english}" for english, pinyin in pinyin_names(name).items()}
    return back.get(folder, folder)


def _equal_pictures() -> Iterator[tuple[str, str]]:
    """Yield id -> id of the picture it shows, for all that is published with names."""
    facts = archive_facts()
    for copy in facts.copies:
        yield copy, f"{copy.split('/')[0]}/train/good/000000"
    for group in facts.duplicates:
        for other in group.ids[1:]:
            yield other, group.ids[0]


def _write_masks(category: Path, defect_type: str, number: int) -> None:
    folder = category / "ground_truth" / defect_type
    folder.mkdir(parents=True)
    first = category / "ground_truth" / defect_type / "000000.png"
    blank = bytes(SIDE)
    first.write_bytes(_png([blank, blank, *[b"\0\0\xff\xff" + bytes(SIDE - 4)] * 2, *[blank] * 4]))
    for i in range(1, number):
        os.link(first, folder / f"{i:06d}.png")


def _write_other_masks(root: Path, group: PublishedGroup, edition: Edition) -> None:
    """Write masks of different sizes where the group's are known to differ."""
    for i in range(1, len(group.mask_pixels)):
        name, _, folder, stem = group.ids[i].split("/")
        own = pinyin_names(name)[folder] if edition == "pinyin" else folder
        mask = root / name / "ground_truth" / own / f"{stem}.png"
        if mask.exists():
            mask.unlink()
            mask.write_bytes(_png([b"\xff" * (i + 2) + bytes(SIDE - i - 2), *[bytes(SIDE)] * 7]))


def _png(rows: list[bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
