"""Reading ahead and writing behind."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import SMALL

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.inference.streaming import Later, WriteBehind, read_ahead, read_in_threads


def test_items_come_in_order_and_no_more_are_fetched_than_asked_for() -> None:
    fetched: list[int] = []

    def items():
        for i in range(100):
            fetched.append(i)
            yield i

    seen = []
    for item in read_ahead(items(), 3):
        seen.append(item)
        assert len(fetched) <= len(seen) + 3 + 2
    assert seen == list(range(100))


def test_the_reader_ends_with_its_caller() -> None:
    ended = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    ahead = read_ahead(items(), 2)
    next(ahead)
    ahead.close()
    assert ended.wait(30)


def test_what_the_source_raises_comes_after_its_items() -> None:
    def items():
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(items(), 5)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_threads_make_items_at_once_and_they_come_in_order() -> None:
    both = threading.Barrier(2)  # broken after the time unless two threads meet at it

    def make(i: int) -> int:
        both.wait(30)
        time.sleep(0.01 * (i % 2))
        return i

    items = (Later(partial(make, i)) for i in range(10))
    assert list(read_in_threads(items, 4, 2)) == list(range(10))


def test_what_threads_raise_comes_in_its_place_and_what_is_ready_stays_as_it_is() -> None:
    def fail() -> int:
        raise ValueError("broken")

    ahead = read_in_threads([1, Later(lambda: 2), Later(fail), 4], 5, 3)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_no_more_items_are_begun_than_asked_for() -> None:
    begun: list[int] = []

    def items():
        for i in range(100):
            begun.append(i)
            yield Later(partial(int, i))

    for i, item in enumerate(read_in_threads(items(), 3, 2)):
        assert item == i
        assert len(begun) <= i + 1 + 3 + 2


def test_tasks_are_done_in_order_before_the_block_ends() -> None:
    done: list[int] = []

    def do(i: int) -> None:
        time.sleep(0.001)
        done.append(i)

    with WriteBehind(4) as behind:
        for i in range(30):
            behind(do, i)
            assert len(done) >= i - 4
    assert done == list(range(30))


def test_what_a_task_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError("disk full")

    behind = WriteBehind(4)
    behind(fail)
    with pytest.raises(OSError, match="disk full"):
        behind.__exit__(None, None, None)


def _resident() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "image.png")
    torch.manual_seed(0)
    config = CFRGConfig.preset("lite", memory=0, memory_weight=0.0, scales=(1.0,), **SMALL)
    predictor = Predictor(CFRG(config).eval(), device="cpu")
    used = [
        _resident()
        for i, _ in enumerate(predictor.predict_files([(str(i), path) for i in range(2000)]))
        if i in (499, 1999)
    ]
    assert used[1] - used[0] < 48  # the maps of 1,500 images would take 94 MiB
