import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.predictions import PredictionFolder, PredictionWriter, read_map, write_map


@pytest.mark.parametrize("suffix", ["npy", "npz", "tiff"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_maps_survive(suffix, dtype, tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype)
    write_map(tmp_path / f"m.{suffix}", values)
    assert np.array_equal(read_map(tmp_path / f"m.{suffix}"), values)


def test_the_other_order_of_bytes_is_read(tmp_path):
    values = np.linspace(-1, 3, 35).reshape(5, 7)
    for kind in (">f2", ">f4", ">f8", "<f4"):
        np.save(tmp_path / "m.npy", values.astype(kind))
        found = read_map(tmp_path / "m.npy")
        assert found.dtype.isnative
        assert np.array_equal(found, values.astype(kind))


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


@settings(max_examples=30)
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
        ({"scores.csv": "id,score\na,high\n"}, "row 1 is .*high"),
        ({"scores.csv": "id;score\na;1\n"}, "row 1 is .*id;score"),
        ({"scores.csv": "id,score\n" + "a" * 200_000 + ",1\n"}, "field larger"),
        ({"scores.csv": b"id,score\n\xff,1\n"}, "can't decode byte 0xff in position 9"),
        ({"scores.jsonl": '{"id": "a", "score": 1}\n{"id"'}, "line 2 is not JSON"),
        ({"scores.jsonl": f'{{"id": "a", "score": 1{"0" * 400}}}\n'}, "row 1"),
        ({"scores.jsonl": "[" * 100_000}, "recursion"),
        ({"maps/a.png": ""}, "meta.json .*there is no such file"),
        ({"maps/a.png": "", "meta.json": "[1]"}, "meta.json .*something else"),
        ({"scores.csv": "id,score\n", "scores.jsonl": ""}, "Remove one"),
        ({"maps/a.npy": "", "maps/a.npz": ""}, "Two maps"),
    ],
)
def test_bad_folders_are_refused(files, message, tmp_path):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EvaluationError, match=message):
        PredictionFolder(tmp_path)


def test_bad_maps_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "deep.npy", np.zeros((1, 2, 2)))
    np.save(tmp_path / "int.npy", np.zeros((2, 2), int))
    np.savez(tmp_path / "other.npz", heat=np.zeros((2, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "deep.npy").read_bytes()[:90])
    (tmp_path / "text.tiff").write_text("no picture")
    (tmp_path / "empty.tiff").write_bytes(b"II*\0" + b"\xff" * 40)
    large = b"\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}"
    (tmp_path / "bomb.npy").write_bytes((large % (b"10000000, " * 2)).ljust(127) + b"\n")
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\1\0\x76\0{'descr': (".ljust(127) + b"\n")
    np.savez_compressed(tmp_path / "stream.npz", map=np.arange(64.0))
    stream = bytearray((tmp_path / "stream.npz").read_bytes())
    stream[45:60] = bytes(15)
    (tmp_path / "stream.npz").write_bytes(stream)
    write_map(tmp_path / "bomb.png", np.zeros((2, 2)), scale=1.0, offset=0.0)
    picture = bytearray((tmp_path / "bomb.png").read_bytes())
    picture[16:24] = struct.pack(">II", 60_000, 60_000)
    picture[29:33] = struct.pack(">I", zlib.crc32(picture[12:29]))
    (tmp_path / "bomb.png").write_bytes(picture)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(EvaluationError, match=path.name):
            read_map(path)


def test_npy_and_npz_are_told_by_their_content(tmp_path):
    anomaly_map = np.arange(4.0).reshape(2, 2)
    for written, named in (("a.npy", "b.npz"), ("a.npz", "b.npy")):
        write_map(tmp_path / written, anomaly_map)
        (tmp_path / written).rename(tmp_path / named)
        assert np.array_equal(read_map(tmp_path / named), anomaly_map)


def test_an_image_is_predicted_once(tmp_path):
    with pytest.raises(UsageError, match="before"), PredictionWriter(tmp_path) as writer:  # noqa: PT012
        writer.add("a", None, 1.0)
        writer.add("a", None, 2.0)


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../../b", "", "a\\b"])
def test_ids_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(UsageError), PredictionWriter(tmp_path / "out") as writer:
        writer.add(name, np.zeros((2, 2)), 0.0)
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_png_maps_may_leave_their_scale_to_the_writer(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    with PredictionWriter(tmp_path, map_format="png16") as writer:
        for name, anomaly_map in zip("ab", values, strict=True):
            writer.add(name, anomaly_map, 1.0)
    folder = PredictionFolder(tmp_path)
    assert {path.suffix for path in folder.maps.values()} == {".png"}
    for name, anomaly_map in zip("ab", values, strict=True):
        np.testing.assert_allclose(folder[name], anomaly_map, atol=np.ptp(values) / 65535)


def test_all_rows_of_the_table_have_the_columns_of_the_first(tmp_path):
    with PredictionWriter(tmp_path) as writer:
        writer.add("a", None, 1.0, decision="ok")
        with pytest.raises(UsageError, match="columns"):
            writer.add("b", None, 2.0, verdict="ok")
        writer.add("b", None, 2.0, decision="no")
    assert writer.count == 2
    assert (tmp_path / "scores.csv").read_text() == "id,score,decision\na,1.0,ok\nb,2.0,no\n"


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
