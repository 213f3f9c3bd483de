"""From files to maps, as a multiple of decoding alone; and memory over many images.

    python tools/bench/prediction.py                      # 24 PNG of 1024 × 1024, in each runtime
    python tools/bench/prediction.py --count 10000 --side 64 --memory

A small `lite` network with random weights predicts generated files. Decoding alone, in as many
threads as the predictor reads with, and each runtime take turns; milliseconds an image, by the
clock and of the processor, are the median of the turns. The limit is what decoding and the network
alone would take on these cores. ``--memory`` prints the resident memory on the way instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.inference.preparing import READERS
from threecad.images.files import open_image

RUNTIMES = ("torch", "onnx", "openvino")
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--runtime", choices=RUNTIMES, action="append")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="threecad-bench-") as folder:
        files = write_images(Path(folder), options.count, options.side)
        runtimes = options.runtime or RUNTIMES
        predictors = {name: make_predictor(name, Path(folder)) for name in runtimes}
        if options.memory:
            for name, predictor in predictors.items():
                watch_memory(name, predictor, files)
        else:
            measure(predictors, files, options.turns)


def make_predictor(runtime: str, folder: Path) -> Predictor:
    config = CFRGConfig.preset("lite", memory=0, memory_weight=0.0, scales=(1.0,))
    return Predictor(
        CFRG(config).eval(), device="cpu", batch_size=BATCH, runtime=runtime, runtime_folder=folder
    )


def write_images(folder: Path, count: int, side: int) -> list[tuple[str, Path]]:
    """Write smooth noise: PNG of about 2 bytes a pixel; the same 24 pictures again and again."""
    rng = np.random.default_rng(0)
    coded: list[bytes] = []
    for _ in range(min(count, 24)):
        noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        smooth = cv2.GaussianBlur(noise, (0, 0), 2)
        coded.append(cv2.imencode(".png", smooth)[1].tobytes())
    files = []
    for i in range(count):
        path = folder / f"{i:06d}.png"
        path.write_bytes(coded[i % len(coded)])
        files.append((path.stem, path))
    return files


def measure(predictors: dict[str, Predictor], files: list[tuple[str, Path]], turns: int) -> None:
    def decode() -> None:
        with ThreadPoolExecutor(READERS) as pool:
            for _ in pool.map(open_image, [path for _, path in files]):
                pass

    work: dict[str, Callable[[], object]] = {"decode alone": decode}
    for name, predictor in predictors.items():
        work[name] = lambda p=predictor: [0 for _ in p.predict_files(files)]
        work[f"{name}, network alone"] = lambda p=predictor: run_network(p, len(files))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(turns + 1):
        for name, run in work.items():
            clock, used = time.perf_counter(), time.process_time()
            run()
            if turn:
                both = (time.perf_counter() - clock, time.process_time() - used)
                taken[name].append(both)
    cores = os.cpu_count() or 1
    print(f"{len(files)} images, {cores} cores, load {os.getloadavg()[0]:.1f}; ms an image")
    clock, used = (
        {
            n: 1000 * statistics.median(t[i] for t in times) / len(files)
            for n, times in taken.items()
        }
        for i in (0, 1)
    )
    for name in work:
        line = f"{name:24} clock {clock[name]:7.2f}   processor {used[name]:7.2f}"
        if name in predictors:
            least = used["decode alone"] + used[f"{name}, network alone"]
            line += f"   of decoding {clock['decode alone'] / clock[name]:.2f}"
            line += f"   limit {used['decode alone'] / least:.2f}"
            line += f"   beside both {used[name] - least:.2f}"
        print(line)


@torch.inference_mode()
def run_network(predictor: Predictor, count: int) -> None:
    height, width = predictor.detector.config.image_size
    for first in range(0, count, BATCH):
        predictor._network.predict_maps(torch.zeros(min(BATCH, count - first), 3, height, width))


def watch_memory(name: str, predictor: Predictor, files: list[tuple[str, Path]]) -> None:
    for i, _ in enumerate(predictor.predict_files(files), 1):
        if i in (100, 1000, len(files)):
            print(f"{name}: {resident():.0f} MiB after {i} images", flush=True)


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
