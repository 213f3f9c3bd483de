"""Corrected annotations of a tree's images come back as errata of the tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_lines import run_line
from PIL import Image

from threecad import scan
from threecad.dataset.samples import Sample, read_sample_mask
from threecad.formats.suggestions import Suggestion, SuggestionWriter
from threecad.images.encodings import mask_to_polygons
from threecad.images.files import read_size

CATEGORY = "Copper_Stator"
SQUARE = (4.0, 4.0, 24.0, 4.0, 24.0, 24.0, 4.0, 24.0)


def mask_of(sample: Sample) -> Any:
    return read_sample_mask(sample, read_size(sample.image))


def outlines(mask: Any) -> list[Suggestion]:
    """The exact outlines, holes filled."""
    rings = [part.exterior for region in mask_to_polygons(mask) for part in region.geoms]
    return [Suggestion(tuple(float(v) for xy in r.coords[:-1] for v in xy), 1.0) for r in rings]


@pytest.fixture(scope="module")
def test_images(sample_tree: Path) -> list[Sample]:
    return list(scan(sample_tree, categories=[CATEGORY]).select(split="test"))


def annotate(folder: Path, samples: list[Sample], changed: dict[str, list[Suggestion]]) -> Path:
    """What a person saved: the true outlines but where they were changed."""
    writer = SuggestionWriter(folder, "coco")
    for sample in samples:
        truth = outlines(mask_of(sample)) if sample.label else []
        writer.add(sample.id, sample.image, changed.get(sample.id, truth))
    writer.write()
    return folder


def test_nothing_changed_is_no_erratum(
    sample_tree: Path, test_images: list[Sample], tmp_path: Path
) -> None:
    folder = annotate(tmp_path / "annotations", test_images, {})
    out = tmp_path / "errata.json"
    said = run_line(f"threecad import {folder} {out} --errata-for {sample_tree}")
    assert said.exit_code == 0, said.output
    assert json.loads(out.read_text())["entries"] == []


def test_what_people_changed_becomes_errata(
    sample_tree: Path, test_images: list[Sample], tmp_path: Path
) -> None:
    good = next(sample for sample in test_images if not sample.label)
    defective = [sample for sample in test_images if sample.label]
    cleared, redrawn = defective[:2]
    square = [Suggestion(SQUARE, 1.0)]
    changed = {good.id: square, cleared.id: [], redrawn.id: square}
    folder = annotate(tmp_path / "annotations", test_images, changed)
    out = tmp_path / "errata.json"
    said = run_line(f"threecad import {folder} {out} --errata-for {sample_tree}")
    assert said.exit_code == 0, said.output
    assert f"{good.id}: relabel" in said.output
    before = scan(sample_tree, categories=[CATEGORY])
    after = scan(sample_tree, categories=[CATEGORY], errata=out)
    kinds = {e["id"]: e["action"] for e in json.loads(out.read_text())["entries"]}
    assert kinds == {good.id: "relabel", cleared.id: "relabel", redrawn.id: "replace-mask"}
    assert after[good.id].label == 1
    assert after[cleared.id].label == 0
    for sample_id in (good.id, redrawn.id):
        expected = np.zeros(read_size(after[sample_id].image), bool)
        expected[4:24, 4:24] = True
        assert (mask_of(after[sample_id]) == expected).all()
    untouched = [s.id for s in before if s.id not in kinds]
    assert all(after[name] == before[name] for name in untouched)


def test_images_of_another_tree_are_named(sample_tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(image)
    writer = SuggestionWriter(tmp_path / "annotations", "coco")
    writer.add("line/7", image, [Suggestion(SQUARE, 1.0)])
    writer.write()
    line = f"threecad import {tmp_path}/annotations {tmp_path}/e.json --errata-for {sample_tree}"
    refused = run_line(line)
    assert refused.exit_code != 0
    assert "line__7" in refused.output
    assert not (tmp_path / "e.json").exists()
    assert run_line(line.replace("e.json", "folder")).exit_code != 0
