"""Tests of cfrg.synthesis and cfrg.shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfrg.data import PairBatches, TrainingPairs, random_stream
from cfrg.shapes import (
    blob_mask,
    coarse_mask,
    line_mask,
    perlin_mask,
    perlin_noise,
    region_mask,
)
from cfrg.synthesis import (
    FolderTextures,
    PaperDefects,
    ProceduralTextures,
    VariedDefects,
    change_brightness,
    change_contrast,
    make_defects,
    warp,
)
from threecad.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

SHAPES = (perlin_mask, coarse_mask, blob_mask, line_mask, region_mask)
seeds = st.integers(0, 2**32 - 1)


def grey_ramp(height: int = 64, width: int = 48) -> Bytes:
    ramp = np.linspace(40, 200, height * width).reshape(height, width)
    return np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)


class OneTexture:
    """Always the same texture, of the image's own size."""

    def __init__(self, texture: Bytes) -> None:
        self.texture = texture

    def __call__(self, rng: np.random.Generator) -> Bytes:
        return self.texture


def literal_perlin(angles: npt.NDArray[np.float32], height: int, width: int) -> list[list[float]]:
    """Perlin's definition, one pixel at a time."""
    cells_y, cells_x = angles.shape[0] - 1, angles.shape[1] - 1

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    def mix(a: float, b: float, t: float) -> float:
        return a + t * (b - a)

    rows = []
    for i in range(height):
        row = []
        for j in range(width):
            y, x = i * cells_y / height, j * cells_x / width
            top, left = int(y), int(x)

            def corner(down: int, right: int) -> float:
                angle = angles[top + down, left + right]  # noqa: B023
                towards_y, towards_x = y - top - down, x - left - right  # noqa: B023
                return math.cos(angle) * towards_x + math.sin(angle) * towards_y

            u, v = fade(x - left), fade(y - top)
            upper = mix(corner(0, 0), corner(0, 1), u)
            lower = mix(corner(1, 0), corner(1, 1), u)
            row.append(math.sqrt(2) * mix(upper, lower, v))
        rows.append(row)
    return rows


@pytest.mark.parametrize(("size", "periods"), [((32, 32), (4, 8)), ((24, 40), (1, 2))])
def test_noise_equals_perlins_definition(size: tuple[int, int], periods: tuple[int, int]) -> None:
    noise = perlin_noise(np.random.default_rng(3), size, periods)
    lattice = (periods[0] + 1, periods[1] + 1)
    angles = np.random.default_rng(3).random(lattice, dtype=np.float32) * np.float32(2 * math.pi)
    np.testing.assert_allclose(noise, literal_perlin(angles, *size), atol=1e-5)


def test_noise_vanishes_at_the_lattice_and_stays_in_range() -> None:
    noise = perlin_noise(np.random.default_rng(0), (64, 64), (8, 8))
    np.testing.assert_allclose(noise[::8, ::8], 0, atol=1e-6)
    assert 0.3 < np.abs(noise).max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=seeds, height=st.integers(8, 70), width=st.integers(8, 70))
@settings(max_examples=25, deadline=None)
def test_masks_are_never_empty(shape, seed: int, height: int, width: int) -> None:  # type: ignore[no-untyped-def]
    mask = shape(np.random.default_rng(seed), (height, width))
    assert mask.shape == (height, width)
    assert mask.dtype == bool
    if shape is not region_mask:  # a band may pass the image by; it is then no defect
        assert mask.any()


def test_blobs_come_from_one_pixel_up() -> None:
    areas = [int(blob_mask(np.random.default_rng(s), (128, 128)).sum()) for s in range(300)]
    assert min(areas) <= 3
    assert max(areas) > 1000


def test_paper_defects_blend_as_the_equation_says() -> None:
    image, texture = grey_ramp(), np.random.default_rng(9).integers(0, 256, (64, 48, 3))
    texture = texture.astype(np.uint8)
    defective, mask = PaperDefects(OneTexture(texture))(image, np.random.default_rng(4))

    rng = np.random.default_rng(4)
    expected_mask = perlin_mask(rng, (64, 48))
    beta = rng.uniform(0, 0.8)
    expected = np.empty(image.shape)
    for place in np.ndindex(image.shape):
        m = float(expected_mask[place[:2]])
        x, d = image[place] / 255, texture[place] / 255
        expected[place] = 255 * ((1 - m) * x + m * ((1 - beta) * d + beta * x))
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(defective, expected, atol=0.51)


@pytest.mark.parametrize("kind", ["paper", "varied"])
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_a_pair_is_an_image_and_its_mask(kind, seed: int) -> None:  # type: ignore[no-untyped-def]
    image = grey_ramp()
    defective, mask = make_defects(kind, [image, image[::-1]])(image, np.random.default_rng(seed))
    assert (defective.shape, defective.dtype) == (image.shape, np.uint8)
    assert (mask.shape, mask.dtype) == (image.shape[:2], np.uint8)
    assert set(np.unique(mask)) <= {0, 1}
    np.testing.assert_array_equal(image, grey_ramp())  # the good image is left alone
    if kind == "paper":
        assert mask.any()
        np.testing.assert_array_equal(defective[mask == 0], image[mask == 0])


def test_varied_defects_leave_the_stated_share_clean() -> None:
    image = grey_ramp()
    for clean, low, high in ((0.0, 0.0, 0.2), (0.5, 0.35, 0.75), (1.0, 1.0, 1.0)):
        make = VariedDefects(ProceduralTextures(), [image], clean=clean)
        pairs = [make(image, random_stream(7, number)) for number in range(80)]
        untouched = np.mean([np.array_equal(defective, image) for defective, _ in pairs])
        assert low <= untouched <= high
        for defective, mask in pairs:
            if np.array_equal(defective, image):
                assert not mask.any()


def test_what_is_marked_can_be_seen() -> None:
    image = grey_ramp(128, 128)
    make = VariedDefects(ProceduralTextures(), [image, np.rot90(image).copy()], clean=0.0)
    for number in range(40):
        defective, mask = make(image, random_stream(11, number))
        if mask.any():
            change = np.abs(defective.astype(int) - image)[mask == 1]
            assert change.mean() > 0.5


def test_varied_defects_vary_in_size() -> None:
    image = grey_ramp(128, 128)
    make = VariedDefects(ProceduralTextures(), [image, np.rot90(image).copy()], clean=0.0)
    shares = [make(image, random_stream(5, number))[1].mean() for number in range(150)]
    assert min(share for share in shares if share > 0) < 5e-4  # a few pixels
    assert max(shares) > 0.2


@pytest.mark.parametrize("change", [change_brightness, change_contrast, warp])
def test_changes_change(change) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).random((64, 48, 3), dtype=np.float32)
    changed = change(x, np.random.default_rng(1))
    assert changed.shape == x.shape
    assert changed.dtype == np.float32
    assert np.abs(changed - x).mean() > 0.01


def test_pairs_belong_to_seed_epoch_and_position() -> None:
    images = [grey_ramp() for _ in range(3)]

    def draw(seed: int, epoch: int, position: int) -> npt.NDArray[np.uint8]:
        pairs = TrainingPairs(images, make_defects("varied", images), seed=seed)  # type: ignore[arg-type]
        return pairs[(epoch, position)]["defective"].numpy()  # type: ignore[index]

    np.testing.assert_array_equal(draw(0, 0, 1), draw(0, 0, 1))
    different = [draw(0, 0, 0), draw(0, 1, 0), draw(1, 0, 0), draw(0, 0, 1), draw(0, 2, 2)]
    pictures = {picture.tobytes() for picture in different}
    assert len(pictures) >= 4  # a clean share may coincide once


@pytest.mark.parametrize("kind", ["paper", "varied"])
def test_workers_do_not_change_the_pairs(kind) -> None:  # type: ignore[no-untyped-def]
    import torch
    from torch.utils.data import DataLoader

    images = [np.roll(grey_ramp(32, 32), number, 0) for number in range(6)]
    pairs = TrainingPairs(images, make_defects(kind, images), seed=3)  # type: ignore[arg-type]
    batches = PairBatches(length=6, batch_size=4, seed=3, start=0, stop=3)

    def run(workers: int) -> list[torch.Tensor]:
        loader = DataLoader(pairs, batch_sampler=batches, num_workers=workers)
        return [torch.cat([b["defective"].flatten(), b["mask"].flatten()]) for b in loader]

    for alone, shared in zip(run(0), run(2), strict=True):
        assert torch.equal(alone, shared)
    assert len({batch.numpy().tobytes() for batch in run(0)}) == 3  # and epochs differ


def test_folder_textures_are_found_and_shrunk(tmp_path: Path) -> None:
    (tmp_path / "banded").mkdir()
    Image.new("RGB", (600, 400), (255, 0, 0)).save(tmp_path / "banded" / "a.JPG")
    (tmp_path / "notes.txt").write_text("not a texture")
    textures = FolderTextures(tmp_path)
    assert len(textures.files) == 1
    assert textures(np.random.default_rng(0)).shape == (256, 384, 3)


def test_a_folder_without_textures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no texture image"):
        FolderTextures(tmp_path)


def test_textures_do_not_repeat_with_the_image(tmp_path: Path) -> None:
    """An image meets another texture in another epoch."""
    for number in range(5):
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
    textures = FolderTextures(tmp_path)
    seen = {int(textures(random_stream(2, 0, epoch, 0))[0, 0, 0]) for epoch in range(40)}
    assert len(seen) == 5
