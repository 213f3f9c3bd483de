"""How many of sixteen bits a camera uses, told from its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from threecad.images.camera_bits import find_bits, used_bits

cv2 = pytest.importorskip("cv2")


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(
    ("largest", "bits", "depth"), [(200, 9, 9), (900, 10, 10), (2047, 11, 12), (65535, 16, 16)]
)
def test_the_largest_value_says_it(
    tmp_path: Path, colour: bool, largest: int, bits: int, depth: int
) -> None:
    values = np.zeros((4, 5, 3) if colour else (4, 5), np.uint16)
    values[1, 2] = largest
    cv2.imwrite(str(tmp_path / "a.png"), values)
    cv2.imwrite(str(tmp_path / "b.png"), values // 2)
    assert used_bits(tmp_path / "a.png") == bits
    assert find_bits([tmp_path / "b.png", tmp_path / "a.png"]) == depth


def test_a_file_of_eight_bits_uses_eight(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), "white").save(tmp_path / "a.png")
    assert find_bits([tmp_path / "a.png"]) == 8


def test_transparency_is_no_value(tmp_path: Path) -> None:
    values = np.full((4, 5, 4), 65535, np.uint16)
    values[..., :3] = 3000
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert used_bits(tmp_path / "a.png") == 12
