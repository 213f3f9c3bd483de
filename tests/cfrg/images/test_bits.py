"""A run that takes a camera's 12 bits sees what a run on the same images of 8 bits sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import SMALL
from torch.utils.data import Dataset

from cfrg.export.graph import DetectionGraph
from cfrg.images.cache import ImageCache
from cfrg.images.tiling import Tiling
from cfrg.inference.predictor import Predictor
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from threecad.errors import ModelError

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def model() -> CFRG:
    torch.manual_seed(0)
    config = CFRGConfig.preset(
        "lite",
        image_size=64,
        **SMALL,
    )
    return CFRG(config).eval()


class Paths(Dataset[dict[str, Any]]):
    """A dataset of files."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {"path": self.files[position]}


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The same picture of 8 bits, and of 12 with noise below them."""
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    below = rng.integers(0, 16, eight.shape, dtype=np.uint16)
    return eight, eight.astype(np.uint16) << 4 | below


def test_twelve_bits_answer_as_their_upper_eight(model: CFRG, tmp_path: Path) -> None:
    eight, twelve = photographs()
    cv2.imwrite(str(tmp_path / "deep.png"), twelve[..., ::-1])
    (expected,) = Predictor(model, device="cpu").predict([eight])
    plain = model.config
    model.config = replace(plain, bits=12)
    try:
        predictor = Predictor(model, device="cpu")
        found = list(predictor.predict([twelve, tmp_path / "deep.png", eight]))
        graph = DetectionGraph(model, None, input_size=(70, 90))
        with torch.inference_mode():
            exported, _ = graph(torch.from_numpy(twelve)[None])
        cache = ImageCache(
            Paths([tmp_path / "deep.png"]),
            Tiling.from_config(model.config),
            folder=tmp_path / "cache",
        )
    finally:
        model.config = plain
    assert expected.map is not None
    for prediction in found[:2]:
        np.testing.assert_allclose(prediction.map, expected.map, atol=1e-5)
    assert found[2].error is not None
    assert "takes 12 bits" in found[2].error
    np.testing.assert_allclose(exported[0], expected.map, atol=1e-5)
    np.testing.assert_array_equal(cache[0], Tiling((64, 64)).place(eight))


def test_bits_are_from_8_to_16() -> None:
    assert CFRGConfig().bits == 8
    for wrong in (7, 17, 12.0, True):
        with pytest.raises(ModelError, match="bits is"):
            CFRGConfig.from_dict({"bits": wrong})


def test_bits_are_found_and_their_lack_is_said(tmp_path: Path, sample_tree: Path) -> None:
    from cfrg import TrainingOptions
    from cfrg.network.pretrained import read_config
    from cfrg.training.runs import train
    from threecad import scan
    from threecad.images.files import read_image

    root = tmp_path / "tree"
    for sample in scan(sample_tree).select(category="Copper_Stator", split="train", label=0):
        target = root / sample.image.relative_to(sample_tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), read_image(sample.image)[..., ::-1].astype(np.uint16) << 4)
    said: list[str] = []

    def start(name: str, **options: Any) -> int:
        train(
            root,
            tmp_path / name,
            category="Copper_Stator",
            config=CFRGConfig.preset("memory", memory=50),
            options=TrainingOptions.preset("memory", area=64**2, device="cpu", **options),
            say=said.append,
        )
        return read_config(tmp_path / name).bits

    assert start("dark") == 8
    assert any("use 12 of them" in line for line in said)
    said.clear()
    assert start("found", find_bits=True) == 12
    assert any(line.startswith("Bits 12") for line in said)
