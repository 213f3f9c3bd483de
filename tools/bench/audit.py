"""Time and peak memory of ``verify --deep`` and ``audit`` next to merely decoding the same files.

    python tools/bench/audit.py --images 5000 --workers 1 --workers 2

The tree is generated (1024 × 1024 RGB PNG, about 1.4 MB each) and removed afterwards, unless
``--tree`` says where to keep it. Every measurement is a fresh process; memory is the largest sum
over it and its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

from threecad import scan
from threecad.system import parallel

SIZE = 1024
BAND = 32
VARIANTS = 16
STEPS = {
    "decode": "from audit import decode; decode(root, workers)",
    "verify --deep": "from threecad import verify; verify(root, deep=True, workers=workers)",
    "audit --near": "from threecad import audit; audit(root, near=True, workers=workers)",
    "audit --near, again": "from threecad import audit; audit(root, near=True, workers=workers)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tree", type=Path, help="keep the tree here, and use it if it is there")
    options = parser.parse_args()
    folder = options.tree or Path(tempfile.mkdtemp(prefix="threecad-bench-"))
    try:
        start = time.perf_counter()
        if not folder.is_dir() or not any(folder.iterdir()):
            generate(folder, options.images)
        files = list(folder.rglob("*.png"))
        gigabytes = sum(path.stat().st_size for path in files) / 1e9
        masks = sum("ground_truth" in path.parts for path in files)
        print(
            f"{len(files) - masks} images, {masks} masks, {gigabytes:.1f} GB, ready after "
            f"{time.perf_counter() - start:.0f} s; {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        for workers in options.workers or [1, parallel.worker_count()]:
            for _ in range(options.repeats):
                measure_all(folder, workers)
    finally:
        if options.tree is None:
            shutil.rmtree(folder)


def measure_all(root: Path, workers: int) -> None:
    shutil.rmtree(root / ".threecad", ignore_errors=True)
    base = None
    for name, code in STEPS.items():
        if name == "audit --near":
            shutil.rmtree(root / ".threecad", ignore_errors=True)
        seconds, cpu, peak = measure(code, root, workers)
        base = base or (seconds, cpu)
        print(
            json.dumps(
                {
                    "step": name,
                    "workers": workers,
                    "seconds": round(seconds, 1),
                    "times_decoding": round(seconds / base[0], 2),
                    "cpu_seconds": round(cpu, 1),
                    "cpu_times_decoding": round(cpu / base[1], 2),
                    "peak_mib": round(peak / 2**20),
                    "load": round(os.getloadavg()[0], 1),
                }
            ),
            flush=True,
        )


def measure(code: str, root: Path, workers: int) -> tuple[float, float, int]:
    """Return wall seconds, CPU seconds and the peak resident bytes of a step in its own process."""
    program = f"from pathlib import Path; root, workers = Path({str(root)!r}), {workers}; {code}"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parent),
    }
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, resident(watched))
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{code} failed")
    after = os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return seconds, cpu, peak


def resident(process: psutil.Process) -> int:
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def decode(root: Path, workers: int) -> None:
    """Decode every image and mask, as anything that looks at them all must."""
    index = scan(root)
    files = [s.image for s in index] + [s.mask for s in index if s.mask]
    for _ in parallel.map(load, files, workers=workers):
        pass


def load(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


# The tree


def generate(root: Path, number: int) -> None:
    """Write two categories: 40 % training, 20 % good and 40 % defective test images, none twice."""
    shares = {"train/good": 0.4, "test/good": 0.2, "test/Dent": 0.2, "test/Scratch": 0.2}
    ids = [
        f"{category}/{folder}/{i:06d}"
        for category in ("Housing", "Frame")
        for folder, share in shares.items()
        for i in range(round(number * share / 2))
    ]
    for sample_id in ids:
        (root / sample_id).parent.mkdir(parents=True, exist_ok=True)
        if "Dent" in sample_id or "Scratch" in sample_id:
            mask_path(root, sample_id).parent.mkdir(parents=True, exist_ok=True)
    for _ in map(Writer(root), enumerate(ids)):
        pass


def mask_path(root: Path, sample_id: str) -> Path:
    category, _, defect_type, stem = sample_id.split("/")
    return root / category / "ground_truth" / defect_type / f"{stem}.png"


class Writer:
    """Writes different pictures fast: each is put together from bands that are compressed already.

    A band is 32 rows of smooth shading with sensor noise; there are some variants of each, and a
    picture takes its own choice of them. Rows refer to no row above them (PNG filter "Sub") and
    bands end with a full flush, so that compressed bands can be joined.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bands = [compressed_bands(np.random.default_rng(seed)) for seed in range(VARIANTS)]

    def __call__(self, item: tuple[int, str]) -> None:
        number, sample_id = item
        rng = np.random.default_rng(number)
        choice = rng.integers(0, VARIANTS, SIZE // BAND)
        chosen = [self.bands[variant][i] for i, variant in enumerate(choice)]
        (self.root / f"{sample_id}.png").write_bytes(join(chosen))
        if "Dent" in sample_id or "Scratch" in sample_id:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            x, y = (int(v) for v in rng.integers(100, SIZE - 100, 2))
            cv2.ellipse(mask, (x, y), (40, 12), number % 180, 0, 360, 255, -1)
            cv2.imwrite(str(mask_path(self.root, sample_id)), mask)


def compressed_bands(rng: np.random.Generator) -> list[tuple[bytes, bytes]]:
    """Return the filtered and the compressed bytes of each band of one picture."""
    coarse = rng.uniform(70, 190, (6, 6, 3))
    shading = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-3, 4, (SIZE, SIZE, 1))
    pixels = np.clip(shading + noise, 0, 255).astype(np.uint8)
    rows = np.ones((SIZE, 1 + 3 * SIZE), np.uint8)  # the first byte of a row: filter 1, "Sub"
    rows[:, 1:4] = pixels[:, 0]
    rows[:, 4:] = (pixels[:, 1:] - pixels[:, :-1]).reshape(SIZE, -1)
    bands = []
    for top in range(0, SIZE, BAND):
        raw = rows[top : top + BAND].tobytes()
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        bands.append((raw, packer.compress(raw) + packer.flush(zlib.Z_FULL_FLUSH)))
    return bands


def join(bands: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG file made of compressed bands."""
    checksum = 1
    for raw, _ in bands:
        checksum = zlib.adler32(raw, checksum)
    packed = b"".join(part for _, part in bands)
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    data = b"\x78\x9c" + packed + b"\x03\x00" + struct.pack(">I", checksum)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


if __name__ == "__main__":
    main()
