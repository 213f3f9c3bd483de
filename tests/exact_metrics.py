"""Exact, slow, obvious references for the metrics, and random cases to hold them against."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

EIGHT = np.ones((3, 3), int)


def auroc(scores, positive):
    return float(roc_auc_score(positive, scores))


def average_precision(scores, positive):
    return float(average_precision_score(positive, scores))


def f1_max(scores, positive):
    precision, recall, _ = precision_recall_curve(positive, scores)
    total = precision + recall
    return float((2 * precision * recall / np.where(total > 0, total, 1)).max())


def region_list(masks):
    """Return one boolean array over all pixels of all images per 8-connected region."""
    sizes = [mask.size for mask in masks]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    found = []
    for mask, start in zip(masks, starts, strict=False):
        labels, count = ndimage.label(mask, EIGHT)
        for k in range(1, count + 1):
            region = np.zeros(starts[-1], bool)
            region[start : start + mask.size] = (labels == k).ravel()
            found.append(region)
    return found


def pro(maps, masks, limit):
    """Sort all pixels, take the curve's point at every distinct threshold, cut at ``limit``."""
    scores = np.concatenate([np.asarray(m, np.float64).ravel() for m in maps])
    negative = ~np.concatenate([m.ravel() for m in masks]).astype(bool)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    rate = np.concatenate([[0.0], np.cumsum(negative[order])[ends] / negative.sum()])
    overlaps = [np.cumsum(r[order])[ends] / r.sum() for r in region_list(masks)]
    overlap = np.concatenate([[0.0], np.mean(overlaps, axis=0)])
    inside = rate <= limit
    x, y = rate[inside], overlap[inside]
    if x[-1] < limit:
        after = int(inside.sum())
        slope = (overlap[after] - y[-1]) / (rate[after] - x[-1])
        x, y = np.append(x, limit), np.append(y, y[-1] + slope * (limit - x[-1]))
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 2 / limit)


def region_recall(maps, masks, rate):
    """Share of regions, half of whose pixels are above the lowest threshold of at most ``rate``."""
    scores = np.concatenate([np.asarray(m, np.float64).ravel() for m in maps])
    negative = scores[~np.concatenate([m.ravel() for m in masks]).astype(bool)]
    allowed = int(np.floor(rate * negative.size * (1 + 1e-12)))
    if allowed >= negative.size:
        return 1.0
    first_not_flagged = np.sort(negative)[::-1][allowed]
    regions = region_list(masks)
    return float(np.mean([2 * (scores[r] > first_not_flagged).sum() >= r.sum() for r in regions]))


def pixel_figures(maps, masks):
    scores = np.concatenate([np.asarray(m, np.float64).ravel() for m in maps])
    positive = np.concatenate([m.ravel() for m in masks]).astype(bool)
    figures = {
        "pixel_auroc": auroc(scores, positive),
        "pixel_ap": average_precision(scores, positive),
        "pixel_f1_max": f1_max(scores, positive),
        "pro_30": pro(maps, masks, 0.3),
        "pro_05": pro(maps, masks, 0.05),
        "region_recall_05": region_recall(maps, masks, 0.05),
        "region_recall_01": region_recall(maps, masks, 0.01),
    }
    return {key: min(value, 1.0) for key, value in figures.items()}  # their sums may round above


KINDS = (
    "smooth",
    "normal",
    "ties",
    "equal",
    "two values",
    "half",
    "float64",
    "wide",
    "thousand",
    "one pixel",
    "negative",
    "zeros",
    "perfect",
    "neighbours",
)


def random_case(rng, kind):
    """Return maps, masks and labels of one kind of difficulty."""
    n = int(rng.integers(2, 7))
    shape = tuple(rng.integers(4, 33, 2))
    masks = np.zeros((n, *shape), bool)
    defective = rng.random(n) < 0.6
    defective[0] = True
    for i in np.flatnonzero(defective):
        for _ in range(rng.integers(1, 4)):
            y, x = (int(rng.integers(0, side)) for side in shape)
            h, w = rng.integers(1, 6, 2)
            masks[i, y : y + h, x : x + w] = True
    if kind == "one pixel":
        masks[:] = False
        masks[0, rng.integers(shape[0]), rng.integers(shape[1])] = True
    if masks.all():
        masks[-1] = False
    noise = rng.normal(size=masks.shape)
    signal = noise + rng.uniform(0, 3) * masks
    maps = {
        "smooth": lambda: ndimage.gaussian_filter(signal, (0, 2, 2)).astype(np.float32),
        "normal": lambda: signal.astype(np.float32),
        "ties": lambda: np.round(signal * rng.integers(1, 9)).astype(np.float32),
        "equal": lambda: np.full(masks.shape, rng.normal(), np.float32),
        "two values": lambda: np.where(signal > 1, 1e30, -1e-30),
        "half": lambda: signal.astype(np.float16),
        "float64": lambda: signal,
        "wide": lambda: 10.0 ** np.clip(10 * signal, -30, 30),
        "thousand": lambda: (1000 + 0.01 * np.tanh(signal)).astype(np.float32),
        "one pixel": lambda: signal.astype(np.float32),
        "negative": lambda: (-5 - np.abs(signal)).astype(np.float32),
        "zeros": lambda: np.maximum(signal, 0).astype(np.float32),
        "perfect": lambda: noise.astype(np.float32) + 100 * masks.astype(np.float32),
        "neighbours": lambda: 1 + rng.integers(0, 5, masks.shape) * 2.0**-52,
    }[kind]()
    return maps, masks, masks.any((1, 2)).astype(int)
