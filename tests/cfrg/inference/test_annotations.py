"""Predictions as annotations to start from, corrected by a person, and back as masks."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from command_lines import run_line
from PIL import Image

from cfrg.inference.folder import FolderWriter
from cfrg.inference.outlines import outline_regions
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.prediction import Prediction
from threecad import scan
from threecad.dataset.samples import read_sample_mask
from threecad.errors import UsageError
from threecad.formats.suggestions import TOOLS, Suggestion, SuggestionWriter, Tool
from threecad.images.files import read_size

SIZE = (90, 120)


def _predict(folder: Path, tool: Tool) -> tuple[Path, npt.NDArray[np.bool_]]:
    """Write predictions of three photographs: defective, good, and one that viewers would turn."""
    anomaly_map = np.zeros((45, 60), np.float32)
    anomaly_map[10:20, 12:30] = 4.0
    anomaly_map[30:36, 40:44] = 3.0
    rng = np.random.default_rng(0)
    out = folder / "found"
    with FolderWriter(out, annotations=tool, policy=DecisionPolicy(pixel_threshold=2.0)) as writer:
        for name, values in (
            ("line/1", anomaly_map),
            ("line/2", 0 * anomaly_map),
            ("3", anomaly_map),
        ):
            image = folder / f"{name.replace('/', '-')}.jpg"
            exif = Image.Exif()
            if name == "3":
                exif[0x0112] = 6
            pixels = rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(image, exif=exif)
            writer.add(Prediction(name, values, float(values.max()), size=SIZE), image)
    flagged = np.zeros(SIZE, np.bool_)
    flagged[20:40, 24:60] = flagged[60:72, 80:88] = True
    return out / "annotations", flagged


def _correct(folder: Path, tool: Tool) -> None:
    """Do what a person does: remove the weaker region everywhere, and save or export."""
    if tool == "coco":
        path = folder / "annotations.json"
        content = json.loads(path.read_text())
        content["annotations"] = [a for a in content["annotations"] if a["score"] > 3.5]
        path.write_text(json.dumps(content))
    elif tool == "labelme":
        for path in folder.glob("images/*.json"):
            content = json.loads(path.read_text())
            content["shapes"] = [s for s in content["shapes"] if s["score"] > 3.5]
            path.write_text(json.dumps(content))
    elif tool == "label-studio":  # an accepted prediction becomes an annotation in the export
        path = folder / "tasks.json"
        tasks = json.loads(path.read_text())
        for task in tasks:
            result = copy.deepcopy(task["predictions"][0]["result"])
            kept = [r for r in result if r["score"] > 3.5]
            task["annotations"] = [{"id": 1, "was_cancelled": False, "result": kept}]
        path.write_text(json.dumps(tasks))
    else:
        path = folder / "annotations.xml"
        tree = ET.parse(path)
        for image in tree.getroot().findall("image"):
            for shape in image.findall("polygon"):
                if float(shape.findtext("attribute") or 0) < 3.5:
                    image.remove(shape)
        tree.write(path)


@pytest.mark.parametrize("tool", TOOLS)
def test_corrected_annotations_come_back_as_masks(tool: Tool, tmp_path: Path) -> None:
    folder, flagged = _predict(tmp_path, tool)
    _correct(folder, tool)
    result = run_line(f"threecad import {folder} {tmp_path}/tree --from {tool} --category Part")
    assert result.exit_code == 0, result.output
    index = scan(tmp_path / "tree")
    types = {sample.id: sample.defect_type for sample in index}
    assert types == {
        "Part/test/defect/line__1": "defect",
        "Part/train/good/line__2": "good",
        "Part/test/defect/3": "defect",
    }
    flagged[60:] = False  # what the person removed
    for sample in index.select(label=1):
        mask = read_sample_mask(sample, SIZE)
        assert (mask & flagged).sum() / (mask | flagged).sum() > 0.9


def test_a_prediction_nobody_looked_at_is_no_annotation(tmp_path: Path) -> None:
    folder, _ = _predict(tmp_path, "label-studio")
    tasks = json.loads((folder / "tasks.json").read_text())
    assert not any("annotations" in task for task in tasks)
    assert tasks[0]["predictions"][0]["score"] == 4.0


@pytest.mark.parametrize("tool", TOOLS)
def test_scores_stand_beside_the_outlines(tool: Tool, tmp_path: Path) -> None:
    folder, _ = _predict(tmp_path, tool)
    written = "".join(
        path.read_text() for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".xml")
    )
    assert "4" in written
    assert "score" in written
    assert (folder / "images" / "3.png").is_file()  # as stored, since viewers would turn it
    assert read_size(folder / "images" / "3.png") == SIZE


def test_names_never_meet(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    writer = SuggestionWriter(tmp_path / "out", "coco")
    for name in ("a/b", "a__b", "A/b"):
        writer.add(name, image, [Suggestion((0.0, 0.0, 4.0, 0.0, 4.0, 4.0), 1.0)])
    writer.write()
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    names = [entry["file_name"].casefold() for entry in content["images"]]
    assert len(set(names)) == 3
    assert content["annotations"][0]["area"] == 8.0


def test_outlines_need_a_threshold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threshold"):
        FolderWriter(tmp_path / "out", annotations="coco")
    assert outline_regions(np.zeros((4, 4), np.float32), (8, 8), 1.0) == []


def test_command_writes_them(prepared_folder: Path, tmp_path: Path) -> None:
    result = run_line(
        f"cfrg predict {prepared_folder}/run {prepared_folder}/3cad --category Copper_Stator "
        f"--threshold 0 --pixel-threshold 0 --annotations cvat --device cpu --out {tmp_path}/found"
    )
    assert result.exit_code == 0, result.output
    names = {p.name for p in (tmp_path / "found" / "annotations").iterdir()}
    assert names == {"annotations.xml", "labels.json", "images"}
