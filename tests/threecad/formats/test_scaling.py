"""``--size``: the pixels are those that Pillow makes, and each image is decoded once."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from threecad.errors import ConversionError
from threecad.formats import FORMATS, contents, convert
from threecad.formats.contents import AsPng, Content, File
from threecad.formats.orientation import Untagged, Upright
from threecad.images.files import open_image, read_size
from threecad.images.masks import read_mask

HEIGHT, WIDTH, LONGEST = 90, 60, 32
SIXTH = 6  # EXIF: turned by 90 degrees

# "yolo" divides anew, for which the images must be files as they are.
FORMATS_WRITTEN = sorted(
    name for name, layout in FORMATS.items() if layout.write and name != "yolo"
)


def _pictures() -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    exif = Image.Exif()
    exif[0x112] = SIXTH
    return {
        "colour.png": (colour, {}),
        "grey.png": (colour.convert("L"), {}),
        "palette.png": (colour.quantize(16), {}),
        "deep.png": (Image.fromarray(rng.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)), {}),
        "photograph.jpg": (colour, {}),
        "turned.jpg": (colour, {"exif": exif}),
        "turned.png": (colour, {"exif": exif}),
        "bitmap.bmp": (colour, {}),
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for split in ("train/good", "test/dent"):
        for name, (image, options) in _pictures().items():
            path = root / "Part" / split / f"{name.replace('.', '_')}{Path(name).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **options)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:12, 20:50] = mask[40, 59] = 255
    for defective in (root / "Part/test/dent").iterdir():
        path = root / "Part/ground_truth/dent" / f"{defective.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was decoded."""
    count: Counter[str] = Counter()

    def counted(path: str | Path, *arguments: Any, **options: Any) -> Image.Image:
        count[str(path)] += 1
        return open_image(path, *arguments, **options)

    monkeypatch.setattr(contents, "open_image", counted)
    return count


@pytest.mark.parametrize("name", FORMATS_WRITTEN)
def test_each_image_is_decoded_once(
    name: str, tree: Path, tmp_path: Path, decodes: Counter[str]
) -> None:
    convert(tree, tmp_path / "small", to=name, size=LONGEST, workers=0)
    assert len(decodes) == 2 * len(_pictures())
    assert set(decodes.values()) == {1}


def test_the_files_are_what_pillow_makes_of_the_pixels(tree: Path, tmp_path: Path) -> None:
    convert(tree, tmp_path / "small", to="3cad", size=LONGEST, workers=0)
    for original in sorted((tree / "Part/test/dent").iterdir()):
        with Image.open(original) as image:
            plain = image.convert("RGB") if image.mode == "P" else image
            buffer = io.BytesIO()
            small = plain.resize((21, 32), Image.Resampling.BILINEAR)
            small.save(buffer, "PNG")
        written = tmp_path / "small/Part/test/dent" / f"{original.stem}.png"
        assert written.read_bytes() == buffer.getvalue(), original.name
        assert read_mask(tmp_path / f"small/Part/ground_truth/dent/{original.stem}.png").any()


@pytest.mark.parametrize("name", sorted(_pictures()))
@pytest.mark.parametrize(
    "wrap",
    [
        File,
        lambda path: AsPng(File(path)),
        lambda path: Untagged(File(path)),
        lambda path: Upright(File(path), SIXTH),
    ],
    ids=["file", "png", "untagged", "upright"],
)
def test_size_and_pixels_are_those_of_the_bytes(wrap: Any, name: str, tmp_path: Path) -> None:
    image, options = _pictures()[name]
    image.save(tmp_path / name, **options)
    content: Content = wrap(tmp_path / name)
    assert content.read_size() == read_size(name, content.read_bytes())
    decoded = open_image(name, content.read_bytes())
    assert content.open().tobytes() == decoded.tobytes()


@pytest.mark.parametrize("name", ["parquet", "webdataset"])
def test_a_damaged_image_is_named_where_all_are_packed(
    name: str, tree: Path, tmp_path: Path
) -> None:
    for path in ("train/good/colour_png.png", "test/dent/grey_png.png"):
        damaged = tree / "Part" / path
        damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(ConversionError, match="2 of 16 images cannot be converted") as caught:
        convert(tree, tmp_path / "small", to=name, size=LONGEST, workers=0)
    assert "Part/train/good/colour_png" in str(caught.value)
    assert not (tmp_path / "small").exists()
