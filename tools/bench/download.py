"""Time and memory of getting, checking and indexing a stand-in for the whole archive.

    python tools/bench/download.py                     # draws the stand-in first, some minutes
    python tools/bench/download.py --tree stand-in --zip64

The zip, with the names of the archive's 38,501 files, comes from a loopback server that cuts the
connection on the way; the download is killed half-way and goes on. ``--zip64`` puts 4 GiB of zeros
before the images, so that every offset needs 64 bits. Every step is a process of its own.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import psutil

from threecad.procedural import write_sample

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from servers import FileServer

FILLER = (4 << 30) + (64 << 20)
BLOCK = bytes(16 << 20)
COMMAND = [sys.executable, "-m", "threecad.cli"]


class SparseFile:
    """A file in which blocks of zeros become holes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")

    def write(self, data: bytes) -> int:
        if len(data) == len(BLOCK) and data == BLOCK:
            self._file.seek(len(data), os.SEEK_CUR)
            return len(data)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def write_zip(tree: Path, path: Path, *, zip64: bool) -> int:
    """Write the tree's images as they would be uploaded; return the number of members."""
    files = sorted(tree.glob("*/*/*/*.png"))
    target = SparseFile(path)
    with zipfile.ZipFile(target, "w") as archive:
        if zip64:
            info = zipfile.ZipInfo("3CAD/filler.bin")
            info.file_size = FILLER
            with archive.open(info, "w") as member:
                for _ in range(FILLER // len(BLOCK)):
                    member.write(BLOCK)
        for file in files:
            archive.write(file, f"3CAD/{file.relative_to(tree).as_posix()}")
    target.close()
    return len(files)


def measure(*arguments: str | Path, kill_at: Path | None = None, size: int = 0) -> None:
    """Run a command; print its time, peak memory and last line. Kill it when a file is so large."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        command = [*COMMAND, *map(str, arguments)]
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in family))
            except psutil.NoSuchProcess:
                pass
            if kill_at is not None and kill_at.is_file() and kill_at.stat().st_size > size:
                process.kill()
            time.sleep(0.02)
        output.seek(0)
        lines = output.read().replace("\r", "\n").splitlines()
    seconds = time.perf_counter() - start
    print(f"{' '.join(map(str, arguments[:3]))}: {seconds:.1f} s, {peak / 2**20:.0f} MiB, "
          f"exit code {process.returncode}", flush=True)  # fmt: skip
    for line in lines:
        if "report" in line or "files of" in line or "cut" in line or "error" in line.lower():
            print("    " + line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, help="what `threecad sample --like genuine` wrote")
    parser.add_argument("--zip64", action="store_true", help="over 4 GiB")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="threecad-bench-"))
    try:
        tree = options.tree or write_sample(folder / "tree", like="genuine", progress=True)
        path, root = folder / "3CAD.zip", folder / "data"
        members = write_zip(tree, path, zip64=options.zip64)
        size = path.stat().st_size
        print(f"{members} members, {size:,} bytes; {os.cpu_count()} cores, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            held = threading.Event()
            with FileServer(data, confirm_page=True, hold_at=size // 2, go_on=held) as server:
                os.environ["THREECAD_DRIVE_URL"] = server.url
                os.environ["NO_PROXY"] = "127.0.0.1"
                part = root / ".threecad" / "archives" / "3CAD-english.zip.part"
                measure("download", "--root", root, kill_at=part, size=size // 2 - 1)
                server.behaviour.cuts = [size // 8]
                held.set()
                measure("download", "--root", root)
                print(f"    {server.sent:,} bytes were sent in all")
        measure("verify", root, "--deep")
        measure("info", root)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
