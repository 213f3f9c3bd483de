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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

from threecad import parallel, scan

SIZE = 1024
STEPS = {
    "decode": "from tools_bench_audit import decode; decode(root, workers)",
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
    program = (
        "import sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('tools_bench_audit', {__file__!r})\n"
        "module = sys.modules['tools_bench_audit'] = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"from pathlib import Path; root, workers = Path({str(root)!r}), {workers}\n{code}\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
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
    for _ in parallel.map(Writer(root), list(enumerate(ids))):
        pass


def mask_path(root: Path, sample_id: str) -> Path:
    category, _, defect_type, stem = sample_id.split("/")
    return root / category / "ground_truth" / defect_type / f"{stem}.png"


class Writer:
    """Writes one picture: smooth shading drawn from the number, brushed texture, sensor noise."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, item: tuple[int, str]) -> None:
        number, sample_id = item
        rng = np.random.default_rng(number)
        shading = cv2.resize(
            rng.uniform(70, 190, (6, 6, 3)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
        )
        noise = rng.integers(-3, 4, (SIZE, SIZE, 1))
        pixels = np.clip(shading + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(self.root / f"{sample_id}.png"), pixels)
        if "Dent" in sample_id or "Scratch" in sample_id:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            x, y = (int(v) for v in rng.integers(100, SIZE - 100, 2))
            cv2.ellipse(mask, (x, y), (40, 12), number % 180, 0, 360, 255, -1)
            cv2.imwrite(str(mask_path(self.root, sample_id)), mask)


if __name__ == "__main__":
    main()
