"""Time the conversion of a tree to every format, beside copying its files and decoding its masks.

    python tools/bench/convert_formats.py TREE [--workers W] [--format NAME …]

Prints a Markdown table: seconds to write, seconds to read back, and whether the masks and ids that
came back are those of the tree.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from threecad import read_mask, scan
from threecad.formats import FORMATS, convert


def seconds(function, *arguments, **options) -> float:
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def copy_all(tree: Path, target: Path) -> None:
    for sample in scan(tree):
        for path in (sample.image, sample.mask):
            if path is not None:
                copy = target / path.relative_to(tree)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def decode_all(tree: Path) -> None:
    for sample in scan(tree):
        if sample.mask is not None:
            read_mask(sample.mask)


def masks_of(tree: Path) -> dict[str, bytes | None]:
    return {s.id: read_mask(s.mask).tobytes() if s.mask else None for s in scan(tree)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--format", action="append", choices=sorted(FORMATS), dest="formats")
    arguments = parser.parse_args()
    tree = arguments.tree
    wanted = arguments.formats or list(FORMATS)
    expected = masks_of(tree)
    defective = sum(mask is not None for mask in expected.values())
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        work = Path(scratch)
        copying = seconds(copy_all, tree, work / "copy")
        decoding = seconds(decode_all, tree)
        print(f"{len(expected):,} images, {defective:,} masks; copying all files {copying:.1f} s, ")
        print(f"decoding all masks in one process {decoding:.1f} s.\n")
        print("| format | write, s | read back, s | ids and masks |\n|---|---|---|---|")
        for name, layout in FORMATS.items():
            if layout.write is None or layout.read is None or name not in wanted:
                continue
            options = {"supervised": True} if name == "yolo" else {}
            there, back = work / name, work / f"{name}-back"
            written = seconds(
                convert, tree, there, from_="3cad", to=name, workers=arguments.workers, **options
            )
            reading = seconds(
                convert, there, back, from_=name, to="3cad", workers=arguments.workers
            )
            found = masks_of(back)
            changed = sum(found.get(key) != mask for key, mask in expected.items())
            verdict = "identical" if found == expected else f"{changed} differ"
            print(f"| {name} | {written:.1f} | {reading:.1f} | {verdict} |", flush=True)
            shutil.rmtree(there)
            shutil.rmtree(back)


if __name__ == "__main__":
    main()
