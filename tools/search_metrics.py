"""Search for a case in which a certified interval does not contain the exact value.

    python tools/search_metrics.py --cases 10000

Draws random evaluations of every kind of difficulty in ``tests/exact_metrics.py``, under random
memory budgets, and compares each figure with scikit-learn and a brute-force pooled PRO: first after
one pass, then after refinement. Prints how often an interval missed the exact value (it must be
never) and the largest error after refinement. Exits with 1 if one missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from exact_metrics import KINDS, pixel_figures, random_case

from threecad.metrics import Evaluator


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    compared = missed = open_ = 0
    first: dict[str, float] = defaultdict(float)
    refined: dict[str, float] = defaultdict(float)
    for case in range(options.cases):
        rng = np.random.default_rng([options.seed, case])
        kind = KINDS[case % len(KINDS)]
        maps, masks, labels = random_case(rng, kind)
        batch = (maps, masks, [0.0] * len(labels), labels)
        evaluator = Evaluator(max_bins=int(2 ** rng.integers(9, 23)))
        evaluator.update(*batch)
        results = [evaluator.compute()]
        for _ in range(8):
            if not evaluator.start_refinement():
                break
            evaluator.update(*batch)
            evaluator.finish_refinement()
        results.append(evaluator.compute())
        for key, exact in pixel_figures(maps, masks).items():
            for result, worst in zip(results, (first, refined), strict=True):
                figure = result[key]
                compared += 1
                if not figure.low <= exact <= figure.high:
                    missed += 1
                    print(f"case {case} ({kind}) {key}: {exact!r} is not in {figure}")
                worst[key] = max(worst[key], abs(figure.value - exact))
            open_ += not results[1][key].within_tolerance
        if (case + 1) % 1000 == 0:
            print(f"{case + 1} cases, {compared} intervals, {missed} missed", flush=True)
    print(f"\n{options.cases} cases of {len(KINDS)} kinds, {time.perf_counter() - began:.0f} s")
    print(f"exact value outside its interval: {missed} of {compared}")
    print(f"figures wider than their tolerance after refinement: {open_}")
    print("\n| figure | largest error, one pass | largest error, refined |\n|---|---:|---:|")
    for key in refined:
        print(f"| {key} | {first[key]:.1e} | {refined[key]:.1e} |")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
