"""A run with tiles as one file: the map, score and decision of ``Predictor``, seams included."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import SMALL

from cfrg.export import tiles
from cfrg.export.tiles import TiledGraph, longest_side
from cfrg.export.writing import export_run
from cfrg.images.tiling import Tiling
from cfrg.inference.predictor import Predictor
from cfrg.network.config import CFRGConfig
from cfrg.network.interest import encode_region, stretch_region
from cfrg.network.model import CFRG
from cfrg.network.processing import smooth
from cfrg.runtimes.sessions import open_session
from threecad.errors import ModelError, UsageError
from threecad.system import atomic

TILE, OVERLAP = 96, 32
SIZES = [(50, 40), (1, 1), (96, 96), (97, 96), (70, 333), (289, 191), (200, 300)]
"""Less than a tile, one, and more, none of them a multiple."""


@pytest.fixture(scope="module")
def model() -> CFRG:
    torch.manual_seed(0)
    config = CFRGConfig.preset(
        "lite",
        image_size=64,
        tile=TILE,
        tile_overlap=OVERLAP,
        **SMALL,
    )
    return CFRG(config).eval()


@pytest.fixture(scope="module")
def run(model: CFRG, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model.save_pretrained(folder)
    return folder


def noise(height: int, width: int) -> Any:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def agrees(found: Any, model: Any, image: Any, what: str = "") -> None:
    expected = next(Predictor(model, device="cpu").predict([image]))
    assert expected.map is not None
    assert found[0][0].shape == expected.map.shape, what
    tolerance = 1e-4 * max(float(np.ptp(expected.map)), 1.0)
    np.testing.assert_allclose(found[0][0], expected.map, atol=tolerance, err_msg=what)
    assert float(found[1][0]) == pytest.approx(expected.score, abs=tolerance)


class Brightness(torch.nn.Module):
    """A network that says what it sees, so that a pixel out of place shows."""

    def __init__(self, config: CFRGConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: torch.Tensor) -> Any:
        return SimpleNamespace(anomaly_map=image.mean(1, keepdim=True))

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        return smooth(self(image).anomaly_map, self.config)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    tile=st.integers(20, 200),
    share=st.floats(0, 0.8),
)
def test_the_graph_cuts_and_blends_as_the_predictor_does(
    size: tuple[int, int], tile: int, share: float
) -> None:
    config = CFRGConfig(image_size=(64, 96), tile=tile, tile_overlap=int(share * tile))
    detector: Any = Brightness(config)
    image = noise(*size)
    with torch.inference_mode():
        found = TiledGraph(detector, None)(torch.from_numpy(image)[None])
    agrees([output.numpy() for output in found], detector, image)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "torch-export"])
def test_one_file_takes_images_of_any_size(run: Path, model: CFRG, tmp_path: Path, to: Any) -> None:
    for package in {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["openvino"]}.get(to, []):
        if find_spec(package) is None:
            pytest.skip(f"not installed: {package}")
    suffix = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}[to]
    report = export_run(run, to, out=tmp_path / f"model{suffix}", limit=2)
    assert report.input_size is None
    assert report.parity.images == 2 + 3  # and sizes round a tile
    session = open_session(report.path)
    for size in SIZES:
        image = noise(*size)
        agrees(session.run(image[None]), model, image, f"{to} {size}")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_one_file_looks_at_the_region_alone(
    run: Path, model: CFRG, tmp_path: Path, to: Any
) -> None:
    if to == "onnx" and (find_spec("onnxscript") is None or find_spec("onnxruntime") is None):
        pytest.skip("not installed: onnxscript, onnxruntime")
    inside = np.zeros((60, 80), bool)
    inside[10:40, 20:50] = True
    within = shutil.copytree(run, tmp_path / "within")
    config = replace(model.config, region=encode_region(inside))
    atomic.write_json(within / "config.json", config.to_dict())
    suffix = {"onnx": ".onnx", "torch-export": ".pt2"}[to]
    report = export_run(within, to, out=tmp_path / f"model{suffix}", limit=2)
    session = open_session(report.path)
    image = noise(180, 240)
    found = session.run(image[None])
    agrees(found, CFRG.from_pretrained(within).eval(), image)
    outside = ~stretch_region(config.region, found[0][0].shape)
    assert found[0][0][outside].max() < found[0][0][~outside].min()


@pytest.mark.slow
def test_a_seam_is_found_by_the_gate(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "squared_sine", lambda side: np.ones(side))
    with pytest.raises(ModelError, match="does not compute what the model computes"):
        export_run(run, "torch-export", out=tmp_path / "seams.pt2", limit=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8", "images": "."}, "float32 or float16"),
        ({"input_size": (64, 20_000)}, "at most 16,384"),
    ],
)
def test_what_the_graph_of_tiles_cannot_be_is_refused(
    run: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_run(run, "onnx", out=tmp_path / "x.onnx", **options)


def test_sides_end_where_whole_numbers_of_32_bits_do() -> None:
    for tiling in (Tiling((64, 64), 96), Tiling((128, 64), 32)):
        most = longest_side(tiling)
        for side in tiling.image_size:
            assert 2 * most * (most * side // tiling.tile + 1) < 2**31
