"""Whatever lies under the name of an image is read, or refused by name; nothing else happens."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

import image_contents
import numpy as np
import pytest
import trees
from command_lines import run_line
from image_contents import POSTSCRIPT, SUFFIXES, pixels, png_header, write_all
from PIL import EpsImagePlugin, Image, ImageFile

import cfrg
import threecad
from threecad import load_dataset, read_mask, verify
from threecad.errors import ImageError, MaskError, ThreecadError
from threecad.evaluation.predictions import read_map
from threecad.formats.contents import AsPng, File, MaskImage
from threecad.formats.scaling import _ScaledImage
from threecad.images.facts import inspect_header, inspect_image, inspect_mask
from threecad.images.files import FORMATS, MAX_PIXELS, open_image, read_image, read_size
from threecad.images.masks import decode_mask
from threecad.pages.thumbnails import OutlineMaker, ThumbnailMaker

SQUARE = np.asarray(pixels("L")) > 0

READERS = {
    "read_image": read_image,
    "read_size": read_size,
    "decode_mask": decode_mask,
    "read_map": read_map,
    "inspect_image": inspect_image,
    "inspect_header": inspect_header,
    "inspect_mask": inspect_mask,
    "thumbnail": ThumbnailMaker(32),
    "outline": OutlineMaker(),
    "as PNG": lambda path: AsPng(File(path)).read_bytes(),
    "scaled": lambda path: _ScaledImage(File(path), 16).read_bytes(),
    "mask image": lambda path: MaskImage(File(path)).decode(None),
}


@cache
def contents() -> dict[str, bytes]:
    return image_contents.everything()


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once a Ghostscript, first on the path, has been started."""
    marker, folder = tmp_path / "started", tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return marker


# The one door


def calls(path: Path) -> set[str]:
    """The dotted names that a module calls or hands on, imports resolved."""
    names: dict[str, str] = {}
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                whole = name.name if name.asname else name.name.split(".")[0]
                names[name.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            found |= {f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and parts:
            found.add(".".join([names.get(node.id, node.id), *reversed(parts)]))
    return found


DECODERS = {
    "PIL.Image.open",
    "PIL.Image.OPEN",
    "PIL.ImageFile.Parser",
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES",
    "PIL.Image.MAX_IMAGE_PIXELS",
    "cv2.imread",
    "cv2.imreadmulti",
    "cv2.imdecode",
    "cv2.imdecodemulti",
    "cv2.VideoCapture",
    "torchvision.io.read_image",
    "torchvision.io.decode_image",
    "torchvision.datasets.folder.default_loader",
    "matplotlib.image.imread",
    "matplotlib.pyplot.imread",
    "skimage.io.imread",
    "imageio.imread",
    "tifffile.imread",
    "datasets.Image",
}


def test_images_are_opened_in_one_place_only() -> None:
    packages = [Path(package.__file__).parent for package in (threecad, cfrg)]
    found = {
        (path.name, name)
        for package in packages
        for path in package.rglob("*.py")
        for name in calls(path) & DECODERS
    }
    assert found == {("files.py", "PIL.Image.OPEN")}


@pytest.mark.parametrize(
    "source",
    [
        "from PIL import Image\nImage.open(p)",
        "import PIL.Image\nPIL.Image.open(p)",
        "import PIL.Image as I\nlist(map(I.open, p))",
        "from PIL.Image import open as o\no(p)",
        "import cv2\ncv2.imread(p)",
        "from torchvision.io import read_image",
        "import matplotlib.pyplot as plt\nplt.imread(p)",
    ],
)
def test_the_law_sees_every_way_of_writing_it(tmp_path: Path, source: str) -> None:
    (tmp_path / "x.py").write_text(source)
    assert calls(tmp_path / "x.py") & DECODERS


def test_what_is_a_format_is_fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert FORMATS == ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
    (tmp_path / "a.png").write_bytes(b"MAGIC" + bytes(40))
    plugin = lambda file, name: pytest.fail("decoded by a plugin")  # noqa: E731
    monkeypatch.setitem(Image.OPEN, "OWN", (plugin, lambda head: head.startswith(b"MAGIC")))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "OWN"])
    with pytest.raises(ImageError, match=r"no image format is recognised\. Expected PNG, JPEG"):
        read_image(tmp_path / "a.png")


# Every content under every suffix


@pytest.mark.parametrize("reader", READERS)
def test_every_content_is_read_or_refused_by_name(
    tmp_path: Path, reader: str, ghostscript: Path
) -> None:
    refused = set()
    for path in write_all(tmp_path / "files", contents(), (".png", ".tif")):
        try:
            READERS[reader](path)
        except ThreecadError as error:
            refused.add(str(path) in str(error))
    facts = {"inspect_image", "inspect_header", "inspect_mask", "thumbnail", "outline"}
    assert refused == (set() if reader in facts else {True})
    assert not ghostscript.exists()


def test_the_suffix_decides_nothing(tmp_path: Path) -> None:
    for name, data in contents().items():
        reasons = {
            inspect_header(path).problem for path in write_all(tmp_path, {name: data}, SUFFIXES)
        }
        assert len(reasons) == 1, name


def test_the_formats_that_are_read_are_read_and_no_other(tmp_path: Path) -> None:
    found = set()
    for name, data in contents().items():
        path = tmp_path / "x.png"
        path.write_bytes(data)
        if inspect_image(path).problem is None:
            found.add(name.split("-")[0])
    assert found == {"bmp", "gif", "jpeg", "mpo", "png", "ppm", "tiff", "webp"}


def test_postscript_is_not_run_though_pillow_would(tmp_path: Path, ghostscript: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(ImageError, match=r"part\.png .*the file is a PostScript program"):
        read_image(path)
    assert not ghostscript.exists()
    with suppress(OSError), Image.open(path) as image:
        image.load()
    assert ghostscript.exists()  # the test would notice


def test_of_several_frames_the_first_is_the_image_and_a_mask_has_one(tmp_path: Path) -> None:
    several = {name: data for name, data in contents().items() if name.endswith("-frames")}
    read = set()
    for name, data in several.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        if inspect_image(path).problem is not None:
            continue
        read.add(name.removesuffix("-frames"))
        assert (np.abs(read_image(path)[..., 0] - SQUARE * 255.0) < 90).all(), name
        with pytest.raises(MaskError, match="it has 3 frames; expected one"):
            read_mask(path)
    assert read >= {"gif", "png", "tiff", "webp"}


def test_bytes_are_read_under_the_name_given() -> None:
    with pytest.raises(ImageError, match="an archive's member cannot be read as an image"):
        open_image("an archive's member", b"no image")
    assert read_size("x", contents()["png-L"]) == (48, 64)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match="it is no file"):
        read_image(tmp_path / "x.png")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that fails to read")
@pytest.mark.parametrize("deep", [False, True])
def test_a_disk_that_fails_is_said_of_the_file(tmp_path: Path, deep: bool) -> None:
    root = trees.write_tree(tmp_path / "data")
    for part in ("test", "ground_truth"):
        path = root / "Widget" / part / "Dent" / "000.png"
        path.unlink()
        path.symlink_to("/proc/self/mem")
    found = {f.code: f.message for f in verify(root, deep=deep, workers=0).findings}
    assert "Input/output error" in found["image-unreadable"]
    assert "Input/output error" in found["mask-unreadable"]


# Commands


def test_one_bad_file_ends_no_command_with_a_traceback(
    tmp_path: Path, prepared_folder: Path, ghostscript: Path
) -> None:
    root = trees.write_tree(tmp_path / "data")
    bad = image_contents.foreign() | {"png-cut": contents()["png-L"][:60]}
    for number, (name, data) in enumerate(bad.items()):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        (root / f"Widget/train/good/{name}{suffix}").write_bytes(data)
        (root / f"Widget/test/Dent/{name}{suffix}").write_bytes(data)
        trees.write_mask(root, f"Widget/test/Dent/{name}", trees.square_mask())
        trees.write_image(root, f"Widget/test/Scratch/{name}")
        trees.mask_path(root, f"Widget/test/Scratch/{name}").write_bytes(data)
    photos = root / "Widget/train/good"
    run = prepared_folder / "run"
    expected = {
        f"threecad verify {root} --json --workers 0": 1,
        f"threecad verify {root} --json --deep --workers 0": 1,
        f"threecad audit {root} --near --html {tmp_path}/audit.html --workers 0": 1,
        f"threecad stats {root} --workers 0": 1,
        f"threecad view {root} --out {tmp_path}/page.html --workers 0": 0,
        f"threecad convert {root} {tmp_path}/coco --to coco --workers 0": 1,
        f"threecad convert {root} {tmp_path}/small --to coco --size 32 --workers 0": 1,
        f"cfrg predict {run} {photos} --out {tmp_path}/found --device cpu": 1,
    }
    for line, code in expected.items():
        result = run_line(line)
        assert result.exit_code == code, (line, result.output)
        if "verify" in line:
            findings = json.loads(result.stdout)["findings"]
            codes = ("image-unreadable", "mask-unreadable")
            named = {f["path"] for f in findings if f["code"] in codes}
            for name in bad:
                assert any(f"good/{name}." in path for path in named), (line, name)
                assert any(f"Dent/{name}." in path for path in named), (line, name)
                assert any(f"ground_truth/Scratch/{name}." in path for path in named), (line, name)
    lines = [json.loads(x) for x in (tmp_path / "found/predictions.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines if "error" in line} == set(bad)
    assert {line["id"] for line in lines if "error" not in line} == {f"{i:03d}" for i in range(6)}
    assert not ghostscript.exists()


def test_a_dataset_of_paths_holds_no_file_that_others_would_run(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    root = trees.write_tree(tmp_path / "data")
    (root / "Widget/test/Dent/000.png").write_bytes(POSTSCRIPT)
    with pytest.raises(datasets.exceptions.DatasetGenerationError) as caught:
        load_dataset("3cad", data_dir=root)
    assert "000.png cannot be read as an image" in str(caught.value.__cause__)


# Memory


SCRIPT = """
import os, sys
import numpy as np
from pathlib import Path
from threecad.images.files import open_image, read_image
from threecad.images.facts import inspect_image, inspect_mask
from threecad.images.masks import decode_mask

def same(path):
    mask = decode_mask(path).mask
    image = open_image(path)
    pixels = inspect_image(Path(path)).pixels
    assert inspect_mask(Path(path)).problem is None
    rgb = read_image(path)
    before = mask.copy(), np.asarray(image).copy()
    with open(path, "r+b") as file:  # as when a file is copied over while it is looked at
        file.truncate(0)
    assert (mask == before[0]).all() and (np.asarray(image) == before[1]).all()
    assert rgb.any() and image.convert("RGB").getextrema() and pixels
    return int(mask.sum())

for path in sys.argv[1:]:
    print(Path(path).name, same(path), flush=True)
"""


def test_no_pixel_is_memory_of_the_file(tmp_path: Path) -> None:
    """Pillow maps uncompressed files; what is read must outlive image and file."""
    paths = []
    for mode in ("1", "L", "P", "I;16", "RGB", "RGBA"):
        image = pixels(mode, (1024, 768))
        for suffix in (*SUFFIXES, ".pgm", ".gif"):
            path = tmp_path / f"{mode.replace(';', '')}{suffix}"
            if suffix not in (".jpg", ".jpeg", ".webp", ".gif"):  # which lose values of a mask
                try:
                    image.save(path)
                except (OSError, KeyError):
                    path.unlink(missing_ok=True)
                else:
                    paths.append(path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, paths)], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.returncode, done.stdout.splitlines()[-1:], done.stderr)
    assert done.stdout.splitlines() == [f"{path.name} {int(SQUARE.sum())}" for path in paths]
    assert len(paths) > 20


# Our own limit of pixels


@pytest.mark.parametrize("foreign", [None, 1, 100])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".pgm"])
def test_pillows_limit_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: int | None, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    pixels("L").save(path)
    before = read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", foreign)
    assert np.array_equal(read_image(path), before)
    assert inspect_image(path).problem is None
    assert read_mask(path).shape == (48, 64)
    assert foreign == Image.MAX_IMAGE_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_header(16_385, 16_384))
    with pytest.raises(ImageError, match="16385 × 16384 pixels, more than the 268,435,456"):
        read_image(tmp_path / "bomb.png")


def test_pillows_limit_stays_for_everyone_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    pixels("L").save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    stop, refused = threading.Event(), []

    def open_elsewhere() -> None:
        while not stop.is_set():
            with pytest.raises(Image.DecompressionBombError):
                Image.open(path)
            refused.append(path)

    thread = threading.Thread(target=open_elsewhere)
    thread.start()
    for _ in range(200):
        read_image(path)
    stop.set()
    thread.join()
    assert refused
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_the_limit_is_the_one_the_book_says(tmp_path: Path) -> None:
    assert MAX_PIXELS == 2**28
    (tmp_path / "x.png").write_bytes(png_header(16_384, 16_384))
    assert read_size(tmp_path / "x.png") == (16_384, 16_384)
    with pytest.raises(ImageError, match="64 × 48 pixels, more than the 3,071"):
        open_image("x", contents()["png-L"], max_pixels=3071)
    assert open_image("x", contents()["png-L"], max_pixels=3072).size == (64, 48)


@pytest.mark.parametrize("name", FORMATS)
def test_no_half_image_is_read_where_others_let_pillow_make_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole", name)
    content = (tmp_path / "whole").read_bytes()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for share in (0.4, 0.6, 0.9):
        cut = tmp_path / f"{share}.png"
        cut.write_bytes(content[: int(share * len(content))])
        for read in (read_image, decode_mask):
            with pytest.raises(ThreecadError):
                read(cut)
        if name != "WEBP":  # which Pillow never reads in part
            with Image.open(io.BytesIO(cut.read_bytes())) as image:
                image.load()  # as the other library wants it
    assert read_image(tmp_path / "whole").shape[2] == 3
