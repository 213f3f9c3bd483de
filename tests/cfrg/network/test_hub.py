"""Run folders and Hub repositories: written whole, read strictly, never a fetch of weights."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from servers import Server, _Handler

from cfrg.network import pretrained
from cfrg.network.cards import make_card
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from cfrg.network.pretrained import read_config, write_card
from cfrg.teachers import backbones
from threecad.errors import ModelError
from threecad.evaluation.results import Result
from threecad.evaluation.scores import Figure, Scores


@pytest.fixture(scope="module")
def model() -> CFRG:
    config = CFRGConfig.preset("lite", standardize_features=True, calibrate_maps=True)
    model = CFRG(config).eval()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.5)
    return model


@pytest.fixture
def folder(model: CFRG, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def same(first: CFRG, second: CFRG) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_comes_back_as_it_was(
    model: CFRG, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backbones, "TEACHERS", {})  # nobody looks for the teacher's weights
    loaded = CFRG.from_pretrained(folder)
    assert same(loaded, model)
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.teacher.parameters())
    assert all(p.requires_grad for p in loaded.student.parameters())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.predict(image)[0], model.predict(image)[0])
    assert capsys.readouterr().out == ""


def test_files_are_those_of_a_run_folder(model: CFRG, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict())
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 1, "others can read all files or none"


def test_companions_travel_with_the_model(folder: Path, tmp_path: Path) -> None:
    run = {"category": "Copper_Stator", "seed": 3, "data_fingerprint": "abc123"}
    (folder / "run.json").write_text(json.dumps(run))
    loaded = CFRG.from_pretrained(folder)
    assert loaded.companions == {"run.json": run}
    loaded.save_pretrained(tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "run.json").read_text()) == run
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "CFRG for Copper_Stator" in card
    assert "abc123" in card


def test_subfolder_and_overrides(model: CFRG, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "models" / "stator")
    loaded = CFRG.from_pretrained(tmp_path / "models", subfolder="stator", smoothing_sigma=1.5)
    assert loaded.config.smoothing_sigma == 1.5
    assert same(loaded, model)
    with pytest.raises(ModelError, match="did you mean 'smoothing_sigma'"):
        CFRG.from_pretrained(tmp_path / "models", subfolder="stator", smoothing=1.5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such folder, and not the name of a Hub repository"),
        ("./nowhere/run", "no such folder, and not the name of a Hub repository"),
        ("a/b/c", "no such folder, and not the name of a Hub repository"),
    ],
)
def test_folder_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CFRG.from_pretrained(source)


def test_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: no such file"):
        CFRG.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        CFRG.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="not a configuration"):
        CFRG.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"teachr": "x"}')
    with pytest.raises(ModelError, match="did you mean 'teacher'"):
        read_config(tmp_path)


def test_weights_must_fit_unless_told_otherwise(model: CFRG, folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    del tensors["unet.head.bias"]
    tensors["unet.tail.bias"] = torch.zeros(1)
    save_file(tensors, weights)
    with pytest.raises(ModelError) as caught:
        CFRG.from_pretrained(folder)
    assert "missing: unet.head.bias" in str(caught.value)
    assert "not known: unet.tail.bias" in str(caught.value)
    lenient = CFRG.from_pretrained(folder, strict=False)
    assert torch.equal(lenient.unet.head.weight, model.unet.head.weight)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="not a safetensors file"):
        CFRG.from_pretrained(folder)


def test_weights_that_could_run_code_are_not_unpickled(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"weight": Evil()}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not a safetensors file"):
        CFRG.from_pretrained(folder)
    assert not (tmp_path / "owned").exists()


def test_a_write_that_fails_leaves_the_old_files(
    model: CFRG, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cfrg.teachers.tensors.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_card_tells_figures_with_intervals_and_protocol(folder: Path) -> None:
    assert "has not been evaluated" in (folder / "README.md").read_text()
    figures = {
        "image_auroc": Figure(0.9123, low=0.9, high=0.93, confidence=(0.88, 0.94)),
        "pro_30": Figure.undefined("no masks"),
    }
    scores = Scores(figures, {"good": 10, "defective": 20})
    result = Result(scores, by_category={"Copper_Stator": scores}, protocol="full")
    (folder / "result.json").write_text(json.dumps(result.to_dict()))
    write_card(folder)
    card = (folder / "README.md").read_text()
    assert "| Image AUROC | 91.23 | 88.0 to 94.0 |" in card
    assert "| PRO@0.3 | – | – |" in card
    assert "Protocol: `full`" in card
    assert card.startswith("---\n")
    assert "license" in card
    assert "licence of the 3CAD images is not stated" in card


def test_card_names_the_split_that_was_trained_on(model: CFRG) -> None:
    record = {"category": "Copper_Stator", "split_file": "folds.csv", "fold": 2, "seed": 0}
    card = make_card(model.config, {"run.json": record})
    assert "- Split file: folds.csv" in card
    assert "- Fold held out: 2" in card
    assert "Split" not in make_card(model.config, {"run.json": {"split_file": None, "fold": None}})


def test_card_tells_the_terms_of_the_teacher_and_which_file_was_read() -> None:
    card = make_card(CFRGConfig.preset("memory", teacher="dinov3_s"), {})
    assert "Licence: DINOv3 License, https://ai.meta.com" in card
    published = "95faca4d" + 56 * "0"
    for digest, said in ((published, "the published file"), (64 * "1", "another file")):
        record = {"teacher_weights": {"file": "wide.pth", "sha256": digest}}
        card = make_card(CFRGConfig(), {"run.json": {"category": "X", **record}})
        assert f"Read from wide.pth, SHA-256 {digest}, " in card
        assert said in card


def test_card_that_a_person_wrote_is_left_alone(model: CFRG, folder: Path) -> None:
    card = folder / "README.md"
    card.write_text("# Mine\n")
    model.save_pretrained(folder)
    write_card(folder)
    assert card.read_text() == "# Mine\n"


class ModelHub(Server):
    """As much of the Hugging Face Hub as downloads and pushes of model files need."""

    def __init__(self) -> None:
        super().__init__(_ModelHandler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.statuses: dict[str, list[int]] = {}
        """Statuses of the next answers, by file."""


class _ModelHandler(_Handler):
    server: ModelHub

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.requests.append(path)
        match = re.fullmatch(r"/([\w-]+/[\w.-]+)/resolve/(\w+)/(.+)", path)
        files = self.server.files.get(match[1]) if match else None
        if match is None or files is None:
            return self.refuse("RepoNotFound", 401)
        if match[2] not in ("main", "a" * 40):
            return self.refuse("RevisionNotFound", 404)
        if statuses := self.server.statuses.get(match[3]):
            return self.refuse("", statuses.pop(0))
        if match[3] not in files:
            return self.refuse("EntryNotFound", 404)
        body = files[match[3]]
        headers = {"ETag": f'"{hash(body) & 0xFFFFFFFF:040x}"', "X-Repo-Commit": "a" * 40}
        return self.reply(200, body, "application/octet-stream", headers)

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.urlsplit(self.path).path
        self.server.requests.append(path)
        if path == "/api/repos/create":
            wish = json.loads(body)
            name = f"{wish.get('organization') or 'me'}/{wish['name']}"
            self.server.files[name] = {}
            private = wish.get("private") or wish.get("visibility") == "private"
            self.server.private[name] = bool(private)
            return self.json({"url": f"{self.server.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        match = re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/(preupload|commit)/main", path)
        assert match, path
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
        return self.json({"commitUrl": f"{self.server.url}/{match[1]}/commit/1", "commitOid": "1"})

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), "application/json")

    def refuse(self, code: str, status: int) -> None:
        self.reply(status, b"{}", "application/json", {"X-Error-Code": code})


@pytest.fixture
def model_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    with ModelHub() as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
        yield server


def test_repository_is_read_like_a_folder(
    model: CFRG, folder: Path, tmp_path: Path, model_hub: ModelHub
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["run.json"] = b'{"category": "Copper_Stator"}'
    model_hub.files["me/stator"] = {f"lite/{name}": body for name, body in files.items()}
    loaded = CFRG.from_pretrained("me/stator", subfolder="lite", cache_dir=tmp_path / "cache")
    assert same(loaded, model)
    assert loaded.companions == {"run.json": {"category": "Copper_Stator"}}
    cached = CFRG.from_pretrained(
        "me/stator", subfolder="lite", cache_dir=tmp_path / "cache", local_files_only=True
    )
    assert same(cached, model)


def test_repositories_that_cannot_be_read(tmp_path: Path, model_hub: ModelHub) -> None:
    model_hub.files["me/empty"] = {}
    for source, options, message in (
        ("me/none", {}, "no such repository on the Hub"),
        ("me/empty", {}, r"me/empty: has no config\.json"),
        ("me/empty", {"revision": "v9"}, "no revision 'v9'"),
        ("me/empty", {"local_files_only": True}, "neither cached nor can the Hub be reached"),
    ):
        with pytest.raises(ModelError, match=message):
            CFRG.from_pretrained(source, cache_dir=tmp_path, **options)


@pytest.mark.parametrize("name", pretrained.COMPANIONS)
def test_a_hub_that_is_overloaded_is_asked_again_and_never_believed(
    name: str,
    folder: Path,
    tmp_path: Path,
    model_hub: ModelHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cfrg.teachers.hub_files.WAITS", (0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    model_hub.files["me/stator"] = {**files, name: b'{"category": "Copper_Stator"}'}
    model_hub.statuses[name] = [503] * 1000
    with pytest.raises(ModelError, match=rf"me/stator: {name} cannot be fetched.*try again later"):
        CFRG.from_pretrained("me/stator", cache_dir=tmp_path / "cache")
    asked = 1000 - len(model_hub.statuses[name])
    assert 3 <= asked < 100
    model_hub.statuses[name] = [503]  # and then it can be had
    loaded = CFRG.from_pretrained("me/stator", cache_dir=tmp_path / "cache")
    assert loaded.companions == {name: {"category": "Copper_Stator"}}
    model_hub.statuses[name] = [403]  # asking again would not help
    with pytest.raises(ModelError, match=f"me/stator: {name} cannot be fetched"):
        CFRG.from_pretrained("me/stator", cache_dir=tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("dinov2_s", "timm/vit_small_patch14_dinov2.lvd142m"),
        ("dinov2_b", "timm/vit_base_patch14_dinov2.lvd142m"),
    ],
)
def test_a_teacher_is_fetched_from_its_repository_once(
    name: str,
    repository: str,
    tmp_path: Path,
    model_hub: ModelHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("cfrg.teachers.hub_files.WAITS", (0.0, 0.0))
    with pytest.raises(ModelError, match=r"not to be had\..*no such.*`teacher_weights=FILE`"):
        backbones.find_weights(name)
    model_hub.files[repository] = {"model.safetensors": b"weights"}
    assert backbones.find_weights(name).read_bytes() == b"weights"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert backbones.find_weights(name).read_bytes() == b"weights"


def test_a_fetched_teacher_is_read(
    tmp_path: Path, model_hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    theirs = backbones.TEACHERS["dinov2_s"].build()
    save_file(theirs.transformer.state_dict(), path := tmp_path / "model.safetensors")
    model_hub.files["timm/vit_small_patch14_dinov2.lvd142m"] = {path.name: path.read_bytes()}
    ours = backbones.TEACHERS["dinov2_s"].build()
    assert backbones.load_teacher("dinov2_s", ours).name == "model.safetensors"
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


def test_push_uploads_card_and_weights_privately(
    model: CFRG, tmp_path: Path, model_hub: ModelHub
) -> None:
    model.push_to_hub("me/stator", token="hf_x")
    assert model_hub.private == {"me/stator": True}
    files = model_hub.files["me/stator"]
    assert set(files) >= {"config.json", "model.safetensors", "README.md"}
    assert pretrained.MARKER.encode() in files["README.md"]
    assert same(CFRG.from_pretrained("me/stator", cache_dir=tmp_path), model)
    model.push_to_hub("me/open", token="hf_x", private=False)
    assert model_hub.private["me/open"] is False
