"""The Hub as a source, against a loopback Hub."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from archives import CATEGORIES, read_tree, tree_files, zip_bytes
from pyarrow import parquet
from servers import HubServer

from threecad.errors import DownloadError, ExtractionError, ThreecadError, UsageError
from threecad.fetching import download

PNG = b"\x89PNG\r\n\x1a\n"
FILES = {path: PNG + content for path, content in tree_files().items()}
NAME = "someone/3cad"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that the environment points to, and nobody's token."""
    monkeypatch.setattr("threecad.fetching.hub_source.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with HubServer({}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def get(root: Path, name: str = NAME, **options: Any) -> Path:
    return download(root, source=f"hf:{name}", progress=False, **options)


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def image_paths(category: str) -> list[str]:
    return [p for p in sorted(FILES) if p.startswith(category) and "ground_truth" not in p]


def mask_of(path: str) -> bytes | None:
    return FILES.get(path.replace("/test/", "/ground_truth/")) if "/dent/" in path else None


def own_parquet() -> dict[str, bytes]:
    """Our own form: a folder for each category, images embedded, paths reduced to names."""

    def row(path: str) -> dict[str, Any]:
        mask = mask_of(path)
        return {
            "image_id": path.removesuffix(".png"),
            "image": {"bytes": FILES[path], "path": path.rpartition("/")[2]},
            "mask": {"bytes": mask, "path": None} if mask else None,
            "label": int("dent" in path),
        }

    files = {"README.md": b"---\n---\n"}
    for category in CATEGORIES:
        for split in ("train", "test"):
            rows = [row(path) for path in image_paths(category) if f"/{split}/" in path]
            files[f"{category}/{split}-00000-of-00001.parquet"] = parquet_bytes(rows)
    return files


def record(path: str, **changes: Any) -> dict[str, Any]:
    """One record of the form with the path in its metadata."""
    category, split, defect_type, _ = path.split("/")
    mask = mask_of(path)
    metadata = {
        "split": split,
        "provenance": "3CAD",
        "image_path": f"3CAD/{path}",
        "image_sha256": hashlib.sha256(FILES[path]).hexdigest(),
    }
    return {
        "query": "Is there a defect?",
        "image": {"bytes": FILES[path], "path": None},
        "images": None,
        "annot": json.dumps({"label": int(defect_type != "good"), "defect_type": defect_type}),
        "reasoning": None,
        "cate": category,
        "task": "anomaly",
        "metadata": json.dumps(metadata | changes),
        "mask": {"bytes": mask, "path": None} if mask else None,
    }


def every_image() -> list[str]:
    return [path for category in CATEGORIES for path in image_paths(category)]


def test_a_repository_with_the_zip(hub: HubServer, tmp_path: Path) -> None:
    content = zip_bytes(FILES)
    hub.repositories[NAME] = {"README.md": b"hello", "data/3CAD.zip": content}
    assert read_tree(get(tmp_path, sha256=hashlib.sha256(content).hexdigest())) == FILES
    lock = json.loads((tmp_path / ".threecad" / "archives.lock.json").read_text())
    assert lock["archives"][f"hf:{NAME}/data/3CAD.zip"]["size"] == len(content)
    assert not list((tmp_path / ".threecad").rglob("*.zip"))


def test_a_repository_with_a_zip_for_each_category(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = {
        f"{c}.zip": zip_bytes({p: d for p, d in FILES.items() if p.startswith(c)}, "")
        for c in CATEGORIES
    }
    assert read_tree(get(tmp_path / "all")) == FILES
    hub.requests.clear()
    get(tmp_path / "one", categories=["CS"])
    assert not any("Aluminum" in path for _, path, _ in hub.requests)


def test_several_zips_ask_for_a_choice(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = {"a.zip": b"PK", "b.zip": b"PK"}
    with pytest.raises(DownloadError, match=r"several archives \(a\.zip, b\.zip\)"):
        get(tmp_path)


@pytest.mark.parametrize("large", [".png", ".zip"], ids=["lfs", "git"])
def test_a_repository_with_the_tree(hub: HubServer, tmp_path: Path, large: str) -> None:
    hub.repositories[NAME] = {f"3CAD/{path}": c for path, c in FILES.items()} | {"a.md": b"x"}
    hub.large = large
    assert read_tree(get(tmp_path)) == FILES
    assert not (tmp_path / ".threecad" / "hub").exists()


def test_a_tree_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = dict(FILES)
    present = sorted(FILES)[:20]
    for path in present:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(FILES[path])
    (tmp_path / present[0]).write_bytes(bytes(len(FILES[present[0]])))  # right size, wrong bytes
    get(tmp_path)
    assert read_tree(tmp_path) == FILES
    fetched = {path for method, path, _ in hub.requests if method == "GET" and "resolve" in path}
    assert len(fetched) == len(FILES) - 19


def test_only_the_categories_asked_for(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = dict(FILES)
    get(tmp_path, categories=["Copper_Stator"])
    assert {path.partition("/")[0] for path in read_tree(tmp_path)} == {"Copper_Stator"}
    with pytest.raises(DownloadError, match="it has Aluminum_Camera_Cover, Copper_Stator"):
        get(tmp_path, categories=["Iron_Stator"])


def test_our_own_parquet(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = own_parquet()
    assert read_tree(get(tmp_path / "all")) == FILES
    hub.requests.clear()
    get(tmp_path / "one", categories=["CS"])
    assert {path.partition("/")[0] for path in read_tree(tmp_path / "one")} == {"Copper_Stator"}
    assert not any("Aluminum" in path for _, path, _ in hub.requests)


def test_parquet_goes_on_after_the_last_finished_file(hub: HubServer, tmp_path: Path) -> None:
    files = own_parquet()
    broken = "Copper_Stator/train-00000-of-00001.parquet"
    hub.repositories[NAME] = files | {broken: b"PAR1 damaged"}
    with pytest.raises(ExtractionError, match="no readable Parquet"):
        get(tmp_path)
    hub.repositories[NAME] = files
    hub.requests.clear()
    assert read_tree(get(tmp_path)) == FILES
    assert {
        path.rpartition("main/")[2] for _, path, _ in hub.requests if "Aluminum" in path
    } == set()
    lock = json.loads((tmp_path / ".threecad" / "archives.lock.json").read_text())
    assert sum(entry["files"] for entry in lock["unpacked"].values()) == len(FILES)


def test_records_with_the_path_in_their_metadata(hub: HubServer, tmp_path: Path) -> None:
    foreign = record(every_image()[0], image_path="other_dataset/train/good/1.png")
    foreign["cate"] = "bottle"
    rows = [foreign, *(record(path) for path in every_image())]
    hub.repositories[NAME] = {"data/train-00000-of-00001.parquet": parquet_bytes(rows)}
    assert read_tree(get(tmp_path)) == FILES


def test_records_whose_path_names_no_folder_are_placed_by_their_labels(
    hub: HubServer, tmp_path: Path
) -> None:
    path = "Copper_Stator/test/dent/000001.png"
    rows = [record(path, image_path="images/000001.png")]
    hub.repositories[NAME] = {"x.parquet": parquet_bytes(rows)}
    expected = {path: FILES[path], path.replace("test", "ground_truth"): mask_of(path)}
    assert read_tree(get(tmp_path)) == expected


def test_a_record_that_is_not_the_image_it_claims(hub: HubServer, tmp_path: Path) -> None:
    rows = [record(every_image()[0], image_sha256="0" * 64)]
    hub.repositories[NAME] = {"x.parquet": parquet_bytes(rows)}
    with pytest.raises(ExtractionError, match="its record states 000"):
        get(tmp_path)
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize("path", ["../../x/train/good/1.png", "/etc/x/train/good/1.png"])
def test_a_record_whose_path_leads_elsewhere(hub: HubServer, tmp_path: Path, path: str) -> None:
    rows = [record(every_image()[0], image_path=path)]
    hub.repositories[NAME] = {"x.parquet": parquet_bytes(rows)}
    with pytest.raises(ExtractionError, match="Refused"):
        get(tmp_path / "root")
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize("image_id", ["../a/b/c", "a/b/c", "C:/a/b/c/d"])
def test_an_image_id_that_is_none(hub: HubServer, tmp_path: Path, image_id: str) -> None:
    row = {"image_id": image_id, "image": {"bytes": PNG, "path": None}}
    hub.repositories[NAME] = {"x.parquet": parquet_bytes([row])}
    with pytest.raises(ExtractionError):
        get(tmp_path / "root")
    assert read_tree(tmp_path) == {}


def test_parquet_that_embeds_nothing_or_is_something_else(hub: HubServer, tmp_path: Path) -> None:
    row = {"image_id": "X/train/good/1", "image": {"bytes": None, "path": "/home/a/1.png"}}
    hub.repositories[NAME] = {"x.parquet": parquet_bytes([row])}
    with pytest.raises(ExtractionError, match="not embedded"):
        get(tmp_path)
    hub.repositories[NAME] = {"y.parquet": parquet_bytes([{"text": "hello"}])}
    with pytest.raises(ExtractionError, match="has the columns text"):
        get(tmp_path)
    hub.repositories[NAME] = {"README.md": b"hello"}
    with pytest.raises(DownloadError, match="Is it 3CAD"):
        get(tmp_path)


def test_a_gated_repository_says_how_to_get_access(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = own_parquet()
    hub.gated.add(NAME)
    with pytest.raises(DownloadError, match=f"{NAME} is gated.*ask for access.*HF_TOKEN"):
        get(tmp_path)


def test_a_private_repository_opens_with_the_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME] = dict(FILES)
    hub.token = "hf_secret"
    with pytest.raises(DownloadError, match=r"or it is private.*HF_TOKEN"):
        get(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert read_tree(get(tmp_path)) == FILES


def test_no_such_repository_or_revision(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"no dataset .*no/such"):
        get(tmp_path, "no/such")
    hub.repositories[NAME] = dict(FILES)
    with pytest.raises(DownloadError, match="no such revision"):
        get(tmp_path, f"{NAME}@v9")
    with pytest.raises(UsageError, match="no repository on the Hub"):
        get(tmp_path, "just-a-name")


def test_a_file_that_comes_damaged_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = dict(FILES)
    victim = sorted(FILES)[3]
    hub.damage[victim] = 2
    assert read_tree(get(tmp_path)) == FILES
    hub.damage[victim] = 100
    (tmp_path / victim).unlink()
    with pytest.raises(DownloadError, match=f"{victim}.*came damaged"):
        get(tmp_path)
    assert not (tmp_path / victim).exists()


def test_a_hub_that_stumbles_is_asked_again(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = dict(FILES)
    hub.statuses = [503, 502]
    assert read_tree(get(tmp_path)) == FILES


def test_a_hub_that_is_not_there_is_said(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ThreecadError, match=r"127\.0\.0\.1:9/datasets/someone/3cad"):
        get(tmp_path)


def test_a_tree_has_no_archive_to_keep_or_to_compare(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[NAME] = dict(FILES)
    with pytest.raises(UsageError, match="holds no zip"):
        get(tmp_path, extract=False)
