"""Evaluators in several processes, joined by torch.distributed."""

import multiprocessing
import pickle
from datetime import timedelta

import numpy as np
import pytest
from exact_metrics import random_case

from threecad.metrics import Evaluator

torch = pytest.importorskip("torch")


def batches():
    rng = np.random.default_rng(0)
    for kind in ("smooth", "float64", "ties", "half", "wide"):
        maps, masks, labels = random_case(rng, kind)
        names = {"category": [(kind[0] < "s" and "a") or "b"] * len(labels)}
        names["defect_type"] = ["dent" if label else "good" for label in labels]
        yield maps, masks, maps.max((1, 2)), labels, names


def collect(chosen, join=lambda evaluator: None):
    evaluator = Evaluator(bootstrap=50, max_bins=2**12)
    for batch in chosen:
        evaluator.update(*batch)
    join(evaluator)
    while evaluator.start_refinement():
        for batch in chosen:
            evaluator.update(*batch)
        join(evaluator)
        evaluator.finish_refinement()
    return evaluator.compute()


def work(rank, size, folder):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=5),
    )
    try:
        result = collect(list(batches())[rank::size], Evaluator.all_reduce)
    finally:
        torch.distributed.destroy_process_group()
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))


def test_two_processes_equal_one_bit_for_bit(tmp_path):
    expected = collect(list(batches()))
    other = multiprocessing.get_context("spawn").Process(target=work, args=(1, 2, tmp_path))
    other.start()
    work(0, 2, tmp_path)
    other.join()
    for rank in range(2):
        assert pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) == expected


def test_without_processes_all_reduce_changes_nothing():
    evaluator = Evaluator()
    batch = next(batches())
    evaluator.update(*batch)
    evaluator.all_reduce()
    alone = Evaluator()
    alone.update(*batch)
    assert evaluator.compute() == alone.compute()
