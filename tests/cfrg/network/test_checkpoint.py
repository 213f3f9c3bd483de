"""The authors' checkpoints: converted strictly, without running code, to the same numbers."""

from __future__ import annotations

import argparse
import collections
import math
import os
import pickle
import re
from pathlib import Path

import pytest
import reference_network
import torch
from safetensors.torch import save_file
from scipy import ndimage

from cfrg.network.authors_checkpoint import import_checkpoint
from cfrg.network.model import CFRG
from threecad.errors import ModelError

POOL = 10_000_000  # more numbers than the largest weight has


def fabricate(seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint's state with random values and a lively signal in every layer.

    The weights are windows on one pool of numbers, so that the file is small: torch stores a
    shared storage once. The statistics of the batch normalisations are those of a noise image.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = 0.05 * torch.randn(POOL, generator=generator)
    state: dict[str, torch.Tensor] = {}
    for key, shape in reference_network.keys_and_shapes():
        count = math.prod(shape)
        if key.endswith("num_batches_tracked"):
            value = torch.tensor(17)
        elif key.endswith("running_var"):
            value = torch.ones(shape)
        elif len(shape) == 1 and key.endswith("weight"):
            # Weak residual branches, as training leaves them: strong ones amplify rounding.
            scale = 0.1 if re.search(r"\d\.bn3\.", key) else 1.0
            value = scale * (0.5 + torch.rand(shape, generator=generator))
        elif len(shape) == 1:
            value = 0.2 * torch.randn(shape, generator=generator)
        else:
            start = int(torch.randint(POOL - count, (1,), generator=generator))
            value = pool[start : start + count].view(shape)
        state[key] = 0.2 * value if key.startswith("segment.conv_final") else value

    def normalise(sd: dict[str, torch.Tensor], name: str, x: torch.Tensor, eps: float = 1e-5):  # type: ignore[no-untyped-def]
        sd[f"{name}.running_mean"] = x.mean((0, 2, 3))
        # Not the variance alone: where the mean is far larger, rounding would be blown up.
        sd[f"{name}.running_var"] = x.var((0, 2, 3), correction=0) + x.square().mean()
        return batch_norm(sd, name, x, eps)

    batch_norm = reference_network.batch_norm
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(reference_network, "batch_norm", normalise)
        reference_network.detect(state, torch.randn(2, 3, 64, 96, generator=generator))
    return {key: value.clone() if value.is_inference() else value for key, value in state.items()}


def wrap(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """What the authors' training saves round the state."""
    return {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-4}]},
        "lr_scheduler": {"milestones": collections.Counter([40.0, 45.0]), "gamma": 0.2},
        "epoch": 49,
        "args": argparse.Namespace(data_name="3CAD", lr=5e-4, image_size=256),
        "scaler": {"scale": 65536.0},
    }


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return fabricate()


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authors") / "model_Copper_Stator.pth"
    torch.save(wrap(state), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> CFRG:
    return import_checkpoint(checkpoint).model


@pytest.mark.parametrize("size", [(64, 96), pytest.param((256, 256), marks=pytest.mark.slow)])
def test_converted_checkpoint_gives_the_reference_numbers(
    state: dict[str, torch.Tensor], model: CFRG, size: tuple[int, int]
) -> None:
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = reference_network.detect(state, image)
        output = model(image)
        maps, scores = model.predict(image)
    levels = zip(
        [*output.teacher, *output.student, *output.recovery],
        [*expected.teacher, *expected.student, *expected.recovery],
        strict=True,
    )
    for ours, theirs in levels:
        assert theirs.std() > 0.1, "nothing to compare"
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    assert expected.anomaly_map.std() > 0.01
    assert expected.logits.std() > 0.01
    torch.testing.assert_close(output.anomaly_map, expected.anomaly_map, atol=5e-6, rtol=0)
    torch.testing.assert_close(output.logits, expected.logits, atol=5e-6, rtol=0)
    smoothed = [ndimage.gaussian_filter(m[0], sigma=4) for m in expected.anomaly_map.numpy()]
    for ours, theirs in zip(maps[:, 0].numpy(), smoothed, strict=True):
        assert abs(ours - theirs).max() < 5e-6
    assert scores.tolist() == pytest.approx([float(m.max()) for m in smoothed], abs=5e-6)


def test_key_list_is_the_published_one() -> None:
    data = os.environ.get("THREECAD_TEST_DATA")
    if not data:
        pytest.skip("THREECAD_TEST_DATA is not set")
    import json

    path = Path(data) / "reference_state_dict_keys.json"
    published = {key: tuple(shape) for key, shape in json.loads(path.read_text())}
    assert dict(reference_network.keys_and_shapes()) == published


def test_what_is_dropped_is_said(checkpoint: Path) -> None:
    imported = import_checkpoint(checkpoint)
    dropped = [key for keys in imported.dropped.values() for key in keys]
    assert all(imported.dropped.values())
    used = sum(1 for _ in imported.model.state_dict())
    assert len(dropped) + used == sum(1 for _ in reference_network.keys_and_shapes())
    assert "teacher.fc.bias" in dropped
    assert not any("layer3" in key for key in dropped)
    assert imported.epoch == 49
    assert imported.arguments["data_name"] == "3CAD"


@pytest.mark.parametrize(
    "kind",
    ["bare.pth", "wrapped.pth", pytest.param("bare.safetensors", marks=pytest.mark.slow)],
)
def test_bare_state_dict_is_accepted(
    state: dict[str, torch.Tensor], model: CFRG, tmp_path: Path, kind: str
) -> None:
    small = {
        key: value if value.numel() < 5000 else torch.zeros(()).expand(value.shape)
        for key, value in state.items()
    }
    path = tmp_path / kind
    if kind.endswith("safetensors"):
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save({"model": small} if kind.startswith("wrapped") else small, path)
    imported = import_checkpoint(path).model
    bias = "unet.up1.up.bias"
    assert torch.equal(imported.state_dict()[bias], model.state_dict()[bias])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "missing: fusion.level1.0.weight"),
        ("extra", "not known: decoder.layers.0.9.body.0.weight"),
        ("foreign", "not known: classifier.weight"),
        ("shape", r"unet.head.weight is \(2, 64, 3, 3\), expected \(1, 64, 3, 3\)"),
    ],
)
def test_every_key_and_shape_must_fit(tmp_path: Path, change: str, message: str) -> None:
    state = {
        key: torch.zeros(()).expand(shape) for key, shape in reference_network.keys_and_shapes()
    }
    if change == "missing":
        del state["bn.conv1.weight"]
    elif change == "extra":
        state["decoder.layer1.9.conv1.weight"] = torch.zeros(1)
    elif change == "foreign":
        state["classifier.weight"] = torch.zeros(1)
    else:
        state["segment.conv_final.0.weight"] = torch.zeros(2, 64, 3, 3)
    torch.save({"model": state}, path := tmp_path / "model.pth")
    with pytest.raises(ModelError, match=message):
        import_checkpoint(path)


class Evil:
    """What an attacker puts in a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_code_of_the_file_runs(tmp_path: Path, legacy: bool) -> None:
    path, target = tmp_path / "model.pth", tmp_path / "owned"
    content = {"model": {}, "args": Evil(target)}
    if legacy:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match="could run code"):
        import_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint"),
        (b"PK\x03\x04 cut short", "not a checkpoint"),
        (b"\x80\x02garbage", "model.pth"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(path)


def test_cut_short_checkpoint_is_named(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(checkpoint.read_bytes()[: 1 << 20])
    with pytest.raises(ModelError, match=r"model\.pth"):
        import_checkpoint(path)


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], path := tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list"):
        import_checkpoint(path)
    torch.save({"weights": 3}, path)
    with pytest.raises(ModelError, match="expected a state dict"):
        import_checkpoint(path)
    with pytest.raises(ModelError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth")
