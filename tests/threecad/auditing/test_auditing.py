from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

from threecad import read_mask, scan
from threecad.auditing import Audit, audit, union_mask
from threecad.auditing.corrections import write_errata
from threecad.cli import main
from threecad.dataset.duplicates.exact import duplicate_groups, find_near, merge
from threecad.dataset.file_checks import SPECK_AREA
from threecad.dataset.findings import Finding
from threecad.dataset.samples import Sample
from threecad.dataset.scanning import Index
from threecad.dataset.splitting import split
from threecad.images.facts import ImageFacts
from threecad.images.hashing import GRADIENT_BITS, gradient_hash, pixel_hash
from threecad.pages.audit_page import render_page


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    return trees.write_tree(tmp_path / "data", train=10, good=6)


def examine(root: Path | Index, **options: Any) -> Audit:
    return audit(root, workers=0, **options)


def found(result: Audit, prefix: str = "") -> dict[str, list[Finding]]:
    """The findings that start with ``prefix``, by code."""
    by_code: dict[str, list[Finding]] = {}
    for finding in result.report.findings:
        if finding.code.startswith(prefix):
            by_code.setdefault(finding.code, []).append(finding)
    return by_code


def test_different_pictures_raise_nothing(widgets: Path) -> None:
    assert examine(widgets, near=True).report.findings == []


@pytest.mark.parametrize(("bits", "named"), [(8, False), (10, True), (12, True), (16, False)])
def test_images_of_a_cameras_lower_bits_are_said_to_be_dark(
    widgets: Path, bits: int, named: bool
) -> None:
    for path in widgets.rglob("*.png"):
        if "ground_truth" in path.parts or bits == 8:
            continue
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        values[0, 0] = 255
        Image.fromarray(values << (bits - 8)).save(path)
    dark = found(examine(widgets), "image-dark")
    assert bool(dark) == named
    if named:
        assert all(f"lower {bits} " in finding.message for finding in dark["image-dark"])
        assert f"`bits={bits}`" in str(dark["image-dark"][0].advice)
        assert "image-dark" in render_page(examine(widgets))


def test_the_sample_has_no_duplicates(sample_tree: Path) -> None:
    result = examine(sample_tree, near=True)
    assert found(result, "duplicate") == {}
    assert found(result, "near") == {}


# What duplicates mean


@pytest.mark.parametrize(
    ("source", "target", "codes", "severity"),
    [
        ("train/good/001", "test/good/x", {"leak"}, "error"),
        ("train/good/001", "test/Dent/x", {"contradiction", "leak"}, "error"),
        ("test/good/001", "test/Dent/x", {"contradiction"}, "error"),
        ("test/Dent/001", "test/Scratch/x", {"types"}, "warning"),
        ("test/Dent/001", "test/Dent/x", {"copy"}, "info"),
        ("train/good/001", "train/good/x", {"copy"}, "info"),
    ],
)
def test_a_copy_is_named_by_what_it_means(
    widgets: Path, source: str, target: str, codes: set[str], severity: str
) -> None:
    trees.copy_sample(widgets, f"Widget/{source}", f"Widget/{target}")
    duplicates = found(examine(widgets), "duplicate")
    assert set(duplicates) == {f"duplicate-{code}" for code in codes}
    for (finding,) in duplicates.values():
        assert finding.severity == severity
        assert f"Widget/{source}" in finding.message
        assert f"Widget/{target}" in finding.message


def test_a_copy_in_another_category(widgets: Path) -> None:
    trees.write_tree(widgets, category="Gadget")
    trees.copy_sample(widgets, "Widget/train/good/001", "Gadget/train/good/x")
    assert set(found(examine(widgets), "duplicate")) == {"duplicate-categories"}


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".png"])
def test_equal_pixels_in_another_container(widgets: Path, suffix: str) -> None:
    with Image.open(widgets / "Widget/train/good/001.png") as image:
        target = widgets / f"Widget/test/good/x{suffix}"
        if suffix == ".png":
            image = image.convert("RGBA")
        image.save(target)
    assert set(found(examine(widgets), "duplicate")) == {"duplicate-leak"}


def test_one_pixel_is_enough_to_be_another_image(widgets: Path) -> None:
    with Image.open(widgets / "Widget/train/good/001.png") as image:
        image.putpixel((5, 5), (0, 0, 0))
        image.save(widgets / "Widget/test/good/x.png")
    result = examine(widgets, near=True)
    assert found(result, "duplicate") == {}
    assert set(found(result, "near")) == {"near-leak"}


def test_a_mask_rule_decides_on_findings_and_unions(widgets: Path, tmp_path: Path) -> None:
    pixels = np.asarray(trees.square_mask()).copy()
    pixels[0, :5] = 9
    trees.copy_sample(widgets, "Widget/test/Dent/001", "Widget/test/Scratch/x")
    for name in ("Widget/test/Dent/001", "Widget/test/Scratch/x"):
        trees.write_mask(widgets, name, Image.fromarray(pixels))
    result = examine(widgets, mask_rule="binary")
    assert result.mask_rule == result.report.summary["mask_rule"] == "binary"
    assert "mask-ambiguous" not in found(result)
    assert [finding.id for finding in found(result)["mask-border"]] == [
        "Widget/test/Dent/001",
        "Widget/test/Scratch/x",
    ]
    area = np.count_nonzero(pixels)
    assert f"has {area} pixels" in found(result)["duplicate-types"][0].message
    write_errata(result, tmp_path / "errata.json")
    joined = scan(widgets, errata=tmp_path / "errata.json")["Widget/test/Dent/001"]
    assert joined.mask is not None
    assert np.count_nonzero(read_mask(joined.mask)) == area


def test_the_types_and_the_union_of_the_masks_are_reported(widgets: Path) -> None:
    trees.copy_sample(widgets, "Widget/test/Dent/001", "Widget/test/Scratch/x")
    trees.write_mask(widgets, "Widget/test/Scratch/x", trees.square_mask(x=40, y=30, side=5))
    (finding,) = found(examine(widgets))["duplicate-types"]
    assert "Its types are Dent, Scratch" in finding.message
    assert f"{8 * 8 + 5 * 5} pixels in 2 region(s)" in finding.message


def test_masks_of_two_sizes_are_not_joined(widgets: Path) -> None:
    trees.copy_sample(widgets, "Widget/test/Dent/001", "Widget/test/Scratch/x")
    trees.corrupt_shrink_mask(widgets, "Widget/test/Scratch/x")
    (finding,) = found(examine(widgets))["duplicate-types"]
    assert "cannot be joined" in finding.message
    ids = ["Widget/test/Dent/001", "Widget/test/Scratch/x"]
    assert union_mask([scan(widgets)[name] for name in ids]) is None


def test_a_split_file_moves_the_boundary(widgets: Path, tmp_path: Path) -> None:
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    split(scan(widgets), "leak-free", workers=0).save(tmp_path / "s.csv")
    assert examine(scan(widgets, split_file=tmp_path / "s.csv")).report.ok
    assert not examine(widgets).report.ok


# Hashes

MODES = st.sampled_from(["L", "RGB", "RGBA", "P", "I;16"])


@given(seed=st.integers(0, 1000), width=st.integers(1, 40), height=st.integers(1, 40))
@settings(max_examples=40)
def test_the_pixel_hash_is_of_the_picture_not_of_its_mode(
    seed: int, width: int, height: int
) -> None:
    rng = np.random.default_rng(seed)
    grey = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
    same = {pixel_hash(grey.convert(mode)) for mode in ("L", "RGB", "RGBA", "LA")}
    assert len(same) == 1
    colour = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert pixel_hash(colour) == pixel_hash(colour.convert("RGBA"))
    turned = Image.fromarray(np.ascontiguousarray(np.asarray(colour).transpose(1, 0, 2)))
    if not np.array_equal(np.asarray(turned), np.asarray(colour)):
        assert pixel_hash(turned) != pixel_hash(colour)


def test_the_pixel_hash_knows_shape_depth_and_transparency() -> None:
    flat = np.arange(24, dtype=np.uint8)
    a, b = Image.fromarray(flat.reshape(4, 6)), Image.fromarray(flat.reshape(6, 4))
    deep = Image.fromarray(flat.reshape(4, 6).astype(np.uint16))
    clear = a.convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 7))
    assert len({pixel_hash(image) for image in (a, b, deep, clear)}) == 4


def bits(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_gradient_hash_survives_what_near_duplicates_go_through(name: str) -> None:
    image = trees.picture(name, (256, 192))
    base = bits(gradient_hash(image))
    variants = {
        "jpeg": trees.as_jpeg(image, 60),
        "half": image.resize((128, 96), Image.Resampling.BILINEAR),
        "brighter": ImageEnhance.Brightness(image).enhance(1.1),
        "grey": image.convert("L"),
        "cropped": image.crop((2, 2, 254, 190)),
    }
    for label, variant in variants.items():
        assert (bits(gradient_hash(variant)) != base).sum() < 0.1 * GRADIENT_BITS, label
    other = bits(gradient_hash(trees.picture(name + "'", (256, 192))))
    assert (other != base).sum() > 0.3 * GRADIENT_BITS


def test_the_gradient_hash_sees_less_than_a_grey_level() -> None:
    """A dark ramp of one grey level over the whole width, dithered, still has its direction."""
    ramp = np.linspace(100, 101, 1024)[None, :].repeat(512, axis=0)
    noise = np.random.default_rng(0).random(ramp.shape)
    image = Image.fromarray(np.floor(ramp + noise).astype(np.uint8))
    across = bits(gradient_hash(image))[: GRADIENT_BITS // 2]
    assert across.mean() > 0.95


def test_sixteen_bits_hash_like_eight() -> None:
    image = trees.picture("a", (256, 192)).convert("L")
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    assert gradient_hash(deep) == gradient_hash(image)


# Near duplicates


@pytest.mark.parametrize("change", ["jpeg", "half", "brighter"])
def test_altered_copies_are_found_and_nothing_else(widgets: Path, change: str) -> None:
    image = trees.picture("one", (256, 192))
    trees.write_image(widgets, "Widget/train/good/001", image)
    altered = {
        "jpeg": trees.as_jpeg(image, 85),
        "half": image.resize((128, 96), Image.Resampling.BILINEAR),
        "brighter": ImageEnhance.Brightness(image).enhance(1.05),
    }[change]
    altered.save(widgets / "Widget/test/good/x.png")
    result = examine(widgets, near=True)
    assert [(p.first, p.second) for p in result.near] == [
        ("Widget/test/good/x", "Widget/train/good/001")
    ]
    assert set(found(result, "near")) == {"near-leak"}
    assert result.report.ok


def test_another_aspect_ratio_is_another_picture(widgets: Path) -> None:
    with Image.open(widgets / "Widget/train/good/001.png") as image:
        image.resize((64, 40), Image.Resampling.BOX).save(widgets / "Widget/test/good/x.png")
    assert examine(widgets, near=True).near == ()


def test_parts_that_all_look_alike_are_not_called_duplicates(tmp_path: Path) -> None:
    """Forty photographs of one outline in one place; what differs is faint texture."""
    outline = np.zeros((96, 128), np.float64)
    outline[20:70, 30:100] = 90
    outline += np.linspace(0, 60, 128)[None, :]
    rng = np.random.default_rng(0)
    for i in range(40):
        coarse = Image.fromarray(rng.normal(0, 1.5, (24, 32)).astype(np.float32))
        texture = np.asarray(coarse.resize((128, 96), Image.Resampling.BICUBIC))
        pixels = np.clip(60 + outline + texture, 0, 255).astype(np.uint8)
        trees.write_image(tmp_path, f"Widget/train/good/{i:02d}", Image.fromarray(pixels))
    (tmp_path / "Widget/test/good").mkdir(parents=True)
    with Image.open(tmp_path / "Widget/train/good/07.png") as image:
        trees.as_jpeg(image, 95).save(tmp_path / "Widget/test/good/copy.png")
    result = examine(tmp_path, near=True)
    assert [(p.first, p.second) for p in result.near] == [
        ("Widget/test/good/copy", "Widget/train/good/07")
    ]


def test_indistinguishable_categories_are_said_to_be_so(tmp_path: Path) -> None:
    for i in range(12):
        pixels = np.full((48, 64), 90, np.uint8) + np.arange(64, dtype=np.uint8)[None, :]
        pixels[0, i] += 1
        trees.write_image(tmp_path, f"Widget/train/good/{i:02d}", Image.fromarray(pixels))
    result = examine(tmp_path, near=True)
    assert result.near == ()
    assert set(found(result, "near")) == {"near-undecidable"}


@given(
    hashes=st.lists(st.binary(min_size=68, max_size=68), min_size=2, max_size=12),
    flips=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 80)), max_size=8),
    fraction=st.floats(0.05, 0.6),
)
@settings(max_examples=60)
def test_the_blocked_search_equals_brute_force(
    hashes: list[bytes], flips: list[tuple[int, int]], fraction: float
) -> None:
    words = [np.unpackbits(np.frombuffer(word, np.uint8)) for word in hashes]
    for position, number in flips:
        copy = words[position % len(words)].copy()
        copy[:number] ^= 1
        words.append(copy)
    samples = [
        Sample(
            f"{'AB'[i % 2]}/train/good/{i:02d}",
            "AB"[i % 2],
            "train",
            "good",
            (),
            0,
            Path(f"{i}.png"),
            None,
        )
        for i in range(len(words))
    ]
    facts = {
        sample.image: ImageFacts(1, "", 10, 10, f"{i}", np.packbits(words[i]).tobytes().hex())
        for i, sample in enumerate(samples)
    }
    means = {
        c: np.mean([w for s, w in zip(samples, words, strict=True) if s.category == c], axis=0)
        for c in {sample.category for sample in samples}
    }
    expected = set()
    for i, one in enumerate(samples):
        for j in range(i + 1, len(samples)):
            p, q = means[one.category], means[samples[j].category]
            typical = float((p * (1 - q) + q * (1 - p)).sum())
            distance = int((words[i] != words[j]).sum())
            if typical >= 40 and distance <= int(fraction * typical):
                expected.add((*sorted((one.id, samples[j].id)), distance))
    got = {(p.first, p.second, p.distance) for p in find_near(samples, facts, fraction=fraction)}
    assert got == expected


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=20))
def test_merging_gives_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    names = [f"{i:02d}" for i in range(16)]
    joined = np.zeros((16, 16))
    for a, b in pairs:
        joined[a, b] = 1
    _, labels = connected_components(joined, directed=False)
    expected = {names[i]: names[np.flatnonzero(labels == labels[i]).min()] for i in range(16)}
    assert merge(names, [(names[a], names[b]) for a, b in pairs]) == expected


def test_groups_follow_near_duplicates_on_request(widgets: Path) -> None:
    with Image.open(widgets / "Widget/train/good/001.png") as image:
        ImageEnhance.Brightness(image).enhance(1.05).save(widgets / "Widget/test/good/x.png")
    exact = duplicate_groups(scan(widgets), workers=0)
    near = duplicate_groups(scan(widgets), near=True, workers=0)
    assert exact["Widget/train/good/001"] == "Widget/train/good/001"
    assert near["Widget/train/good/001"] == "Widget/test/good/x" == near["Widget/test/good/x"]


# Masks


def test_odd_masks_are_named(tmp_path: Path) -> None:
    root = trees.write_tree(tmp_path, defects={"Dent": 14})
    trees.write_mask(root, "Widget/test/Dent/003", trees.square_mask(x=0))
    speck = np.array(trees.square_mask())
    speck[40, 60] = 255
    trees.write_mask(root, "Widget/test/Dent/004", Image.fromarray(speck))
    trees.write_mask(root, "Widget/test/Dent/005", trees.square_mask(x=2, y=2, side=44))
    soft = np.asarray(trees.square_mask().resize((64, 48), Image.Resampling.BICUBIC)).copy()
    soft[10:18, 20] = np.arange(90, 170, 10)
    trees.write_mask(root, "Widget/test/Dent/006", Image.fromarray(soft))
    trees.write_mask(
        root, "Widget/test/Dent/007", Image.fromarray(np.full((48, 64), 255, np.uint8))
    )
    labels = np.asarray(trees.square_mask()) // 255 + np.asarray(trees.square_mask(40)) // 255 * 2
    trees.write_mask(root, "Widget/test/Dent/008", Image.fromarray(labels.astype(np.uint8)))
    by_code = {code: {f.id for f in group} for code, group in found(examine(root), "mask").items()}
    assert by_code["mask-border"] == {"Widget/test/Dent/003", "Widget/test/Dent/007"}
    assert by_code["mask-specks"] == {"Widget/test/Dent/004"}
    assert by_code["mask-area"] == {"Widget/test/Dent/005", "Widget/test/Dent/007"}
    assert by_code["mask-full"] == {"Widget/test/Dent/007"}
    assert by_code["mask-soft"] == {None}
    assert by_code["mask-labels"] == {None}


@pytest.mark.parametrize("area", range(1, 9))
def test_specks_are_under_the_stated_area(tmp_path: Path, area: int) -> None:
    root = trees.write_tree(tmp_path, defects={"Dent": 1})
    pixels = np.zeros((48, 64), np.uint8)
    pixels[10, 10 : 10 + area] = 255
    trees.write_mask(root, "Widget/test/Dent/000", Image.fromarray(pixels))
    assert ("mask-specks" in found(examine(root))) == (area < SPECK_AREA)


def test_damage_is_reported_and_does_not_stop_the_audit(widgets: Path) -> None:
    trees.corrupt_truncate(widgets / "Widget/test/Dent/001.png")
    trees.corrupt_truncate(trees.mask_path(widgets, "Widget/test/Dent/002"), 0.3)
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    codes = set(found(examine(widgets, near=True)))
    assert codes == {"image-unreadable", "mask-unreadable", "duplicate-leak"}


# Running


def test_the_second_audit_decodes_nothing(widgets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    first = examine(widgets, near=True)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("threecad.images.facts.open_image", refuse)
    assert examine(widgets, near=True).report.to_dict() == first.report.to_dict()


def test_the_result_does_not_depend_on_the_workers(widgets: Path, tmp_path: Path) -> None:
    trees.copy_sample(widgets, "Widget/test/Dent/001", "Widget/test/Scratch/x")
    alone = examine(widgets, near=True).report.to_dict()
    shutil.rmtree(widgets / ".threecad")
    assert audit(widgets, near=True, workers=2).report.to_dict() == alone


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the cluster's own servers warn about is not ours
def test_a_dask_cluster_of_two_workers_gives_the_same_result(widgets: Path) -> None:
    distributed = pytest.importorskip("distributed")
    trees.write_tree(widgets, category="Gadget", train=30, good=30)
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    alone = examine(widgets, near=True).report.to_dict()
    shutil.rmtree(widgets / ".threecad")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        result = audit(widgets, near=True, cluster=address)
        ran_on = {worker for worker, n in _tasks_per_worker(cluster.scheduler_address).items() if n}
    assert result.report.to_dict() == alone
    assert len(ran_on) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_ray_cluster_of_two_workers_gives_the_same_result(widgets: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed (extra: cluster)")
    trees.write_tree(widgets, category="Gadget", train=30, good=30)
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    alone = examine(widgets, near=True).report.to_dict()
    shutil.rmtree(widgets / ".threecad")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        result = audit(widgets, near=True, cluster="ray")
    finally:
        ray.shutdown()
    assert result.report.to_dict() == alone


def _tasks_per_worker(address: str) -> dict[str, int]:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(address) as client:
        return client.run(lambda dask_worker: dask_worker.state.executed_count)


# Page, errata, command


def test_the_page_stands_alone_and_shows_both_pictures(widgets: Path) -> None:
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/<x>")
    page = render_page(examine(widgets, near=True))
    assert "The same pixels, on both sides of a split (1)" in page
    assert "Widget/test/good/&lt;x&gt;" in page
    assert "<x>" not in page
    assert not re.search(r"(src|href)=(?!\"data:)|url\(", page)
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 2
    assert base64.b64decode(pictures[0]) == base64.b64decode(pictures[1])


def test_the_page_says_how_much_it_leaves_out(widgets: Path) -> None:
    for i in range(5):
        trees.copy_sample(widgets, f"Widget/train/good/00{i}", f"Widget/test/good/x{i}")
    page = render_page(examine(widgets), shown=2)
    assert "on both sides of a split (5)" in page
    assert "The first 2 are shown." in page


def test_the_errata_mend_what_the_audit_found(widgets: Path, tmp_path: Path) -> None:
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/leak")
    trees.copy_sample(widgets, "Widget/test/good/002", "Widget/test/Dent/wrong")
    trees.write_mask(widgets, "Widget/test/Dent/wrong", trees.square_mask())
    trees.copy_sample(widgets, "Widget/test/Dent/001", "Widget/test/Scratch/both")
    trees.write_mask(widgets, "Widget/test/Scratch/both", trees.square_mask(x=40, side=5))
    trees.corrupt_drop_mask(widgets, "Widget/test/Scratch/002")
    trees.corrupt_truncate(widgets / "Widget/train/good/007.png")
    before = examine(widgets)
    assert not before.report.ok
    errata = write_errata(before, tmp_path / "errata.json")
    assert {entry.id: entry.action for entry in errata.entries} == {
        "Widget/train/good/001": "exclude",
        "Widget/test/good/002": "exclude",
        "Widget/test/Dent/wrong": "exclude",
        "Widget/test/Dent/001": "replace-mask",
        "Widget/test/Scratch/both": "exclude",
        "Widget/test/Scratch/002": "exclude",
        "Widget/train/good/007": "exclude",
    }
    mended = scan(widgets, errata=tmp_path / "errata.json")
    assert mended["Widget/test/Dent/001"].defect_types == ("Dent", "Scratch")
    mask = union_mask([mended["Widget/test/Dent/001"]])
    assert mask is not None
    assert mask.sum() == 8 * 8 + 5 * 5
    after = examine(mended)
    assert after.report.findings == []
    assert after.report.summary["errata"] == errata.digest


def test_the_command_reports_writes_and_exits(widgets: Path, tmp_path: Path) -> None:
    trees.copy_sample(widgets, "Widget/train/good/001", "Widget/test/good/x")
    page, errata = tmp_path / "a.html", tmp_path / "e.json"
    arguments = ["audit", str(widgets), "--workers", "0"]
    extra = ["--near", "--html", str(page), "--write-errata", str(errata)]
    result = CliRunner().invoke(main, [*arguments, *extra, "--json"])
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["summary"]["duplicate_groups"] == 1
    assert report["summary"]["near"]["limits"]["Widget"] > 0
    assert page.stat().st_size > 1000
    assert json.loads(errata.read_text())["entries"][0]["id"] == "Widget/train/good/001"
    mended = CliRunner().invoke(main, [*arguments, "--errata", str(errata)])
    assert mended.exit_code == 0, mended.output
    refused = CliRunner().invoke(main, [*arguments, "--write-errata", str(errata)])
    assert refused.exit_code == 2
    assert "--force" in refused.output


def test_real_photographs_of_one_tile_are_found(test_data: Path, tmp_path: Path) -> None:
    """Six exposures of one magnetic tile: near duplicates, though their files share no byte."""
    frames = {
        "test/Break/a": "MT_Break/Imgs/exp4_num_116999",
        "test/Break/b": "MT_Break/Imgs/exp6_num_117060",
        "train/good/c": "MT_Free/Imgs/exp5_num_117030",
    }
    others = sorted((test_data / "magnetic_tile/MT_Free/Imgs").glob("exp1_*.jpg"))[:40]
    for target, source in frames.items():
        with Image.open(test_data / f"magnetic_tile/{source}.jpg") as image:
            trees.write_image(tmp_path, f"Tile/{target}", image)
    for path in others:
        with Image.open(path) as image:
            trees.write_image(tmp_path, f"Tile/train/good/{path.stem}", image)
    result = examine(tmp_path, near=True)
    joined = merge(
        [sample.id for sample in result.index], [(p.first, p.second) for p in result.near]
    )
    group = {name for name, first in joined.items() if first == joined["Tile/test/Break/a"]}
    assert group == {f"Tile/{target}" for target in frames}
    assert "near-contradiction" in found(result)
