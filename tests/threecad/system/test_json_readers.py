"""Whatever JSON lies where ours is expected: it is read or refused by name, never a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cfrg.inference.thresholds import Threshold, read_threshold
from cfrg.network.cards import make_card
from cfrg.network.config import CFRGConfig
from cfrg.network.pretrained import read_config, write_card
from cfrg.training.logs import read_log
from cfrg.training.runs import read_run
from cfrg.training.states import load_training_state, state_path
from threecad.dataset.errata import read_errata
from threecad.dataset.provenance import Provenance
from threecad.dataset.split_files import read_split
from threecad.errors import ThreecadError
from threecad.evaluation.predictions import PredictionFolder, write_map
from threecad.evaluation.results import Figure, Result, Scores
from threecad.verification.manifest import read_manifest

RUNS = int(os.environ.get("THREECAD_JSON_EXAMPLES", "40"))

THRESHOLD = Threshold(
    image_threshold=1.0,
    pixel_threshold=2.0,
    false_alarm_rate=0.05,
    interval=(0.01, 0.05),
    images=60,
    source="held-out",
    data_fingerprint="ab",
    weights_digest="cd",
    version="1",
)
SCORES = Scores({"image_auroc": Figure(0.9, confidence=(0.8, 0.95))}, {"good": 3})
RESULT = Result(SCORES, by_category={"Copper_Stator": SCORES}, protocol="full").to_dict()
RECORD = {
    "schema": "cfrg.run/1",
    "category": "Copper_Stator",
    "seed": 3,
    "data_fingerprint": "ab",
    "held_out": ["Copper_Stator/train/good/000"],
    "options": {"steps": 2},
    "config": {},
    "weights_digest": "cd",
}
ERRATA = {
    "schema": "threecad.errata/1",
    "entries": [{"id": "C/test/d/1", "action": "relabel", "reason": "r", "defect_type": "good"}],
}
SIDECAR = {
    "schema": "threecad.split/1", "kind": "shots", "seed": 1, "options": {}, "fingerprint": "ab",
    "left_out": {"a": "b"}, "notes": ["c"],
}  # fmt: skip
LOCK = {
    "schema": 1,
    "archives": {"drive": {"size": 1, "sha256": "ab", "received": "", "keep": True}},
    "unpacked": {},
    "complete": None,
}


def _read_sidecar(path: Path) -> None:
    table = path.with_name("split.csv")
    table.write_text("object,split,label,image\nC,train,normal,C/train/good/1.png\n")
    split = read_split(table)
    split.describe()
    list(split.notes)


def _read_meta(path: Path) -> None:
    write_map(path.parent / "maps" / "a.png", torch.zeros(2, 2).numpy(), scale=1.0, offset=0.0)
    PredictionFolder(path.parent)["a"]


def _read_card(path: Path) -> None:
    (path.parent / "config.json").write_text("{}")
    write_card(path.parent)


def _read_manifest(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    path.with_name("m.csv").write_text(f"path,size,sha256,width,height\n{text}\n", encoding="utf-8")
    read_manifest(path.with_name("m.csv"))


def _read_state(path: Path) -> None:
    state = state_path(path.parent)
    state.parent.mkdir(exist_ok=True)
    module = torch.nn.Linear(1, 1)
    tensors = {f"model.{name}": value.detach() for name, value in module.named_parameters()}
    text = path.read_text(encoding="utf-8", errors="replace")
    save_file(tensors, state, metadata={"training": text})
    load_training_state(path.parent, module, torch.optim.Adam(module.parameters()))


READERS: dict[str, tuple[str, Any, Callable[[Path], object]]] = {
    "run": ("run.json", RECORD, lambda path: read_run(path.parent)),
    "run on the card": ("run.json", RECORD, _read_card),
    "result": ("result.json", RESULT, lambda path: str(Result.from_json(path))),
    "result on the card": ("result.json", RESULT, _read_card),
    "calibration": (
        "calibration.json", THRESHOLD.to_dict(), lambda path: read_threshold(path.parent)
    ),
    "config": (
        "config.json",
        CFRGConfig.preset("lite").to_dict(),
        lambda path: make_card(read_config(path.parent), {}),
    ),
    "log": ("log.jsonl", {"step": 1, "loss": 0.5}, read_log),
    "state": ("state.json", {"step": 3, "best_step": 1, "best_score": 0.5}, _read_state),
    "meta": ("meta.json", {"scale": 0.5, "offset": 0}, _read_meta),
    "sidecar": ("split.csv.json", SIDECAR, _read_sidecar),
    "errata": ("errata.json", ERRATA, read_errata),
    "manifest": ("manifest", ["a", 1, "b", 2, 3], _read_manifest),
    "downloads": (
        ".threecad/archives.lock.json", LOCK, lambda path: Provenance.load(path.parent.parent)
    ),
}  # fmt: skip

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.just(-1),
    st.floats(allow_nan=True),
    st.text(max_size=5),
    st.just("\0"),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each value in a JSON value, itself included."""
    inner = content.items() if isinstance(content, dict) else ()
    inner = enumerate(content) if isinstance(content, list) else inner
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def change(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[place[0]] = change(copy[place[0]], place[1:], value)
    return copy


@st.composite
def damaged(draw: st.DrawFn, content: Any) -> bytes:
    """A JSON text with values changed or left out, cut short, or nothing of the kind."""
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(places(content)))
        content = change(content, place, draw(VALUES))
    if isinstance(content, dict) and content and draw(st.booleans()):
        content = {k: v for k, v in content.items() if k != draw(st.sampled_from(list(content)))}
    text = json.dumps(content).encode()
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return text[: draw(st.integers(0, len(text)))]
    if kind == 1:
        return draw(st.binary(max_size=20))
    if kind == 2:
        return b"[" * 100_000
    return text.replace(b"0.5", b"1e999") if kind == 3 else text + b"\n"


@pytest.mark.parametrize("name", READERS)
def test_any_json_is_read_or_refused(name: str, tmp_path: Path) -> None:
    file, content, read = READERS[name]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content) + "\n")
    if name not in ("manifest", "state"):
        read(path)

    @settings(max_examples=RUNS, suppress_health_check=list(HealthCheck), database=None)
    @given(damaged(content))
    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(ThreecadError):
            read(path)

    attempt()


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "NaN", "[1e999]", "[" * 100_000])
@pytest.mark.parametrize(
    "name", [n for n in READERS if n not in ("log", "sidecar", "manifest", "downloads")]
)
def test_what_is_no_object_is_said(name: str, text: str, tmp_path: Path) -> None:
    file, _, read = READERS[name]
    (tmp_path / file).write_text(text)
    with pytest.raises(ThreecadError) as caught:
        read(tmp_path / file)
    shown = "checkpoints" if name == "state" else file
    assert shown in str(caught.value)


def test_a_run_without_a_category_and_a_log_of_lists_are_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ThreecadError, match=r'run\.json cannot be read .*"category" is missing'):
        read_run(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n[]\n{"step": 2}\n')
    with pytest.raises(ThreecadError, match=r"log\.jsonl, line 2: no step of a training"):
        read_log(tmp_path / "log.jsonl")
    (tmp_path / "split.csv.json").write_text("{")
    with pytest.raises(ThreecadError, match=r"split\.csv\.json does not describe"):
        _read_sidecar(tmp_path / "split.csv.json")
