"""How soon ``cfrg monitor`` notices other exposures, and how often it alarms without any.

    python tools/bench/monitoring.py RUN USUAL/predictions.jsonl [SHIFTED/predictions.jsonl …]

Without a change: the good images of the calibration and of the first file are shuffled, and divided
into a calibration and a stream, again and again. With one: parts of a shifted file follow 100 of
the first, in random order.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from cfrg.monitoring.martingale import bet_on_ranks, rank
from cfrg.monitoring.streams import read_reference, read_stream

SHUFFLES, SHIFTED, BEFORE, RATE = 200, 50, 100, 0.01


def _measure(run: str, usual: str, shifted: list[str]) -> None:
    threshold, reference = read_reference(run)
    limit = threshold.image_threshold
    streams = [reference, *(read_stream([file]) for file in (usual, *shifted))]
    kept = [{name: v[s.values["score"] < limit] for name, v in s.values.items()} for s in streams]
    names = list(reference.values)
    needed = math.log((len(names) + 1) / RATE)
    rng = np.random.default_rng(0)
    size = len(kept[0]["score"])
    for rate in (0.1, RATE):
        alarms = 0
        for seed in range(SHUFFLES):
            order = rng.permutation(size + len(kept[1]["score"]))
            pooled = {name: np.concatenate([kept[0][name], kept[1][name]])[order] for name in names}
            capitals = [
                bet_on_ranks(rank(v[:size], v[size:], seed * len(names) + i))
                for i, v in enumerate(pooled.values())
            ]
            alarms += max(c.max() for c in capitals) >= math.log((len(names) + 1) / rate)
        print(f"unchanged, rate {rate:.0%}: {alarms} of {SHUFFLES} shuffles alarm")
    for file, later in zip(shifted, kept[2:], strict=True):
        delays = []
        for seed in range(SHIFTED):
            first = rng.permutation(size + len(kept[1]["score"]))
            second = rng.permutation(len(later["score"]))
            seen = math.inf
            for i, name in enumerate(names):
                pooled = np.concatenate([kept[0][name], kept[1][name]])[first][: size + BEFORE]
                stream = np.concatenate([pooled[size:], later[name][second]])
                capital = bet_on_ranks(rank(pooled[:size], stream, seed * len(names) + i))
                reached = np.flatnonzero(capital >= needed)
                seen = min(seen, reached[0] - BEFORE + 1 if len(reached) else math.inf)
            delays.append(seen)
        low, middle, high = np.quantile(delays, (0.1, 0.5, 0.9), method="nearest")
        print(f"{file}: noticed after {middle:g} parts (80 % of orders: {low:g} to {high:g})")


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], sys.argv[3:])
