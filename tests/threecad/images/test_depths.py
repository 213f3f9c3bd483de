"""Cameras' bits: what OpenCV and tifffile wrote is read to the last of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from threecad.errors import ImageError
from threecad.images.files import read_image

cv2 = pytest.importorskip("cv2")


def values(bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 2**bits, (20, 30, 3), dtype=np.uint16)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_the_upper_eight_of_the_bits_used_are_read(tmp_path: Path, bits: int) -> None:
    colours = values(bits)
    cv2.imwrite(str(tmp_path / "colours.png"), colours[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), colours[..., 0])
    tifffile.imwrite(tmp_path / "raw.tif", colours, photometric="rgb")
    tifffile.imwrite(tmp_path / "big.tif", colours, photometric="rgb", byteorder=">")
    tifffile.imwrite(tmp_path / "zip.tif", colours, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "grey.tif", colours[..., 0])
    for path in sorted(tmp_path.iterdir()):
        whole = np.repeat(colours[..., :1], 3, 2) if path.stem == "grey" else colours
        np.testing.assert_array_equal(read_image(path, bits), whole >> (bits - 8), path.name)
        np.testing.assert_array_equal(read_image(path), whole >> 8, path.name)


def test_what_has_not_these_bits_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "eight.png"), values(8).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "eight-grey.png"), values(8)[..., 0].astype(np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), values(12))
    for name in ("eight.png", "eight-grey.png"):
        with pytest.raises(ImageError, match="8 bits a channel"):
            read_image(tmp_path / name, 12)
    with pytest.raises(ImageError, match=r"values up to 4[0-9]{3}, which 10 bits do not"):
        read_image(tmp_path / "deep.png", 10)
