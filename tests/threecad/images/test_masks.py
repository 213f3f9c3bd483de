from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from threecad import decode_mask, read_mask
from threecad.errors import MaskError, UsageError


def save(folder: Path, values: np.ndarray, mode: str | None = None, name: str = "m.png") -> Path:
    path = folder / name
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def square(values: int | tuple[int, ...], shape=(8, 9), dtype=np.uint8, background=0) -> np.ndarray:
    """An image with the pixels [2:5, 3:7] set."""
    channels = () if isinstance(values, int) else (len(values),)
    array = np.full((*shape, *channels), background, dtype)
    array[2:5, 3:7] = values
    return array


SQUARE = square(1).astype(bool)


@pytest.mark.parametrize("value", [1, 2, 127, 128, 255])
def test_two_values_with_zero_are_binary(tmp_path: Path, value: int) -> None:
    decoded = decode_mask(save(tmp_path, square(value)))
    assert decoded.rule == "binary"
    assert decoded.mask.dtype == np.bool_
    assert np.array_equal(decoded.mask, SQUARE)
    assert decoded.findings == ()
    assert decoded.classes == ()
    assert decoded.labels is None


@pytest.mark.parametrize("value", [1, 300, 65535])
def test_sixteen_bits_are_not_scaled(tmp_path: Path, value: int) -> None:
    decoded = decode_mask(save(tmp_path, square(value, dtype=np.uint16)))
    assert (decoded.rule, decoded.findings) == ("binary", ())
    assert np.array_equal(decoded.mask, SQUARE)


def test_one_bit_images_are_binary(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(square(255)).convert("1").save(path)
    with Image.open(path) as image:
        assert image.mode == "1"
    decoded = decode_mask(path)
    assert decoded.rule == "binary"
    assert np.array_equal(decoded.mask, SQUARE)


def test_all_zero_is_empty(tmp_path: Path) -> None:
    decoded = decode_mask(save(tmp_path, np.zeros((4, 5), np.uint8)))
    assert (decoded.rule, decoded.findings) == ("uniform", ("mask-empty",))
    assert decoded.mask.shape == (4, 5)
    assert not decoded.mask.any()


@pytest.mark.parametrize("value", [1, 3, 255])
def test_one_value_above_zero_is_full(tmp_path: Path, value: int) -> None:
    decoded = decode_mask(save(tmp_path, np.full((4, 5), value, np.uint8)))
    assert (decoded.rule, decoded.findings) == ("uniform", ("mask-full",))
    assert decoded.mask.all()


def test_few_low_values_are_a_label_map(tmp_path: Path) -> None:
    values = square(7)
    values[6, 6] = 63
    decoded = decode_mask(save(tmp_path, values))
    assert (decoded.rule, decoded.findings) == ("labels", ())
    assert decoded.classes == (7, 63)
    assert np.array_equal(decoded.mask, values > 0)
    assert decoded.labels is not None
    assert decoded.labels[6, 6] == 2
    assert decoded.labels[2, 3] == 1


def test_a_label_map_has_at_most_32_values(tmp_path: Path) -> None:
    values = np.zeros((8, 8), np.uint8)
    values.flat[:31] = np.arange(1, 32)
    assert decode_mask(save(tmp_path, values)).rule == "labels"
    values.flat[31] = 32
    decoded = decode_mask(save(tmp_path, values))
    assert decoded.rule == "threshold"
    assert decoded.findings == ("mask-empty", "mask-ambiguous")  # all is below 128, yet not 0


def test_values_from_64_are_no_label_map(tmp_path: Path) -> None:
    values = square(200)
    values[6, 6] = 64
    decoded = decode_mask(save(tmp_path, values))
    assert (decoded.rule, decoded.findings) == ("threshold", ("mask-ambiguous",))
    assert np.array_equal(decoded.mask, SQUARE)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (100, 200)])
def test_two_values_without_zero_are_ambiguous(tmp_path: Path, low: int, high: int) -> None:
    decoded = decode_mask(save(tmp_path, square(high, background=low)))
    assert decoded.rule == "threshold"
    assert "mask-ambiguous" in decoded.findings
    assert np.array_equal(decoded.mask, SQUARE if high >= 128 else np.zeros_like(SQUARE))


def test_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    decoded = decode_mask(save(tmp_path, ramp))
    assert (decoded.rule, decoded.findings) == ("threshold", ())
    assert np.array_equal(decoded.mask, ramp >= 128)


def test_sixteen_bit_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    decoded = decode_mask(save(tmp_path, ramp))
    assert decoded.rule == "threshold"
    assert np.array_equal(decoded.mask, ramp >= 32768)


def palette_image(indices: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(colours)
    return image


def test_palettes_are_read_as_indices(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    indices = square(1)
    indices[6, 6] = 2
    palette_image(indices, [0, 0, 0, 255, 0, 0, 1, 1, 1]).save(path)
    decoded = decode_mask(path)
    assert decoded.rule == "labels"
    assert decoded.classes == (1, 2)
    assert np.array_equal(decoded.mask, indices > 0)
    assert decoded.findings == ()


def test_black_is_background_whatever_its_index(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    palette_image(1 - square(1), [255, 255, 255, 0, 0, 0]).save(path)
    decoded = decode_mask(path)
    assert (decoded.rule, decoded.findings) == ("binary", ())
    assert np.array_equal(decoded.mask, SQUARE)
    white = Image.fromarray(square(255)).convert("RGB")
    for name, image in (
        ("adaptive.png", white.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)),
        ("quantised.png", white.quantize(2)),
        ("m.gif", white),
    ):
        image.save(tmp_path / name)
        assert np.array_equal(decode_mask(tmp_path / name).mask, SQUARE), name
    # A palette without colours says nothing: its indices are classes.
    palette_image(square(1), [0, 0, 0] * 256).save(path)
    assert np.array_equal(decode_mask(path).mask, SQUARE)


def test_a_palette_that_paints_most_of_the_image_is_ambiguous(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    palette_image(square(1), [255, 255, 255, 0, 0, 0]).save(path)
    decoded = decode_mask(path)
    assert (decoded.rule, decoded.findings) == ("binary", ("mask-ambiguous",))
    assert np.array_equal(decoded.mask, ~SQUARE)


@pytest.mark.parametrize("colour", [20, (100, 0, 0)])
def test_label_maps_saved_as_jpeg_are_in_doubt(tmp_path: Path, colour: object) -> None:
    truth = np.zeros((64, 64), bool)
    truth[17:37, 21:34] = True
    values = np.zeros((64, 64) if isinstance(colour, int) else (64, 64, 3), np.uint8)
    values[truth] = colour
    Image.fromarray(values).save(tmp_path / "m.jpg", quality=75)
    decoded = decode_mask(tmp_path / "m.jpg")
    assert (decoded.rule, decoded.findings) == ("threshold", ("mask-ambiguous",))
    assert np.count_nonzero(decoded.mask ^ truth) < 0.1 * truth.sum()


def test_grey_rgb_is_read_as_grey(tmp_path: Path) -> None:
    decoded = decode_mask(save(tmp_path, square((255, 255, 255))))
    assert decoded.rule == "binary"
    assert np.array_equal(decoded.mask, SQUARE)


def test_one_colour_on_black_is_binary(tmp_path: Path) -> None:
    decoded = decode_mask(save(tmp_path, square((128, 0, 0))))
    assert (decoded.rule, decoded.findings) == ("binary", ())
    assert np.array_equal(decoded.mask, SQUARE)


def test_colours_are_classes(tmp_path: Path) -> None:
    values = square((0, 0, 200))
    values[6, 6] = (10, 0, 0)
    decoded = decode_mask(save(tmp_path, values))
    assert decoded.rule == "labels"
    assert decoded.classes == ((0, 0, 200), (10, 0, 0))
    assert np.array_equal(decoded.mask, values.any(axis=2))


def test_colours_without_black_are_ambiguous(tmp_path: Path) -> None:
    decoded = decode_mask(save(tmp_path, square((255, 0, 0), background=255)))
    assert decoded.findings == ("mask-full", "mask-ambiguous")


def test_many_colours_are_cut_at_half_of_the_strongest_channel(tmp_path: Path) -> None:
    values = np.zeros((16, 16, 3), np.uint8)
    values[..., 0] = np.arange(256).reshape(16, 16)
    decoded = decode_mask(save(tmp_path, values))
    assert decoded.rule == "threshold"
    assert np.array_equal(decoded.mask, values[..., 0] >= 128)


def test_alpha_is_ignored(tmp_path: Path) -> None:
    values = square((255, 255, 255, 255))
    values[..., 3] = np.arange(9)
    assert np.array_equal(read_mask(save(tmp_path, values)), SQUARE)


@pytest.mark.parametrize("colour", [0, 255])
def test_alpha_is_the_mask_where_colour_is_constant(tmp_path: Path, colour: int) -> None:
    values = np.full((8, 9, 4), colour, np.uint8)
    values[..., 3] = square(255)
    assert np.array_equal(read_mask(save(tmp_path, values)), SQUARE)
    assert np.array_equal(read_mask(save(tmp_path, values[..., 2:], name="la.png")), SQUARE)


def test_an_opaque_black_image_is_empty(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 4), np.uint8)
    values[..., 3] = 255
    assert decode_mask(save(tmp_path, values)).findings == ("mask-empty",)


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".gif", ".webp"])
def test_other_lossless_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(square(255)).save(path, **options)
    assert np.array_equal(read_mask(path), SQUARE)


def test_jpeg_masks_are_cut_at_half(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), bool)
    mask[16:40, 24:56] = True
    path = tmp_path / "m.jpg"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, quality=60)
    decoded = decode_mask(path)
    assert decoded.rule in ("threshold", "binary")
    assert np.array_equal(decoded.mask, mask)


def test_a_rule_can_be_forced(tmp_path: Path) -> None:
    values = square(200)
    values[6, 6] = 64
    path = save(tmp_path, values)
    forced = decode_mask(path, rule="binary")
    assert (forced.rule, forced.findings) == ("binary", ())
    assert np.array_equal(forced.mask, values > 0)
    assert decode_mask(path, rule="labels").classes == (64, 200)
    assert np.array_equal(read_mask(path, rule="threshold"), SQUARE)
    assert decode_mask(path, rule="threshold").findings == ()


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="binary, labels or threshold"):
        read_mask(save(tmp_path, square(1)), rule="half")  # type: ignore[arg-type]


def test_too_many_values_for_labels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, np.arange(400, dtype=np.uint16).reshape(20, 20))
    with pytest.raises(MaskError, match=r"m\.png: .*399 distinct values"):
        read_mask(path, rule="labels")


values_8 = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 1, 2, 63, 64, 127, 128, 200, 255]),
)


@settings(max_examples=150)
@given(values=values_8)
def test_the_rules_of_the_table(tmp_path_factory: pytest.TempPathFactory, values) -> None:
    decoded = decode_mask(save(tmp_path_factory.getbasetemp(), values, name="property.png"))
    present = set(np.unique(values).tolist())
    if len(present) == 1:
        expected, rule = values > 0, "uniform"
    elif len(present) == 2 and 0 in present:
        expected, rule = values > 0, "binary"
    elif max(present) < 64 and len(present) > 2:
        expected, rule = values > 0, "labels"
    else:
        expected, rule = values >= 128, "threshold"
    assert decoded.rule == rule
    assert np.array_equal(decoded.mask, expected)
    assert ("mask-empty" in decoded.findings) == (not expected.any())
    assert ("mask-full" in decoded.findings) == bool(expected.all())


@pytest.mark.parametrize("kept", [0, 8, 40, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    path = save(tmp_path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept >= 1 or kept == 0 else kept * len(data))])
    with pytest.raises(MaskError, match=r"m\.png: the mask cannot be decoded"):
        read_mask(path)


def test_damaged_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MaskError, match=r"m\.png"):
        read_mask(path)


def test_a_page_saved_as_a_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_text("<!doctype html><title>Quota exceeded</title>")
    with pytest.raises(MaskError, match="the file is a web page, not an image"):
        read_mask(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"gone\.png: there is no such mask file"):
        read_mask(tmp_path / "gone.png")


@pytest.mark.parametrize("side", [16_385, 60_000])
def test_a_size_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(MaskError, match=r"bomb\.png: .* more than the 268,435,456 that"):
        read_mask(path)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    frames = [Image.fromarray(square(255)), Image.fromarray(square(1))]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(MaskError, match="2 frames"):
        read_mask(path)


def test_real_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    Image.fromarray(square(1, dtype=np.float32)).save(path)
    with pytest.raises(MaskError, match="mode F"):
        read_mask(path)


def test_the_real_masks_are_noisy_grey(test_data: Path) -> None:
    rules = [
        decode_mask(path).rule
        for path in sorted((test_data / "magnetic_tile" / "MT_Blowhole" / "Imgs").glob("*.png"))
    ]
    assert len(rules) == 115
    assert set(rules) == {"threshold"}
