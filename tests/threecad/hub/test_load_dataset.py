"""``load_dataset("3cad")`` through the real ``datasets``."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

import threecad
from threecad import scan
from threecad.dataset.errata import Errata, Erratum
from threecad.dataset.split_files import read_split
from threecad.dataset.splitting import split
from threecad.errors import LayoutError, UsageError
from threecad.formats import convert
from threecad.hub import load_dataset
from threecad.images.files import write_png

COLUMNS = ["image_id", "image", "mask", "label", "category", "defect_type", "defect_types"]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def test_rows_are_the_samples(tree: Path) -> None:
    loaded = load_dataset(data_dir=tree)
    index = scan(tree)
    assert {name: part.num_rows for name, part in loaded.items()} == {
        name: len(index.select(split=name)) for name in ("train", "test")
    }
    part = loaded["test"]
    assert part.column_names == COLUMNS
    kinds = part.features["defect_type"]
    assert kinds.names == ["good", *sorted({s.defect_type for s in index} - {"good"})]
    for row in part:
        sample = index[row["image_id"]]
        assert row["label"] == sample.label
        assert part.features["category"].int2str(row["category"]) == sample.category
        assert kinds.int2str(row["defect_type"]) == sample.defect_type
        assert tuple(map(kinds.int2str, row["defect_types"])) == sample.defect_types
        assert (row["mask"] is None) == (sample.label == 0)
        if sample.mask is not None:
            np.testing.assert_array_equal(
                np.asarray(row["mask"]) > 0, threecad.read_mask(sample.mask)
            )


def test_class_names_are_the_same_in_every_configuration(tree: Path) -> None:
    features = [
        load_dataset(name=name, data_dir=tree, split="train").features
        for name in (None, "all", "Aluminum_Ipad", "Copper_Stator")
    ]
    assert all(other == features[0] for other in features)


def test_the_literal_call_slices_and_shares_the_cache(tree: Path) -> None:
    part = datasets.load_dataset("3cad", "Copper_Stator", data_dir=str(tree), split="test[:50%]")
    everything = load_dataset(name="Copper_Stator", data_dir=tree, split="test")
    assert part["image_id"] == everything["image_id"][: len(part)]
    assert part.cache_files == everything.cache_files
    assert datasets.get_dataset_config_names("3cad", data_dir=str(tree)) == [
        "all",
        "Aluminum_Ipad",
        "Copper_Stator",
    ]


def test_processes_and_streams_give_the_same_rows(tree: Path) -> None:
    whole = load_dataset(data_dir=tree, split="test")["image_id"]
    parallel = load_dataset(
        data_dir=tree, split="test", num_proc=2, download_mode="force_redownload"
    )
    assert list(parallel["image_id"]) == list(whole)
    stream = load_dataset(data_dir=tree, split="test", streaming=True)
    assert stream.num_shards > 1
    assert [row["image_id"] for row in stream] == list(whole)
    assert [row["image_id"] for row in pickle.loads(pickle.dumps(stream))] == list(whole)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking in a process with threads
def test_data_loader_workers_share_the_stream(tree: Path) -> None:
    stream = load_dataset(data_dir=tree, split="test", streaming=True)
    loader: Any = torch.utils.data.DataLoader(
        stream.remove_columns(["image", "mask"]), num_workers=2, batch_size=None
    )
    seen = sorted(row["image_id"] for row in loader)
    assert seen == sorted(sample.id for sample in scan(tree).select(split="test"))


def test_a_changed_tree_is_noticed_and_an_unchanged_one_is_not_read_again(tree: Path) -> None:
    first = load_dataset(data_dir=tree, split="test").cache_files
    assert load_dataset(data_dir=tree, split="test").cache_files == first
    assert load_dataset(data_dir=tree / "..", split="test").cache_files == first
    sample = next(iter(scan(tree).select(split="test", label=1)))
    sample.image.rename(sample.image.with_name("renamed.png"))
    assert sample.mask is not None
    sample.mask.rename(sample.mask.with_name("renamed.png"))
    changed = load_dataset(data_dir=tree, split="test")
    assert changed.cache_files != first
    assert f"{sample.id.rsplit('/', 1)[0]}/renamed" in changed["image_id"]


def test_split_file_decides(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    split(scan(tree), "supervised", seed=3, workers=0).save(file)
    loaded = datasets.load_dataset("3cad", data_dir=str(tree), split_file=str(file))
    assert set(loaded) == {"train", "validation", "test"}
    assert sorted(loaded["validation"]["image_id"]) == sorted(
        row.id for row in read_split(file).rows if row.split == "val"
    )


def test_a_fold_is_held_out(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "folds.csv"
    made = split(scan(tree), "k-fold", folds=2, workers=0)
    made.save(file)
    seen = []
    for fold in (0, 1):
        loaded = load_dataset(data_dir=tree, split_file=file, fold=fold)
        held_out = {row.id for row in made.rows if row.fold == fold}
        assert held_out <= set(loaded["test"]["image_id"])
        assert not held_out & set(loaded["train"]["image_id"])
        seen.append(loaded["train"]["image_id"][:])
    assert seen[0] != seen[1]
    with pytest.raises(UsageError, match="has the folds 0, 1"):
        load_dataset(data_dir=tree, split_file=file)


def test_errata_are_applied_recorded_and_part_of_the_cache(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    gone, other = index.select(split="test", label=1).samples[:2]
    file = tmp_path / "errata.json"
    errata = Errata((Erratum(gone.id, "exclude", "for a test"),), tmp_path)
    errata.save(file)
    untouched = load_dataset(data_dir=tree, split="test")
    corrected = load_dataset(data_dir=tree, split="test", errata=file)
    assert set(untouched["image_id"]) - set(corrected["image_id"]) == {gone.id}
    assert errata.digest in corrected.info.description
    assert errata.digest not in untouched.info.description
    assert load_dataset(data_dir=tree, split="test", errata=file).cache_files == (
        corrected.cache_files
    )

    relabelled = Erratum(other.id, "relabel", "for a test", defect_type="good")
    errata = Errata((*errata.entries, relabelled), tmp_path)
    errata.save(file)
    again = load_dataset(data_dir=tree, split="test", errata=file)
    assert again.cache_files != corrected.cache_files
    assert errata.digest in again.info.description
    row = next(row for row in again if row["image_id"] == other.id)
    assert (row["label"], row["mask"], row["defect_types"]) == (0, None, [])


def test_a_copy_on_the_hub_is_as_it_was_pushed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="errata, fold are for a tree on disk"):
        load_dataset(data_dir="hf://datasets/me/parts", errata=tmp_path / "e.json", fold=1)


def test_statistics_on_request(tree: Path) -> None:
    rows = load_dataset(data_dir=tree, split="test", with_stats=True)
    row = next(row for row in rows if row["label"])
    mask = np.asarray(row["mask"]) > 0
    assert row["num_regions"] == len(threecad.regions(mask))
    assert row["area_ratio"] == mask.mean()
    assert sum(row["region_areas"]) == mask.sum()
    good = next(row for row in rows if not row["label"])
    assert good["num_regions"] is None
    assert good["region_boxes"] == []


def test_a_mask_rule_decides_the_statistics(tree: Path) -> None:
    sample = next(iter(scan(tree).select(split="test", label=1)))
    assert sample.mask is not None
    grey = np.array(threecad.read_mask(sample.mask), np.uint8) * 255
    grey[:5, :5] = 100  # defect to one rule and not to the other
    write_png(sample.mask, grey)
    shares = {}
    for rule in ("binary", "threshold"):
        rows = load_dataset(data_dir=tree, split="test", with_stats=True, mask_rule=rule)
        row = next(row for row in rows if row["image_id"] == sample.id)
        shares[rule] = row["area_ratio"]
        assert row["area_ratio"] == threecad.read_mask(sample.mask, rule=rule).mean()
    assert shares["binary"] > shares["threshold"]
    with pytest.raises(UsageError, match="with_stats"):
        load_dataset(data_dir=tree, mask_rule="binary")


def test_nothing_is_written_beside_the_package(tree: Path) -> None:
    load_dataset(data_dir=tree, split="train")
    package = Path(threecad.__file__).parent
    assert not package.with_name(f"{package.name}.lock").exists()


def test_a_category_of_ones_own(tree: Path) -> None:
    (tree / "Copper_Stator").rename(tree / "My_Part")
    assert len(load_dataset(name="My_Part", data_dir=tree, split="train")) == 3


def test_mistakes_are_explained(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREECAD_ROOT", str(tmp_path / "nowhere"))
    for load in (load_dataset, datasets.load_dataset):
        with pytest.raises(LayoutError, match="threecad download"):
            load("3cad")
    with pytest.raises(ValueError, match=r"'Nope' not found. Available: .*Copper_Stator"):
        load_dataset(name="Nope", data_dir=tree)
    with pytest.raises(UsageError, match=r"datasets\.load_dataset"):
        load_dataset("mnist")


def test_other_data_sets_are_left_alone(tmp_path: Path, tree: Path) -> None:
    convert(tree, tmp_path / "out", to="parquet", workers=0)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="test")
    assert len(loaded) == len(scan(tree).select(split="test"))
    with pytest.raises(ConnectionError):
        datasets.load_dataset("no-such-dataset-3cad")


@pytest.mark.parametrize("order", ["threecad datasets", "datasets threecad"])
def test_either_import_order(order: str, tree: Path, tmp_path: Path) -> None:
    first, second = order.split()
    code = (
        f"import {first}, sys\n"
        "assert ('datasets' in sys.modules) == (sys.argv[1][0] == 'd')\n"
        f"import {second}\n"
        "from datasets import load_dataset\n"
        "print(load_dataset('3cad', 'Copper_Stator', split='train').num_rows)\n"
    )
    environment = {
        **os.environ,
        "THREECAD_ROOT": str(tree),
        "HF_DATASETS_CACHE": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    # A folder that holds one called like us: it must not matter.
    (tmp_path / "elsewhere" / "3cad").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", code, order],
        cwd=tmp_path / "elsewhere",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"


def test_importing_us_changes_no_other_library() -> None:
    """But for one finder, which goes once ``datasets`` is there, and one function of that."""
    code = """
import sys
import torch.utils.data._utils.collate as collate
finders, kinds = [*sys.meta_path], dict(collate.default_collate_fn_map)
before = {name: dict(vars(module)) for name, module in sys.modules.items()}
import threecad
new = [finder for finder in sys.meta_path if finder not in finders]
assert [type(finder).__module__ for finder in new] == ["threecad.hub.hook"], new
import importlib.util
assert importlib.util.find_spec("datasets") is not None and "datasets" not in sys.modules
assert new[0] in sys.meta_path  # to ask whether it is there is not to import it
threecad.ThreeCAD
assert collate.default_collate_fn_map == kinds
import datasets
import datasets.streaming
assert sys.meta_path == finders
assert datasets.load.dataset_module_factory.wrapped_by_threecad
streaming = dict(vars(datasets.streaming))
threecad.load_dataset
import threecad.hub.builder
assert vars(datasets.streaming) == streaming
changed = {
    f"{name}.{key}" for name in ("torch.utils.data", "importlib", "importlib.util", "builtins")
    if name in before
    for key, value in before[name].items()
    if key != "_" and vars(sys.modules[name]).get(key) is not value
}
assert not changed, changed
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.6.0", "4.0.0"])
def test_older_versions_of_datasets(version: str, tmp_path: Path) -> None:
    """Run this file with another version of ``datasets`` in front of the installed one."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    wanted = [f"datasets=={version}", "dill==0.3.8", "multiprocess==0.70.16", "fsspec==2025.3.0"]
    installed = subprocess.run(
        [*pip, "--only-binary", ":all:", "--target", str(tmp_path / "site"), *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"datasets {version} cannot be installed here: {installed.stderr[-200:]}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
         f"{Path(__file__).with_name('test_formats_consumers.py')}::test_datasets_reads_parquet"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "EXPECT_DATASETS": version},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_version_meant_is_the_one_tested() -> None:
    assert datasets.__version__ == os.environ.get("EXPECT_DATASETS", datasets.__version__)
