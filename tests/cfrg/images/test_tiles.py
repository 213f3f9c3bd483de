"""Tiles cover the image, blend without seams, and agree with the whole."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfrg import CFRGConfig, Predictor
from cfrg.images.tiling import Mosaic, Tiling
from threecad.errors import ImageError, UsageError

SIDE = 64


class LocalMean:
    """A detector that sees ``reach`` pixels far, and zeros behind the border as convolutions do."""

    def __init__(self, reach: int, size: int = SIDE) -> None:
        self.config = CFRGConfig(image_size=size, mean=(0, 0, 0), std=(1, 1, 1))
        self.reach = reach

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        side = 2 * self.reach + 1
        grey = image.mean(1, keepdim=True)
        return F.avg_pool2d(grey, side, 1, self.reach, count_include_pad=True)


def tiled(detector: LocalMean, image: np.ndarray, overlap: int) -> np.ndarray:
    predictor = Predictor(detector, device="cpu", tile=SIDE, overlap=overlap, batch_size=3)
    return next(predictor.predict([image])).map  # type: ignore[return-value]


def whole(detector: LocalMean, image: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return detector.predict_maps(pixels)[0, 0].numpy()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def border_weight(reach: int, overlap: int) -> float:
    """The stated bound: what share of a pixel tiles can have that do not see all it needs."""
    near = np.sin(np.pi * reach / SIDE) ** 2
    far = np.sin(np.pi * (overlap - reach) / SIDE) ** 2
    return 2 * (2 * near / (2 * near + far))  # two tiles a side at most; two axes


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    tile=st.integers(40, 300),
    share=st.floats(0, 0.9),
)
def test_tiles_cover_the_canvas_and_weights_sum_to_one(
    size: tuple[int, int], tile: int, share: float
) -> None:
    tiling = Tiling((SIDE, SIDE), tile, int(share * tile))
    canvas = tiling.canvas_size(size)
    rows, columns = tiling.starts(canvas)
    shared = -(-tiling.overlap * SIDE // tile)
    for starts, length in ((rows, canvas[0]), (columns, canvas[1])):
        assert starts[0] == 0
        assert starts[-1] == max(length - SIDE, 0)
        assert all(0 < b - a <= max(SIDE - shared, 1) for a, b in pairwise(starts))
    mosaic = Mosaic(tiling, canvas)
    for _ in range(tiling.count(canvas)):
        assert not mosaic.complete
        mosaic.add(np.ones((SIDE, SIDE), np.float32))
    np.testing.assert_allclose(mosaic.blended, np.ones(canvas), atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (30, 200), (65, 64), (150, 97), (1, 1), (63, 300)])
def test_pixelwise_detector_gives_the_same_tiled_and_whole(size: tuple[int, int]) -> None:
    image = noise(*size)
    detector = LocalMean(0)
    np.testing.assert_allclose(tiled(detector, image, 20), whole(detector, image), atol=1e-6)


@pytest.mark.parametrize("size", [(160, 160), (200, 131), (65, 300)])
@pytest.mark.parametrize("overlap", [24, 32, 48])
def test_tiled_is_the_whole_within_the_stated_bound(size: tuple[int, int], overlap: int) -> None:
    """The border of a tile changes little, as others that see more have the weight there."""
    detector = LocalMean(4)
    image = noise(*size)
    difference = np.abs(tiled(detector, image, overlap) - whole(detector, image))
    # At a tile's border up to 5 of 9 rows, and columns, are missing from the mean of [0, 1].
    assert difference.max() <= border_weight(4, overlap)
    # Away from all borders inside the image, nothing differs at all.
    predictor = Predictor(detector, device="cpu", tile=SIDE, overlap=overlap)
    near = np.zeros(size, bool)
    for axis, starts in enumerate(predictor.tiling.starts(size)):
        line = np.zeros(size[axis], bool)
        for start in starts:
            for edge in (start, start + SIDE):
                if 0 < edge < size[axis]:
                    line[max(edge - 4, 0) : edge + 4] = True
        near |= line[:, None] if axis == 0 else line
    assert difference[~near].max() < 1e-6
    assert (~near).mean() > 0.2


def test_uniform_image_shows_no_seams() -> None:
    """Whatever a tile's border does to its map, no step remains where tiles meet."""
    image = np.full((192, 192, 3), 255, np.uint8)
    detector = LocalMean(6)
    blended = tiled(detector, image, 32)[20:-20, 20:-20]  # without the image's own border
    alone = detector.predict_maps(torch.ones(1, 3, SIDE, SIDE))[0, 0].numpy()
    step = abs(alone[SIDE // 2, 0] - alone[SIDE // 2, SIDE // 2])  # were tiles put side by side
    assert step > 0.4
    assert np.abs(np.diff(blended, axis=0)).max() < 0.03 * step
    assert np.abs(np.diff(blended, axis=1)).max() < 0.03 * step
    assert np.abs(blended - 1).max() <= border_weight(6, 32) * step


def test_score_is_read_from_the_blended_map() -> None:
    image = np.zeros((150, 150, 3), np.uint8)
    image[70, 70] = 255
    predictor = Predictor(LocalMean(1), device="cpu", tile=SIDE, overlap=16)
    (prediction,) = predictor.predict([image])
    assert prediction.score == prediction.map.max()
    assert prediction.score == pytest.approx(1 / 9, rel=1e-5)


def test_small_defects_survive_in_tiles_alone() -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    image[300:303, 300:303] = 255
    score = {
        tile: next(Predictor(LocalMean(0), device="cpu", tile=tile).predict([image])).score
        for tile in (0, SIDE)
    }
    assert score[SIDE] == 1
    assert score[0] < 0.2


def test_a_tile_is_a_crop_of_the_canvas() -> None:
    tiling = Tiling((SIDE, SIDE), 2 * SIDE, 32)
    canvas = torch.from_numpy(noise(100, 150)).permute(2, 0, 1)
    rows, columns = tiling.starts((100, 150))
    tiles = list(tiling.cut(canvas))
    places = [(top, left) for top in rows for left in columns]
    for tile, (top, left) in zip(tiles, places, strict=True):
        assert torch.equal(tile, canvas[:, top : top + SIDE, left : left + SIDE])


def test_small_images_are_mirrored_up_to_a_tile() -> None:
    canvas = torch.arange(6, dtype=torch.uint8).view(1, 2, 3).expand(3, 2, 3)
    (tile,) = Tiling((4, 8), 8).cut(canvas)
    assert tile[0].tolist() == [
        [0, 1, 2, 2, 1, 0, 0, 1], [3, 4, 5, 5, 4, 3, 3, 4],
        [3, 4, 5, 5, 4, 3, 3, 4], [0, 1, 2, 2, 1, 0, 0, 1],
    ]  # fmt: skip


def test_configuration_says_the_tiles_unless_told_otherwise() -> None:
    config = CFRGConfig(image_size=64, tile=200, tile_overlap=50)
    assert Tiling.from_config(config) == Tiling((64, 64), 200, 50)
    assert Tiling.from_config(config, 100) == Tiling((64, 64), 100, 25)
    assert Tiling.from_config(config, overlap=10) == Tiling((64, 64), 200, 10)
    assert Tiling.from_config(config, 0) == Tiling((64, 64), 0, 0)


def test_impossible_tiles_are_refused() -> None:
    with pytest.raises(UsageError, match="overlap"):
        Tiling((64, 64), 100, 100)
    with pytest.raises(UsageError, match="overlap"):
        Tiling((64, 64), 0, 10)
    with pytest.raises(ImageError, match="Choose larger tiles"):
        Tiling((64, 64), 1).canvas_size((1000, 1000))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("tile", [0, 48])
def test_an_opened_file_is_placed_as_its_pixels_are(mode: str, tile: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(path := tmp_path / "image.png")
    tiling = Tiling((32, 64), tile)
    np.testing.assert_array_equal(tiling.place(tiling.open(path)), tiling.place(tiling.read(path)))
