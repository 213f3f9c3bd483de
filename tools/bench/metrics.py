"""Time, memory and error of our evaluation and of others', on the same arrays.

    python tools/bench/metrics.py peers            # 100 maps of 256×256, every peer installed
    python tools/bench/metrics.py turns            # 200 of them, ours and adeval in turn
    python tools/bench/metrics.py testset          # as many maps as 3CAD's test set, two processes
    python tools/bench/metrics.py resolution       # maps of 1024×1024, two processes

Every peer runs in a process of its own: once on a tenth of the data, to load and compile, then
timed. Memory is the growth of the peak resident set over that of the imported interpreter with the
data in memory. Errors are against exact references: scikit-learn, and PRO by a sort of all pixels.
Install what should be compared: scikit-learn, torchmetrics, adeval==1.1, anomalib==2.7.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np

TEST_SET = 16_546
KEYS = ("pixel_auroc", "pixel_ap", "pro_30")


def make(n, size, seed=0):
    """Smooth maps in [0, ∞) and masks with a few boxes in 70 of 100 images."""
    rng = np.random.default_rng(seed)
    maps = np.empty((n, size, size), np.float32)
    masks = np.zeros((n, size, size), np.uint8)
    for i in range(n):
        noise = rng.gamma(2.0, 0.1, (size, size)).astype(np.float32)
        if i % 10 < 7:
            for _ in range(rng.integers(1, 4)):
                h, w = rng.integers(2, size // 10, 2)
                y, x = rng.integers(0, size - h), rng.integers(0, size - w)
                masks[i, y : y + h, x : x + w] = 1
        maps[i] = cv2.GaussianBlur(noise * (1 + 0.7 * masks[i]), (0, 0), 4)
    return maps, masks


def ours(maps, masks, breakdowns=True):
    from threecad.metrics import Evaluator

    evaluator = Evaluator(breakdowns=breakdowns)
    labels = masks.reshape(len(masks), -1).any(1).astype(int)
    evaluator.update(maps, masks, maps.reshape(len(maps), -1).max(1), labels)
    result = evaluator.compute()
    return {key: result[key].value for key in KEYS}


def with_sklearn(maps, masks):
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = maps.ravel(), masks.ravel()
    return {
        "pixel_auroc": roc_auc_score(labels, scores),
        "pixel_ap": average_precision_score(labels, scores),
    }


def with_torchmetrics(maps, masks):
    import torch
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

    auroc, precision = BinaryAUROC(), BinaryAveragePrecision()
    top = float(maps.max())  # it takes scores outside [0, 1] for logits
    for anomaly_map, mask in zip(maps, masks, strict=True):
        scores, target = torch.from_numpy(anomaly_map / top), torch.from_numpy(mask).long()
        auroc.update(scores, target)
        precision.update(scores, target)
    return {"pixel_auroc": float(auroc.compute()), "pixel_ap": float(precision.compute())}


def with_anomalib(maps, masks):
    import torch
    from anomalib.data import ImageBatch
    from anomalib.metrics import AUPR, AUPRO, AUROC

    metrics = {
        "pixel_auroc": AUROC(fields=["anomaly_map", "gt_mask"]),
        "pixel_ap": AUPR(fields=["anomaly_map", "gt_mask"]),
        "pro_30": AUPRO(fields=["anomaly_map", "gt_mask"]),
    }
    for start in range(0, len(maps), 16):
        part = slice(start, start + 16)
        batch = ImageBatch(
            image=torch.zeros(len(maps[part]), 3, *maps.shape[1:]),
            anomaly_map=torch.from_numpy(maps[part]),
            gt_mask=torch.from_numpy(masks[part]).bool(),
        )
        for metric in metrics.values():
            metric.update(batch)
    return {key: float(metric.compute()) for key, metric in metrics.items()}


def with_adeval(maps, masks):
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # noqa: NPY201  (removed in NumPy 2)
    from adeval import EvalAccumulator

    # It must be told the range of the scores beforehand.
    low, high = float(maps.min()), float(maps.max())
    accumulator = EvalAccumulator(low, high, low, high, skip_pixel_aupro=False)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        accumulator.add_anomap(anomaly_map, mask)
        accumulator.add_image(anomaly_map.max(), int(mask.any()))
        accumulator.add_sample(anomaly_map.max(), int(mask.any()))
    found = accumulator.summary()
    return {
        "pixel_auroc": found["p_auroc"],
        "pixel_ap": found["p_aupr"],
        "pro_30": found["p_aupro"],
    }


PEERS = {
    "threecad": ("threecad", ours),
    "threecad, without breakdowns": ("threecad", partial(ours, breakdowns=False)),
    "adeval": ("adeval", with_adeval),
    "scikit-learn": ("scikit-learn", with_sklearn),
    "torchmetrics": ("torchmetrics", with_torchmetrics),
    "anomalib": ("anomalib", with_anomalib),
}


def exact(maps, masks):
    """Return the exact figures: PRO by one sort of all pixels."""
    figures = with_sklearn(maps.astype(np.float64), masks)
    weights = np.zeros(maps.size)
    regions = 0
    for i, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask, connectivity=8)
        areas = np.bincount(labels.ravel())
        share = np.where(labels > 0, 1 / areas[labels], 0)
        weights[i * mask.size : (i + 1) * mask.size] = share.ravel()
        regions += count - 1
    order = np.argsort(-maps.ravel(), kind="stable")
    scores = maps.ravel()[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
    negative = masks.ravel()[order] == 0
    rate = np.append(0, np.cumsum(negative)[ends] / negative.sum())
    overlap = np.append(0, np.cumsum(weights[order])[ends] / regions)
    cut = np.searchsorted(rate, 0.3, side="right")
    x = np.append(rate[:cut], 0.3)
    y = np.append(
        overlap[:cut], np.interp(0.3, rate[cut - 1 : cut + 1], overlap[cut - 1 : cut + 1])
    )
    figures["pro_30"] = float(((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 2 / 0.3)
    return figures


def reset_peak():
    """Forget the peak resident set of this process, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak():
    """Peak resident set of this process since the last reset, in MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_one(name, count, size, repeats):
    """Time one peer in this process and print what it found as JSON."""
    maps, masks = make(count, size)
    function = PEERS[name][1]
    few = max(10, count // 10)
    function(maps[:few], masks[:few])
    gc.collect()
    reset_peak()
    before = peak()
    wall, processor = [], []
    for _ in range(repeats):
        gc.collect()
        began, used = time.perf_counter(), time.process_time()
        figures = function(maps, masks)
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    print(
        json.dumps(
            {
                "wall": min(wall),
                "processor": min(processor),
                "memory": peak() - before,
                "figures": {key: float(value) for key, value in figures.items()},
            }
        )
    )


def peers(count, size, repeats):
    maps, masks = make(count, size)
    truth = exact(maps, masks)
    print(
        "| who | wall s | processor s | memory MB | "
        + " | ".join(f"{k} error" for k in KEYS)
        + " |"
    )
    print("|---|---:|---:|---:|" + "---:|" * len(KEYS))
    for name, (package, _) in PEERS.items():
        try:
            label = name if package == "threecad" else f"{name} {version(package)}"
        except PackageNotFoundError:
            print(f"| {name} | not installed | | |" + " |" * len(KEYS))
            continue
        command = [sys.executable, __file__, "one", "--peer", name]
        command += ["--count", str(count), "--size", str(size), "--repeats", str(repeats)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"| {label} | failed: {run.stderr.strip().splitlines()[-1][:80]} |")
            continue
        found = json.loads(run.stdout.splitlines()[-1])
        errors = [
            f"{abs(found['figures'][key] - truth[key]):.1e}" if key in found["figures"] else "–"
            for key in KEYS
        ]
        print(
            f"| {label} | {found['wall']:.3f} | {found['processor']:.3f} | {found['memory']:.0f} | "
            + " | ".join(errors)
            + " |",
            flush=True,
        )


def take_turns(count, size, repeats):
    """Print the processor time of ours as a multiple of adeval's, turn by turn in one process."""
    maps, masks = make(count, size)
    names = [name for name, (package, _) in PEERS.items() if package in ("threecad", "adeval")]
    seconds = {name: [] for name in names}
    for turn in range(repeats + 1):
        for name in names:
            gc.collect()
            used = time.process_time()
            PEERS[name][1](maps, masks)
            if turn:  # the first one compiles
                seconds[name].append(time.process_time() - used)
    for name, taken in seconds.items():
        ratios = sorted(a / b for a, b in zip(taken, seconds["adeval"], strict=True))
        print(
            f"{name:30} {1000 * statistics.median(taken):6.0f} ms, × adeval "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def stream(count, size, seed, breakdowns):
    """Feed maps to an evaluator; return it and the seconds spent in it (wall, processor)."""
    from threecad.metrics import Evaluator

    pool, masks = make(40, size, seed)
    labels = masks.reshape(len(masks), -1).any(1).astype(int)
    rng = np.random.default_rng(seed)
    types = [("bent", "scratched", "good")[i % 2 if label else 2] for i, label in enumerate(labels)]
    groups = {"defect_type": types} if breakdowns else {}
    warm_up = Evaluator(breakdowns=breakdowns)
    warm_up.update(pool[:9], masks[:9], [0] * 9, labels[:9])
    warm_up.compute()
    gc.collect()
    reset_peak()
    before = peak()
    evaluator = Evaluator(breakdowns=breakdowns)
    wall = processor = 0.0
    for start in range(0, count, len(pool)):
        n = min(len(pool), count - start)
        maps = pool[:n] * rng.uniform(0.7, 1.4, (n, 1, 1)).astype(np.float32)
        scores = maps.reshape(n, -1).max(1)
        began, used = time.perf_counter(), time.process_time()
        chosen = {name: values[:n] for name, values in groups.items()}
        evaluator.update(maps, masks[:n], scores, labels[:n], chosen)
        wall += time.perf_counter() - began
        processor += time.process_time() - used
    return evaluator, wall, processor, peak() - before


def parallel_stream(count, size, breakdowns):
    print(f"{count} maps of {size}×{size} in two processes, breakdowns: {breakdowns}")
    jobs = [(count // 2, size, 1, breakdowns), (count - count // 2, size, 2, breakdowns)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(stream, jobs)
    stream(20, 64, 0, breakdowns)[0].compute()  # to load what is compiled
    began, used = time.perf_counter(), time.process_time()
    evaluator = parts[0][0]
    evaluator.merge(parts[1][0])
    result = evaluator.compute()
    end_wall, end_processor = time.perf_counter() - began, time.process_time() - used
    pixels = count * size * size
    wall = max(part[1] for part in parts) + end_wall
    processor = max(part[2] for part in parts) + end_processor
    print(f"wall {wall:.1f} s, {pixels / wall / 1e6:.0f} M pixels/s")
    print(
        f"processor time of the slower process {processor:.1f} s, "
        f"{pixels / processor / 1e6:.0f} M pixels/s"
    )
    print(f"of which merging and computing {end_wall:.2f} s (processor {end_processor:.2f} s)")
    print(f"memory above the interpreter with its data: {parts[0][3]:.0f} and {parts[1][3]:.0f} MB")
    for key, figure in result.mean.figures.items():
        if figure.value is not None:
            print(f"  {key} {figure.value:.6f}, interval {figure.high - figure.low:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["peers", "turns", "testset", "resolution", "one"])
    parser.add_argument("--peer", choices=PEERS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--breakdowns", action="store_true", help="by size and by defect type")
    options = parser.parse_args()
    if options.what == "one":
        run_one(options.peer, options.count, options.size, options.repeats)
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}\n")
    if options.what == "peers":
        peers(options.count or 100, options.size, options.repeats)
    elif options.what == "turns":
        take_turns(options.count or 200, options.size, options.repeats)
    elif options.what == "testset":
        parallel_stream(options.count or TEST_SET, options.size, options.breakdowns)
    else:
        parallel_stream(options.count or 400, 1024, options.breakdowns)


if __name__ == "__main__":
    main()
