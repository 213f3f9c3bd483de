"""Training pairs: keyed draws, order, cache, hold-out."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import Noise, square
from torch.utils.data import DataLoader

from cfrg.defects.pairs import (
    PairBatches,
    PairKey,
    TrainingPairs,
    hold_out,
    random_stream,
)
from cfrg.images.cache import ImageCache
from cfrg.images.foregrounds import find_part
from cfrg.images.tiling import Tiling
from cfrg.network.processing import resize
from threecad import ThreeCAD
from threecad.errors import DataError, ImageError, UsageError
from threecad.images.files import read_image, write_png


def all_pairs(workers: int, start: int = 0) -> list[dict[str, torch.Tensor]]:
    pairs = TrainingPairs(Noise(), square, seed=3)
    batches = PairBatches(length=len(pairs), batch_size=5, seed=3, start=start, stop=7)
    return list(DataLoader(pairs, batch_sampler=batches, num_workers=workers))


def same(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


def test_pair_is_the_image_with_and_without_the_defect() -> None:
    pair = TrainingPairs(Noise(), square, seed=0)[PairKey(0, 4)]
    assert pair["clean"].dtype == pair["defective"].dtype == torch.uint8
    assert pair["mask"].shape == (1, 32, 32)
    assert set(pair["mask"].unique().tolist()) == {0.0, 1.0}
    expected = torch.from_numpy(Noise.images[4]).permute(2, 0, 1)
    assert torch.equal(pair["clean"], expected)
    untouched = (pair["mask"] == 0).expand(3, -1, -1)
    assert torch.equal(pair["defective"][untouched], expected[untouched])


def test_pairs_do_not_depend_on_the_workers() -> None:
    assert same(all_pairs(0), all_pairs(2))


def test_resumed_stream_is_the_rest_of_the_whole_one() -> None:
    assert same(all_pairs(0)[4:], all_pairs(0, start=4))


def test_defects_differ_between_images_epochs_and_seeds() -> None:
    keys = [PairKey(epoch, position) for epoch in range(4) for position in range(12)]
    masks = {
        (seed, key): TrainingPairs(Noise(), square, seed=seed)[key]["mask"].numpy().tobytes()
        for seed in (0, 1)
        for key in keys
    }
    assert len(set(masks.values())) > 0.9 * len(masks)


@given(
    length=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    processes=st.integers(1, 4),
    steps=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_every_epoch_shows_every_image_once(
    length: int, batch_size: int, processes: int, steps: int, seed: int
) -> None:
    def batches(rank: int, count: int, start: int = 0) -> list[list[PairKey]]:
        return list(
            PairBatches(
                length=length,
                batch_size=batch_size,
                seed=seed,
                start=start,
                stop=steps,
                rank=rank,
                processes=count,
            )
        )

    shards = [batches(rank, processes) for rank in range(processes)]
    stream = [key for step in range(steps) for shard in shards for key in shard[step]]
    assert all(len(batch) == batch_size for shard in shards for batch in shard)
    assert [key.epoch for key in stream] == [i // length for i in range(len(stream))]
    assert max(Counter(stream).values()) == 1
    assert all(0 <= key.position < length for key in stream)
    assert batches(0, processes, start=steps // 2) == shards[0][steps // 2 :]


def test_streams_of_different_keys_differ_even_by_trailing_zeros() -> None:
    draws = {random_stream(*key).integers(1 << 62) for key in [(1, 2), (2, 1), (1, 3), (2, 2)]}
    assert len(draws) == 4
    assert random_stream(1, 2).integers(1 << 62) == random_stream(1, 2).integers(1 << 62)


def test_cache_holds_the_resized_images_and_is_made_once(tree: Path, tmp_path: Path) -> None:
    dataset = ThreeCAD(tree, split="train")
    cache = ImageCache(dataset, (48, 40), folder=tmp_path / "cache")
    assert len(cache) == len(dataset)
    for position, sample in enumerate(dataset.index):
        np.testing.assert_array_equal(cache[position], resize(read_image(sample.image), (48, 40)))
    made = cache.path.stat().st_mtime_ns
    assert ImageCache(dataset, (48, 40), folder=tmp_path / "cache").path.stat().st_mtime_ns == made
    assert ImageCache(dataset, (40, 48), folder=tmp_path / "cache").path != cache.path
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache))[0], cache[0])


def test_cache_notices_a_changed_image(tree: Path, tmp_path: Path) -> None:
    dataset = ThreeCAD(tree, split="train")
    before = ImageCache(dataset, (32, 32), folder=tmp_path)
    path = dataset.index.samples[0].image
    os.utime(path, ns=(1, 1))
    assert ImageCache(dataset, (32, 32), folder=tmp_path).path != before.path


def test_cache_of_nothing_is_an_error(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="selection is empty"):
        ImageCache(ThreeCAD(tree, split="val"), (32, 32), folder=tmp_path)


def test_hold_out_depends_on_the_ids_alone(tree: Path) -> None:
    dataset = ThreeCAD(tree, split="train")
    ids = [f"image-{i}" for i in range(6)]
    train, held = hold_out(dataset, ids, 0.34)
    assert sorted([*train.indices, *held.indices]) == list(range(6))
    assert len(held) == 2
    again = hold_out(dataset, ids[::-1], 0.34)[1]
    assert {ids[::-1][i] for i in again.indices} == {ids[i] for i in held.indices}
    assert len(hold_out(dataset, ids, 0)[1]) == 0
    for wrong in (1, -0.1):
        with pytest.raises(UsageError):
            hold_out(dataset, ids, wrong)
    with pytest.raises(UsageError, match="too few"):
        hold_out(dataset, [], 0.1)


def test_cache_of_canvases_and_parts(tree: Path, tmp_path: Path) -> None:
    dataset = ThreeCAD(tree, split="train")
    tiling = Tiling((32, 32), tile=48)
    cache = ImageCache(dataset, tiling, folder=tmp_path)
    for position, sample in enumerate(dataset.index):
        image = read_image(sample.image)
        canvas = resize(image, tiling.canvas_size(image.shape[:2]))
        assert canvas.shape[0] > 32
        np.testing.assert_array_equal(cache[position], canvas)
    tiles = list(cache.tiles())
    assert len(tiles) == sum(tiling.count(cache[i].shape[:2]) for i in range(len(cache)))
    assert {tuple(tile.shape) for tile in tiles} == {(3, 32, 32)}
    parts = cache.parts()
    for position in range(len(cache)):
        np.testing.assert_array_equal(parts[position], find_part(cache[position]))
    with pytest.raises(IndexError):
        cache[len(cache)]


def test_all_bad_images_are_named_at_once_and_in_bounds(tmp_path: Path) -> None:
    files = [tmp_path / f"{i:03}.png" for i in range(14)]
    for i, file in enumerate(files):
        if i % 7:
            file.write_text("no image")
        else:
            write_png(file, np.zeros((8, 8, 3), np.uint8))
    dataset: Any = dict(enumerate({"path": file} for file in files))
    for workers in (0, 1):
        with pytest.raises(ImageError, match=r"^12 images cannot be used:\n") as caught:
            ImageCache(dataset, (32, 32), workers=workers, folder=tmp_path / "cache")
        named = [file for file in files if f"{file} cannot be read" in str(caught.value)]
        assert named == [*files[1:7], *files[8:12]]
        assert str(caught.value).endswith("… and 2 more.")
    assert not list((tmp_path / "cache").glob("*.arrays"))
