import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threecad.errors import EvaluationError, UsageError
from threecad.predictions import PredictionFolder, PredictionWriter, read_map, write_map


@pytest.mark.parametrize("suffix", ["npy", "npz", "tiff"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_maps_survive(suffix, dtype, tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype)
    write_map(tmp_path / f"m.{suffix}", values)
    assert np.array_equal(read_map(tmp_path / f"m.{suffix}"), values)


def test_png_maps_share_one_scale(tmp_path):
    values = np.linspace(-1, 3, 35).reshape(5, 7)
    with PredictionWriter(tmp_path, map_format="png", scale=4 / 65535, offset=-1.0) as writer:
        writer.add("a/test/good/1", values, 3.0)
    found = PredictionFolder(tmp_path)["a/test/good/1"]
    assert found.dtype == np.float32
    assert np.abs(found - values).max() <= 2 / 65535 * 1.01
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"meta\.json"):
        PredictionFolder(tmp_path)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_scores_survive(tmp_path_factory, rows):
    import unicodedata

    rows = {unicodedata.normalize("NFC", name): score for name, score in rows}
    folder = tmp_path_factory.mktemp("scores")
    with PredictionWriter(folder) as writer:
        for name, score in rows.items():
            writer.add(f"a/test/good/{name}", None, score, decision="ok,\nor not")
    expected = {f"a/test/good/{name}": score for name, score in rows.items()}
    assert PredictionFolder(folder).scores == expected


def test_jsonl_scores_and_dots_in_names(tmp_path):
    write_map(tmp_path / "maps" / "a" / "img.01.npy", np.zeros((2, 2)))
    (tmp_path / "scores.jsonl").write_text(json.dumps({"id": "a/img.01", "score": 1.5}) + "\n")
    folder = PredictionFolder(tmp_path)
    assert folder.scores == {"a/img.01": 1.5}
    assert folder["a/img.01"].shape == (2, 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no predictions"),
        ({"scores.csv": "id,value\na,1\n"}, "row 1"),
        ({"scores.csv": "id,score\na,1\na,2\n"}, "two scores"),
        ({"scores.csv": "id,score\na,high\n"}, "row 1"),
        ({"scores.csv": "id,score\n", "scores.jsonl": ""}, "Remove one"),
        ({"maps/a.npy": "", "maps/a.npz": ""}, "Two maps"),
    ],
)
def test_bad_folders_are_refused(files, message, tmp_path):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        PredictionFolder(tmp_path)


def test_bad_maps_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "deep.npy", np.zeros((1, 2, 2)))
    np.save(tmp_path / "int.npy", np.zeros((2, 2), int))
    np.savez(tmp_path / "other.npz", heat=np.zeros((2, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "deep.npy").read_bytes()[:90])
    (tmp_path / "text.tiff").write_text("no picture")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(EvaluationError, match=path.name):
            read_map(path)


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../../b", "", "a\\b"])
def test_ids_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(UsageError), PredictionWriter(tmp_path / "out") as writer:
        writer.add(name, np.zeros((2, 2)), 0.0)
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_table_is_written_only_at_the_end(tmp_path):
    with pytest.raises(UsageError), PredictionWriter(tmp_path) as writer:  # noqa: PT012
        writer.add("a", None, 1.0)
        writer.add("..", None, 2.0)
    assert not (tmp_path / "scores.csv").exists()


def test_formats_that_cannot_hold_a_map(tmp_path):
    with pytest.raises(UsageError, match="float32"):
        write_map(tmp_path / "a.tiff", np.zeros((2, 2)))
    with pytest.raises(UsageError, match="scale"):
        write_map(tmp_path / "a.png", np.zeros((2, 2)))
    with pytest.raises(UsageError, match="floats"):
        write_map(tmp_path / "a.npy", np.zeros((2, 2), int))
    assert not list(tmp_path.iterdir())
