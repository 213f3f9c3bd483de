from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st

from threecad import ThreeCAD, scan, stats
from threecad.dataset.errata import Errata, Erratum, apply_errata, read_errata
from threecad.dataset.splitting import split
from threecad.errors import DataError
from threecad.evaluation.pipeline import evaluate
from threecad.evaluation.predictions import PredictionWriter

DENT = "Widget/test/Dent/001"
GOOD = "Widget/test/good/002"


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    return trees.write_tree(tmp_path / "data")


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"schema": "threecad.errata/1", "entries": entries}))
    return path


def exclude(sample_id: str) -> dict[str, Any]:
    return {"id": sample_id, "action": "exclude", "reason": "because"}


def test_an_excluded_sample_is_gone(widgets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", exclude(DENT))
    whole, corrected = scan(widgets), scan(widgets, errata=path)
    assert {s.id for s in whole} - {s.id for s in corrected} == {DENT}
    assert whole.errata_digest is None
    assert corrected.errata_digest == read_errata(path).digest
    assert len(ThreeCAD(widgets, errata=path)) == len(whole) - 1


def test_relabelled_to_good(widgets: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.json",
        {"id": DENT, "action": "relabel", "defect_type": "good", "reason": "no dent"},
    )
    sample = scan(widgets, errata=path)[DENT]
    assert (sample.label, sample.defect_type, sample.defect_types, sample.mask) == (
        0, "good", (), None,
    )  # fmt: skip


def test_relabelled_to_another_type(widgets: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.json",
        {"id": DENT, "action": "relabel", "defect_type": "Scratch", "reason": "a scratch"},
    )
    before, after = scan(widgets)[DENT], scan(widgets, errata=path)[DENT]
    assert (after.defect_type, after.defect_types, after.label) == ("Scratch", ("Scratch",), 1)
    assert after.mask == before.mask


def test_a_good_image_becomes_defective_with_a_mask(widgets: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    trees.square_mask(side=3).save(tmp_path / "new/mask.png")
    path = write(
        tmp_path / "e.json",
        {
            "id": GOOD,
            "action": "relabel",
            "defect_type": "Dent",
            "mask": "new/mask.png",
            "reason": "there is a dent",
        },
    )
    dataset = ThreeCAD(widgets, errata=path)
    item = next(item for item in dataset if item["id"] == GOOD)
    assert (item["label"], item["defect_type"], int(item["mask"].sum())) == (1, "Dent", 9)


def test_a_replaced_mask_is_read(widgets: Path, tmp_path: Path) -> None:
    trees.square_mask(side=5).save(tmp_path / "mask.png")
    path = write(
        tmp_path / "e.json",
        {
            "id": DENT,
            "action": "replace-mask",
            "mask": "mask.png",
            "defect_types": ["Dent", "Scratch"],
            "reason": "incomplete",
        },
    )
    assert scan(widgets, errata=path)[DENT].defect_types == ("Dent", "Scratch")
    item = next(item for item in ThreeCAD(widgets, errata=path) if item["id"] == DENT)
    assert int(item["mask"].sum()) == 25


def test_a_finding_that_is_corrected_is_dropped(widgets: Path, tmp_path: Path) -> None:
    trees.corrupt_drop_mask(widgets, DENT)
    path = write(tmp_path / "e.json", exclude(DENT))
    assert [finding.code for finding in scan(widgets).findings] == ["mask-missing"]
    assert scan(widgets, errata=path).findings == ()


def test_it_goes_together_with_a_split_of_the_whole(widgets: Path, tmp_path: Path) -> None:
    split(scan(widgets), "official", workers=0).save(tmp_path / "s.csv")
    path = write(tmp_path / "e.json", exclude(DENT))
    index = scan(widgets, errata=path, split_file=tmp_path / "s.csv")
    assert DENT not in index
    assert len(index) == len(scan(widgets)) - 1


def test_a_split_of_corrected_data_records_the_digest(widgets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", exclude(DENT))
    assert split(scan(widgets), "official").options == {}
    corrected = split(scan(widgets, errata=path), "official")
    assert corrected.options == {"errata": read_errata(path).digest}


def test_figures_and_statistics_record_the_digest(widgets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", exclude(DENT))
    digest = read_errata(path).digest
    with PredictionWriter(tmp_path / "predictions") as writer:
        for number, sample in enumerate(scan(widgets).select(split="test")):
            writer.add(sample.id, np.full((8, 8), number, np.float32), float(number))
    for errata, expected in ((None, None), (path, digest)):
        index = scan(widgets, errata=errata)
        assert stats(index, workers=0).to_dict()["errata"] == expected
        found = evaluate(index, tmp_path / "predictions")  # the same, with and without
        assert found.to_dict()["provenance"]["errata"] == expected


def test_excluded_images_are_not_predicted(widgets: Path, tmp_path: Path) -> None:
    from cfrg.images.sources import find_images

    path = write(tmp_path / "e.json", exclude(DENT))
    whole, corrected = (dict(find_images([widgets], errata=file)) for file in (None, path))
    assert set(whole) - set(corrected) == {DENT}


def test_the_digest_depends_on_content_and_not_on_layout(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", exclude(DENT), exclude(GOOD))
    second = tmp_path / "b.json"
    second.write_text(
        json.dumps(
            {"entries": [exclude(GOOD), exclude(DENT)], "schema": "threecad.errata/1"}, indent=9
        )
    )
    assert read_errata(first).digest == read_errata(second).digest
    assert read_errata(write(second, exclude(GOOD))).digest != read_errata(first).digest


def test_the_digest_covers_the_new_masks(tmp_path: Path) -> None:
    entry = {"id": DENT, "action": "replace-mask", "mask": "m.png", "reason": "x"}
    digests = set()
    for side in (3, 4):
        trees.square_mask(side=side).save(tmp_path / "m.png")
        digests.add(read_errata(write(tmp_path / "e.json", entry)).digest)
    assert len(digests) == 2


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from(["exclude", "relabel"]), NAMES), max_size=6)
)
def test_what_is_saved_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, tuple[Any, str]]
) -> None:
    entries = tuple(
        Erratum(
            f"Widget/test/Dent/{name}",
            action,
            reason,
            defect_type="Dent" if action == "relabel" else None,
        )
        for name, (action, reason) in sorted(content.items())
    )
    path = tmp_path_factory.mktemp("errata") / "e.json"
    errata = Errata(entries, path.parent)
    errata.save(path)
    assert read_errata(path) == errata


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("text", "entry 1 is not an object"),
        ({"action": "exclude", "reason": "x"}, 'entry 1 has no "id"'),
        ({"id": DENT, "action": "exclude"}, 'has no "reason"'),
        ({"id": "001", "action": "exclude", "reason": "x"}, "is not <Category>"),
        ({"id": DENT, "action": "delete", "reason": "x"}, "none of exclude, relabel, replace-mask"),
        ({"id": DENT, "action": "relabel", "reason": "x"}, 'has no "defect_type"'),
        ({"id": DENT, "action": "replace-mask", "reason": "x"}, 'has no "mask"'),
        ({**exclude(DENT), "mask": "m.png"}, "means nothing here"),
        ({"id": DENT, "action": "relabel", "defect_type": 3, "reason": "x"}, "is not a text"),
        (
            {
                "id": DENT,
                "action": "relabel",
                "defect_type": "a",
                "defect_types": "a",
                "reason": "x",
            },
            "not a list of names",
        ),
        (
            {"id": DENT, "action": "replace-mask", "mask": "none.png", "reason": "x"},
            "there is no mask",
        ),
        ({"id": DENT, "action": "replace-mask", "mask": "/etc/m.png", "reason": "x"}, "not below"),
        ({"id": DENT, "action": "replace-mask", "mask": "../m.png", "reason": "x"}, "not below"),
        ({"id": DENT, "action": "replace-mask", "mask": "C:\\m.png", "reason": "x"}, "not below"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(DataError, match="is not an errata file") as caught:
        read_errata(write(tmp_path / "e.json", entry))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other"}', "\xff", '{"schema": '])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "e.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="is not an errata file"):
        read_errata(path)


def test_two_entries_for_one_sample_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two entries"):
        read_errata(write(tmp_path / "e.json", exclude(DENT), exclude(DENT)))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no errata file"):
        read_errata(tmp_path / "e.json")


def test_unknown_samples_are_counted_and_named(widgets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", exclude(DENT), exclude("Widget/test/Dent/x"))
    with pytest.raises(DataError, match=r"name 1 sample\(s\) .* such as Widget/test/Dent/x"):
        scan(widgets, errata=path)


def test_other_categories_are_passed_over(widgets: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", exclude("Gadget/test/Dent/001"))
    assert len(apply_errata(scan(widgets), read_errata(path))) == len(scan(widgets))
