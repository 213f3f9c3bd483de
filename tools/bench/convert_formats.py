"""Time the conversion of a tree to every format, beside copying the same files.

    python tools/bench/convert_formats.py [TREE] [--images N] [--workers W] [--format NAME …]

Without TREE, N images of 1024 × 1024 pixels are generated and removed afterwards. Prints a Markdown
table: seconds to write and to read back, by the clock and of the processor, each also as a multiple
of copying all files of the tree once, which is measured anew right before each format (below the
table is the median, steadier on a busy machine); and whether the masks and ids that came back are
those of the tree. Processor time is that of this process: it means nothing with several workers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from audit import generate

from threecad import read_mask, scan
from threecad.formats import FORMATS, convert

IMAGES = 1000


@dataclass(frozen=True)
class Duration:
    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} | {self.processor:.1f}"

    def __truediv__(self, other: Duration) -> str:
        return f"{self.wall / other.wall:.1f} | {self.processor / other.processor:.1f}"


def measure(function, *arguments, **options) -> Duration:
    wall, processor = time.perf_counter(), time.process_time()
    function(*arguments, **options)
    return Duration(time.perf_counter() - wall, time.process_time() - processor)


def copy_all(tree: Path, target: Path) -> None:
    for sample in scan(tree):
        for path in (sample.image, sample.mask):
            if path is not None:
                copy = target / path.relative_to(tree)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    os.sync()  # as a conversion does before its folder appears


def decode_all(tree: Path) -> None:
    for sample in scan(tree):
        if sample.mask is not None:
            read_mask(sample.mask)


def masks_of(tree: Path) -> dict[str, int | None]:
    """Return a hash of each mask's pixels, by id."""
    return {s.id: hash(read_mask(s.mask).tobytes()) if s.mask else None for s in scan(tree)}


def measure_all(tree: Path, work: Path, names: list[str], workers: int | None) -> None:
    expected = masks_of(tree)
    defective = sum(mask is not None for mask in expected.values())
    gigabytes = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file()) / 1e9
    print(
        f"{len(expected):,} images, {defective:,} masks, {gigabytes:.2f} GB; decoding all masks "
        f"takes {measure(decode_all, tree).processor:.1f} s of the processor; workers: {workers}; "
        f"load {os.getloadavg()[0]:.1f}.\n"
    )
    header = "format | copy, s | cpu | write, s | cpu | × copy | cpu | read, s | cpu | × copy | cpu"
    print(f"| {header} | ids and masks |\n{'|---' * 12}|")
    copies = []
    for name in names:
        there, back = work / name, work / f"{name}-back"
        copying = measure(copy_all, tree, work / "copy")
        copies.append(copying)
        shutil.rmtree(work / "copy")
        options = {"workers": workers, "supervised": name == "yolo"}
        writing = measure(convert, tree, there, from_="3cad", to=name, **options)
        reading = measure(convert, there, back, from_=name, to="3cad", workers=workers)
        found = masks_of(back)
        changed = sum(found.get(key) != mask for key, mask in expected.items())
        verdict = "identical" if found == expected else f"{changed} differ"
        print(
            f"| {name} | {copying} | {writing} | {writing / copying} | {reading} | "
            f"{reading / copying} | {verdict} |",
            flush=True,
        )
        shutil.rmtree(there)
        shutil.rmtree(back)
    print(
        f"\nCopying, median: {statistics.median(copy.wall for copy in copies):.1f} s, "
        f"{statistics.median(copy.processor for copy in copies):.1f} s of the processor."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--format", action="append", choices=sorted(FORMATS), dest="formats")
    options = parser.parse_args()
    both_ways = [name for name, layout in FORMATS.items() if layout.read and layout.write]
    names = [name for name in both_ways if not options.formats or name in options.formats]
    place = options.tree.parent if options.tree else None
    with tempfile.TemporaryDirectory(prefix="threecad-bench-", dir=place) as scratch:
        tree = options.tree or Path(scratch) / "tree"
        if options.tree is None:
            generate(tree, options.images)
        measure_all(tree, Path(scratch), names, options.workers)


if __name__ == "__main__":
    main()
