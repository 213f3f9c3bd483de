"""Time of a training sample: first epoch, from the cache, and as a pair with a synthetic defect.

    python tools/bench/data_path.py --images 200

The photographs are generated (1024 × 1024 RGB PNG, about 1.4 MB each) and removed afterwards. What
is compared takes turns over the same photographs in one process, a fifth of them at a time, so
that a busy machine slows all: bare OpenCV decoding and resizing, the cache's own reading and
resizing, anomalib's MVTec dataset where anomalib is installed. Milliseconds a sample are the
median over these turns; ratios are against bare OpenCV. ``--processor-time`` counts processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import torch
from audit import Writer

from cfrg.defects.on_device import CleanImages, DeviceDefects
from cfrg.defects.pairs import PairKey, TrainingPairs
from cfrg.images.cache import ImageCache
from cfrg.images.tiling import Tiling
from cfrg.training.options import TrainingOptions
from cfrg.training.recipes import make_defects
from threecad import ThreeCAD, scan

SIZE = 256
TURNS = 5
CATEGORY = "Housing"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 10  # a fifth of the images should be a multiple of it
FASTER = 10  # how many epochs of the cache take the time of one turn, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="threecad-bench-") as folder:
        root = Path(folder) / "tree"
        ids = [f"{CATEGORY}/train/good/{i:06d}" for i in range(options.images)]
        ids += [f"{CATEGORY}/test/good/{i:06d}" for i in range(2)]
        for sample_id in ids:
            (root / sample_id).parent.mkdir(parents=True, exist_ok=True)
        for _ in map(Writer(root), enumerate(ids)):
            pass
        measure(root, Path(folder) / "cache", options.images, clock)


def measure(root: Path, folder: Path, count: int, clock: Callable[[], float]) -> None:
    index = scan(root).select(category=CATEGORY, split="train")
    dataset, files = ThreeCAD(index), [sample.image for sample in index]
    print(
        f"{count} PNG of 1024 × 1024 to {SIZE} × {SIZE}; {os.cpu_count()} cores, one thread, load "
        f"{os.getloadavg()[0]:.1f}, {'processor' if clock is time.process_time else 'wall'} time"
    )
    began = clock()
    cache = ImageCache(dataset, (SIZE, SIZE), folder=folder)
    built = 1000 * (clock() - began) / count
    tiling = Tiling((SIZE, SIZE))
    preset = {name: TrainingOptions.preset(name) for name in ("paper", "lite")}
    pairs = {
        name: TrainingPairs(cache, make_defects(chosen, cache), seed=0)
        for name, chosen in preset.items()
    }
    samples: dict[str, Callable[[int], object]] = {
        "OpenCV, decode and resize": lambda i: read_with_opencv(files[i]),
        "first epoch, read and resize": lambda i: tiling.place(tiling.open(files[i])),
        "the same, by way of an array": lambda i: tiling.place(tiling.read(files[i])),
        "from the cache": cache.__getitem__,
        "pair, paper": lambda i: pairs["paper"][PairKey(0, i)],
        f"pair, paper, batched on {DEVICE}": draw_batches(pairs["paper"]),
        "pair, lite": lambda i: pairs["lite"][PairKey(0, i)],
    }
    if mvtec := open_with_anomalib(root):
        samples["anomalib's MVTec dataset"] = mvtec
    for sample in samples.values():
        sample(0)
    seconds = take_turns(samples, count, clock)
    medians = {name: 1000 * statistics.median(turns) for name, turns in seconds.items()}
    first = medians["OpenCV, decode and resize"]
    for name, median in medians.items():
        spread = ", ".join(f"{1000 * turn:.3g}" for turn in sorted(seconds[name]))
        print(f"{name:30} {median:8.3f} ms   × {median / first:6.3f}   ({spread})")
    print(f"{'whole cache, written':30} {built:8.3f} ms   × {built / first:6.3f}")


def take_turns(
    samples: dict[str, Callable[[int], object]], count: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds a sample, for each of the turns."""
    edges = [count * turn // TURNS for turn in range(TURNS + 1)]
    seconds: dict[str, list[float]] = {name: [] for name in samples}
    for first, last in pairwise(edges):
        for name, sample in samples.items():
            rounds = FASTER if name == "from the cache" else 1
            began = clock()
            for _ in range(rounds):
                for i in range(first, last):
                    sample(i)
            seconds[name].append((clock() - began) / (rounds * (last - first)))
    return seconds


def draw_batches(pairs: TrainingPairs) -> Callable[[int], object]:
    """What draws a batch at every tenth image, and nothing at the others."""
    defects, views = DeviceDefects(pairs, torch.device(DEVICE)), CleanImages(pairs)

    def draw(i: int) -> None:
        if i % BATCH == 0:
            keys = [PairKey(0, (i + j) % len(pairs)) for j in range(BATCH)]
            clean = torch.stack([views[key]["clean"] for key in keys]).to(DEVICE)
            _, masks = defects(clean, torch.tensor(keys))
            masks.any().item()  # waits for the device

    return draw


def read_with_opencv(path: Path) -> object:
    image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def open_with_anomalib(root: Path) -> Callable[[int], object] | None:
    try:
        from anomalib.data.datasets.image.mvtecad import MVTecADDataset
        from torchvision.transforms.v2 import Resize
    except ImportError:
        return None
    dataset = MVTecADDataset(
        root, category=CATEGORY, augmentations=Resize((SIZE, SIZE), antialias=True), split="train"
    )
    return dataset.__getitem__


if __name__ == "__main__":
    main()
