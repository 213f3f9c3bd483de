"""Cards, and ``threecad push`` against a loopback Hub."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from servers import Server, _Handler

from threecad import read_mask, regions, scan
from threecad.cli import main
from threecad.dataset.errata import Errata, Erratum
from threecad.dataset.splitting import split
from threecad.errors import DownloadError, UsageError
from threecad.hub import load_dataset
from threecad.hub.publishing import prepare, publish

if TYPE_CHECKING:
    from collections.abc import Iterator


class DatasetHub(Server):
    """As much of the Hugging Face Hub as pushing and loading a dataset need."""

    def __init__(self) -> None:
        super().__init__(_DatasetHandler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}


class _DatasetHandler(_Handler):
    server: DatasetHub

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        match = re.fullmatch(
            r"(/api)?/datasets/([\w.-]+/[\w.-]+)(?:/(resolve|revision|tree)/(.*))?", path
        )
        files = self.server.files.get(match[2]) if match else None
        if match is None or files is None:
            return self.refuse("RepoNotFound", 401)
        if match[3] == "resolve":
            name = match[4].partition("/")[2]
            if name not in files:
                return self.refuse("EntryNotFound", 404)
            headers = {
                "ETag": f'"{hash(files[name]) & 0xFFFFFFFF:040x}"',
                "X-Repo-Commit": "a" * 40,
            }
            return self.reply(200, files[name], "application/octet-stream", headers)
        if match[3] == "tree":
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            deep = query.get("recursive", ["false"])[0].lower() in ("1", "true")
            return self.json(_entries(files, match[4].partition("/")[2], deep=deep))
        return self.json(
            {
                "id": match[2],
                "sha": "a" * 40,
                "private": self.server.private[match[2]],
                "siblings": [{"rfilename": name} for name in files],
            }
        )

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.urlsplit(self.path).path
        if path == "/api/repos/create":
            wish = json.loads(body)
            name = f"{wish.get('organization') or 'me'}/{wish['name']}"
            address = {"url": f"{self.server.url}/datasets/{name}", "name": name}
            if name in self.server.files:
                return self.reply(409, json.dumps(address).encode(), "application/json")
            self.server.files[name] = {}
            private = wish.get("private") or wish.get("visibility") == "private"
            self.server.private[name] = bool(private)
            return self.json(address)
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        match = re.fullmatch(
            r"/api/datasets/([\w.-]+/[\w.-]+)/(preupload|commit|paths-info)/\w+", path
        )
        if match is None:
            return self.refuse("EntryNotFound", 404)
        if match[2] == "paths-info":
            wanted = urllib.parse.parse_qs(body.decode()).get("paths", [])
            known = _entries(self.server.files[match[1]], "", deep=True)
            return self.json([entry for entry in known if entry["path"] in wanted])
        if match[2] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.json({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.files[match[1]][line["value"]["path"]] = content
        url = f"{self.server.url}/datasets/{match[1]}/commit/1"
        return self.json({"commitUrl": url, "commitOid": "a" * 40})

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), "application/json")

    def refuse(self, code: str, status: int) -> None:
        self.reply(status, b"{}", "application/json", {"X-Error-Code": code})


def _entries(files: dict[str, bytes], under: str, *, deep: bool) -> list[dict[str, Any]]:
    """List files and folders below ``under`` as the Hub does."""
    listed: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        parts = name.split("/")
        for end in range(1, len(parts)):
            path = "/".join(parts[:end])
            listed[path] = {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
        listed[name] = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
    prefix = f"{under}/" if under else ""
    return [
        entry
        for path, entry in sorted(listed.items())
        if path.startswith(prefix) and (deep or "/" not in path[len(prefix) :])
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DatasetHub]:
    with DatasetHub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        datasets.disable_progress_bars()
        yield server


def test_what_goes_up_says_what_it_is(tree: Path) -> None:
    publication = prepare("me/parts", tree, workers=0)
    assert publication.private
    assert set(publication.files) == {
        "README.md",
        "examples.png",
        *(f"{c}/{s}-00000-of-00001.parquet" for c in ("Aluminum_Ipad", "Copper_Stator")
          for s in ("train", "test")),
    }  # fmt: skip
    card = (publication.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "other"
    assert [entry["config_name"] for entry in head["configs"]] == [
        "all",
        "Aluminum_Ipad",
        "Copper_Stator",
    ]
    assert "states no licence" in card
    assert "yang2025threecad" in card
    assert "![examples.png](examples.png)" in card
    with Image.open(publication.folder / "examples.png") as picture:
        assert picture.size == (512, 256)


def test_statistics_of_the_card_and_the_columns_are_those_of_the_masks(tree: Path) -> None:
    publication = prepare("me/parts", tree, workers=0)
    masks = {
        sample.id: read_mask(sample.mask)
        for sample in scan(tree).select(category="Copper_Stator", label=1)
        if sample.mask is not None
    }
    table = pq.read_table(publication.folder / "Copper_Stator/test-00000-of-00001.parquet")
    rows = {row["image_id"]: row for row in table.to_pylist()}
    for name, mask in masks.items():
        assert rows[name]["region_areas"] == [region.area for region in regions(mask)]
        assert rows[name]["area_ratio"] == mask.mean()
    median = 100 * np.median([mask.mean() for mask in masks.values()])
    counts = [len(regions(mask)) for mask in masks.values()]
    line = f"| Copper_Stator | {len(masks)} | {min(counts)}–{max(counts)} | {median:.3g} % |"
    assert line in (publication.folder / "README.md").read_text()


def test_drawn_images_are_not_called_3cad(sample_tree: Path) -> None:
    publication = prepare("me/s", sample_tree, categories=["Iron_Stator"], workers=0)
    card = (publication.folder / "README.md").read_text()
    assert "# A procedural miniature of 3CAD" in card
    assert "states no licence" not in card


def test_the_same_data_are_prepared_once(tree: Path) -> None:
    first = prepare("me/parts", tree, workers=0)
    card = first.folder / "README.md"
    before = card.stat().st_mtime_ns
    assert prepare("you/other", tree, workers=0).folder == first.folder
    assert card.stat().st_mtime_ns == before
    next(iter(scan(tree))).image.touch()
    assert prepare("me/parts", tree, workers=0).folder != first.folder


def test_errata_and_fold_go_with_what_is_prepared(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    gone = index.select(split="test").samples[0]
    errata = Errata((Erratum(gone.id, "exclude", "for a test"),), tmp_path)
    errata.save(tmp_path / "errata.json")
    split(index, "k-fold", folds=2, workers=0).save(tmp_path / "folds.csv")
    command = ["push", "me/parts", str(tree), "--dry-run", "--json", "--workers", "0"]
    options = [
        "--errata", str(tmp_path / "errata.json"),
        "--split-file", str(tmp_path / "folds.csv"), "--fold",
    ]  # fmt: skip
    folders = []
    for fold in ("0", "1"):
        run = CliRunner().invoke(main, [*command, *options, fold])
        assert run.exit_code == 0, run.output
        prepared = json.loads(run.stdout)
        assert prepared["errata"] == errata.digest
        folder = Path(prepared["folder"])
        assert errata.digest in (folder / "README.md").read_text()
        tables = [pq.read_table(path, columns=["image_id"]) for path in folder.glob("*/*.parquet")]
        ids = {name for table in tables for name in table.column("image_id").to_pylist()}
        assert gone.id not in ids
        folders.append(folder)
    assert folders[0] != folders[1]
    assert prepare("me/parts", tree, workers=0).errata is None


def test_up_and_back(tree: Path, hub: DatasetHub) -> None:
    publication = prepare("me/parts", tree, workers=0)
    assert publish(publication) == f"{hub.url}/datasets/me/parts"
    assert hub.private["me/parts"]
    uploaded = hub.files["me/parts"]
    assert {name: len(data) for name, data in uploaded.items()} == publication.files
    publish(publication)  # again, as after an interruption
    loaded = load_dataset(name="Copper_Stator", data_dir="hf://datasets/me/parts", split="test")
    expected = scan(tree).select(category="Copper_Stator", split="test")
    assert sorted(loaded["image_id"]) == [sample.id for sample in expected]


def test_public_needs_a_settled_licence(tree: Path, hub: DatasetHub) -> None:
    publication = prepare("me/parts", tree, private=False, workers=0)
    with pytest.raises(UsageError, match="states no licence"):
        publish(publication)
    assert hub.files == {}
    publish(publication, license_settled=True)
    assert hub.private == {"me/parts": False}
    private = prepare("me/parts", tree, workers=0)
    with pytest.raises(UsageError, match="there already and public"):
        publish(private)


def test_command_asks_before_anything_becomes_public(tree: Path, hub: DatasetHub) -> None:
    command = ["push", "me/parts", str(tree), "--workers", "0", "--config", "Copper_Stator"]
    run = CliRunner().invoke(main, [*command, "--public"], input="n\n")
    assert run.exit_code == 1
    assert "states no licence" in run.output
    assert hub.files == {}
    run = CliRunner().invoke(main, [*command, "--dry-run", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["private"] is True
    assert hub.files == {}
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    assert hub.private == {"me/parts": True}


def test_mistakes_are_explained(tree: Path, hub: DatasetHub) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        prepare("parts", tree)
    publication = prepare("me/parts", tree, workers=0)
    hub.shutdown()
    hub.server_close()
    with pytest.raises(DownloadError, match="hf auth login"):
        publish(publication)
