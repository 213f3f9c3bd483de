"""Tests of cfrg.defects.recipes and cfrg.defects.shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfrg.defects.pairs import PairBatches, PairKey, TrainingPairs, random_stream
from cfrg.defects.recipes import (
    PaperDefects,
    VariedDefects,
    change_brightness,
    change_contrast,
    warp,
)
from cfrg.defects.shapes import (
    blob_mask,
    coarse_mask,
    line_mask,
    perlin_mask,
    perlin_noise,
    region_mask,
)
from cfrg.defects.switches import Switches
from cfrg.defects.textures import DrawnTextures, FolderTextures
from cfrg.images.foregrounds import find_part
from cfrg.training.options import TrainingOptions
from cfrg.training.recipes import make_defects
from threecad.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

SHAPES = (perlin_mask, coarse_mask, blob_mask, line_mask, region_mask)
seeds = st.integers(0, 2**32 - 1)


def grey_ramp(height: int = 64, width: int = 48) -> Bytes:
    ramp = np.linspace(40, 200, height * width).reshape(height, width)
    return np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)


PRESETS = {name: TrainingOptions.preset(name) for name in ("paper", "lite")}


def paper(textures: list[Bytes] | None = None, **switches: object) -> PaperDefects:
    others = [np.full((64, 48, 3), 250, np.uint8)]
    return PaperDefects(textures or DrawnTextures(), others, Switches(**switches), seed=3)  # type: ignore[arg-type]


def varied(others: list[Bytes], **switches: object) -> VariedDefects:
    return VariedDefects(DrawnTextures(), others, Switches(**switches))  # type: ignore[arg-type]


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
@settings(max_examples=25)
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
    defective, mask = paper([texture])(image, np.random.default_rng(4))

    rng = np.random.default_rng(4)
    expected_mask = perlin_mask(rng, (64, 48))
    rng.integers(1)  # the texture
    beta = rng.uniform(0, 0.8)
    expected = np.empty(image.shape)
    for place in np.ndindex(image.shape):
        m = float(expected_mask[place[:2]])
        x, d = image[place] / 255, texture[place] / 255
        expected[place] = 255 * ((1 - m) * x + m * ((1 - beta) * d + beta * x))
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(defective, expected, atol=0.51)


@pytest.mark.parametrize("preset", ["paper", "lite"])
@given(seed=seeds)
@settings(max_examples=30)
def test_a_pair_is_an_image_and_its_mask(preset, seed: int) -> None:  # type: ignore[no-untyped-def]
    image = grey_ramp()
    make = make_defects(PRESETS[preset], [image, image[::-1]])
    defective, mask = make(image, np.random.default_rng(seed), PairKey(0, 0), None)
    assert (defective.shape, defective.dtype) == (image.shape, np.uint8)
    assert (mask.shape, mask.dtype) == (image.shape[:2], np.uint8)
    assert set(np.unique(mask)) <= {0, 1}
    np.testing.assert_array_equal(image, grey_ramp())  # the good image is left alone
    if preset == "paper":
        assert mask.any()
        np.testing.assert_array_equal(defective[mask == 0], image[mask == 0])


def test_varied_defects_leave_the_stated_share_clean() -> None:
    image = grey_ramp()
    for clean, low, high in ((0.0, 0.0, 0.2), (0.5, 0.35, 0.75), (1.0, 1.0, 1.0)):
        make = varied([image], clean_share=clean)
        pairs = [make(image, random_stream(7, number)) for number in range(80)]
        untouched = np.mean([np.array_equal(defective, image) for defective, _ in pairs])
        assert low <= untouched <= high
        for defective, mask in pairs:
            if np.array_equal(defective, image):
                assert not mask.any()


def test_what_is_marked_can_be_seen() -> None:
    image = grey_ramp(128, 128)
    make = varied([image, np.rot90(image).copy()], structural=True, several_scales=True)
    for number in range(40):
        defective, mask = make(image, random_stream(11, number))
        if mask.any():
            change = np.abs(defective.astype(int) - image)[mask == 1]
            assert change.mean() > 0.5


def test_varied_defects_vary_in_size() -> None:
    image = grey_ramp(128, 128)
    make = varied([image, np.rot90(image).copy()], structural=True, several_scales=True)
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
        pairs = TrainingPairs(images, make_defects(PRESETS["lite"], images), seed=seed)  # type: ignore[arg-type]
        return pairs[(epoch, position)]["defective"].numpy()  # type: ignore[index]

    np.testing.assert_array_equal(draw(0, 0, 1), draw(0, 0, 1))
    different = [draw(0, 0, 0), draw(0, 1, 0), draw(1, 0, 0), draw(0, 0, 1), draw(0, 2, 2)]
    pictures = {picture.tobytes() for picture in different}
    assert len(pictures) >= 4  # a clean share may coincide once


@pytest.mark.parametrize("preset", ["paper", "lite"])
def test_workers_do_not_change_the_pairs(preset) -> None:  # type: ignore[no-untyped-def]
    import torch
    from torch.utils.data import DataLoader

    images = [np.roll(grey_ramp(32, 32), number, 0) for number in range(6)]
    pairs = TrainingPairs(images, make_defects(PRESETS[preset], images), seed=3)  # type: ignore[arg-type]
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
    assert len(textures) == 1
    assert textures[0].shape == (256, 384, 3)


def test_a_folder_without_textures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no texture image"):
        FolderTextures(tmp_path)


def test_textures_do_not_repeat_with_the_image(tmp_path: Path) -> None:
    """An image meets another texture in another epoch."""
    for number in range(5):
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
    image = np.full((16, 16, 3), 255, np.uint8)

    def fillings(**changes: bool) -> list[set[int]]:
        """The textures that each of seven images meets, known by their red."""
        make = make_defects(TrainingOptions(**changes), [image], tmp_path)  # type: ignore[arg-type]
        pairs = TrainingPairs([image] * 7, make, seed=0)
        met: list[set[int]] = []
        for position in range(7):
            met.append(set())
            for epoch in range(40):
                pair = pairs[PairKey(epoch, position)]
                red, green = pair["defective"][:2, pair["mask"][0] == 1].float()[:, 0]
                # (1 − β)·texture + β·255: green is 0 in every texture and tells β.
                beta = float(green) / 255
                met[-1].add(round((float(red) - beta * 255) / (1 - beta) / 50))
        return met

    assert all(len(textures) == 5 for textures in fillings())
    assert fillings(fixed_textures=True) == [{position % 5} for position in range(7)]


def test_structural_defects_are_patches_of_other_images() -> None:
    image = grey_ramp()

    def bright(**switches: bool) -> int:
        """How many of 60 defects show the other image, which is brighter than anything else."""
        make, count = paper([np.zeros((64, 48, 3), np.uint8)], **switches), 0
        for number in range(60):
            defective, mask = make(image, random_stream(1, number))
            count += bool(defective[mask == 1].mean() > image[mask == 1].mean())
        return count

    assert bright() == 0
    assert 15 < bright(structural=True) < 45


def test_varied_defects_without_patches_never_look_at_other_images() -> None:
    class NoImages(list):  # type: ignore[type-arg]
        def __getitem__(self, position: object) -> Bytes:
            raise AssertionError("asked for another image")

    make = varied(NoImages([0]), several_scales=True)
    for number in range(60):
        make(grey_ramp(), random_stream(4, number))


def test_scales_reach_down_to_the_smallest_defect_and_no_further() -> None:
    def areas(**switches: object) -> list[int]:
        make = paper(**switches)
        image = grey_ramp(128, 128)
        return [int(make(image, random_stream(9, number))[1].sum()) for number in range(150)]

    assert min(areas(several_scales=True)) <= 4
    blobs = [
        int(blob_mask(np.random.default_rng(seed), (128, 128), smallest=6.0).sum())
        for seed in range(200)
    ]
    assert sum(area < 30 for area in blobs) < 20  # but where they leave the image
    lines = line_mask(np.random.default_rng(0), (128, 128), smallest=5.0).sum()
    assert lines > 2 * line_mask(np.random.default_rng(0), (128, 128)).sum()


def test_augmented_textures_change_what_is_blended() -> None:
    texture = np.random.default_rng(2).integers(0, 256, (64, 48, 3)).astype(np.uint8)
    plain, changed = paper([texture]), paper([texture], augment_textures=True)
    image = grey_ramp()
    (a, mask_a), (b, mask_b) = (make(image, random_stream(6, 1)) for make in (plain, changed))
    np.testing.assert_array_equal(mask_a, mask_b)
    assert not np.array_equal(a, b)


def test_rotations_repeat_only_when_asked() -> None:
    """Rotation is seen where the noise is the same: the lattice of one cell, angle by angle."""

    def masks(repeat: bool) -> set[bytes]:
        make = paper(repeat_rotations=repeat)
        return {
            make(grey_ramp(), random_stream(8, 0), PairKey(0, 0, place))[1].tobytes()
            for place in range(6)
        }

    assert len(masks(repeat=False)) == 1  # all from the generator, none from the place
    assert len(masks(repeat=True)) > 3
    once, again = (
        paper(repeat_rotations=True)(grey_ramp(), random_stream(8, 0), PairKey(epoch, 0, 5))[1]
        for epoch in (0, 7)
    )
    np.testing.assert_array_equal(once, again)


def photograph(background: int = 20) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """A rough disc in front of a smooth background, and where it is."""
    y, x = np.mgrid[:96, :96]
    part = np.hypot(y - 50, x - 44) < 30
    rng = np.random.default_rng(0)
    image = np.where(part, rng.normal(150, 12, (96, 96)), rng.normal(background, 2, (96, 96)))
    return np.repeat(image[..., None], 3, axis=2).clip(0, 255).astype(np.uint8), part


@pytest.mark.parametrize("background", [20, 235])
def test_the_part_is_found_in_front_of_its_background(background: int) -> None:
    image, part = photograph(background)
    found = find_part(image)
    assert (found & part).sum() / (found | part).sum() > 0.9


def test_the_whole_image_is_the_part_where_in_doubt() -> None:
    rng = np.random.default_rng(0)
    smooth = np.full((64, 64, 3), 90, np.uint8)
    texture = rng.integers(60, 180, (64, 64, 3)).astype(np.uint8)
    openings = texture.copy()  # a part that fills the frame, with smooth dark openings
    openings[16:48, 16:48] = 5
    for image in (smooth, texture, grey_ramp(64, 64), openings):
        assert find_part(image).all()


@pytest.mark.parametrize("preset", ["paper", "lite"])
def test_defects_stay_on_the_part(preset) -> None:  # type: ignore[no-untyped-def]
    image, _ = photograph()
    part = find_part(image)
    make = make_defects(PRESETS[preset], [image, image[::-1].copy()])
    pairs = TrainingPairs([image], make, seed=0, parts=[part.astype(np.uint8)])
    free = TrainingPairs([image], make, seed=0)
    strayed = 0
    for epoch in range(40):
        pair = pairs[PairKey(epoch, 0)]
        outside = ~part
        np.testing.assert_array_equal(pair["mask"][0].numpy()[outside], 0)
        np.testing.assert_array_equal(
            pair["defective"].permute(1, 2, 0).numpy()[outside], image[outside]
        )
        strayed += bool(free[PairKey(epoch, 0)]["mask"][0].numpy()[outside].any())
    assert strayed > 10


def test_crops_are_drawn_by_key_and_keep_their_part() -> None:
    image = np.random.default_rng(1).integers(0, 256, (80, 20, 3)).astype(np.uint8)
    parts = [(image[..., 0] > 128).astype(np.uint8)]
    make = make_defects(PRESETS["paper"], [image])
    pairs = TrainingPairs([image], make, seed=0, crop=(32, 32), parts=parts)
    crops = [pairs[PairKey(epoch, 0)] for epoch in range(12)]
    assert all(pair["clean"].shape == (3, 32, 32) for pair in crops)
    assert len({pair["clean"].numpy().tobytes() for pair in crops}) > 6
    for pair in crops:
        crop = pair["clean"].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(crop[:, 20:], crop[:, 8:20][:, ::-1])  # mirrored
        tops = [top for top in range(49) if np.array_equal(image[top : top + 32], crop[:, :20])]
        assert len(tops) == 1
        assert not pair["mask"][0].numpy()[crop[..., 0] <= 128].any()
    again = TrainingPairs([image], make, seed=0, crop=(32, 32))[PairKey(3, 0)]
    np.testing.assert_array_equal(again["clean"], crops[3]["clean"])


def test_crops_on_two_scales_are_of_the_image_and_of_its_half() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    halves = np.lib.stride_tricks.sliding_window_view(image, (2, 2), (0, 1)).mean((-1, -2))

    def leave(image: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        return image, np.zeros(image.shape[:2], np.uint8)

    pairs = TrainingPairs([image], leave, seed=0, crop=(32, 32), scales=2)
    whole = 0
    for epoch in range(40):
        crop = pairs[PairKey(epoch, 0)]["clean"].permute(1, 2, 0).numpy().astype(float)
        at_full = any(
            np.array_equal(crop, image[y : y + 32, x : x + 32])
            for y in range(97)
            for x in range(129)
        )
        at_half = any(
            np.abs(crop - halves[y : y + 64 : 2, x : x + 64 : 2]).max() <= 0.5
            for y in range(65)
            for x in range(97)
        )
        assert at_full != at_half
        whole += at_full
    assert 10 <= whole <= 30
