"""Transformers as teachers: three levels of any image, published files of either make."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from cfrg.teachers.backbones import TEACHERS, load_teacher
from cfrg.teachers.vision_transformer import VisionTransformer, translate_dinov2, translate_dinov3
from threecad.errors import ModelError

timm = pytest.importorskip("timm")

SMALL = ("dinov2_s", "dinov3_s")


def randomized(module: torch.nn.Module) -> torch.nn.Module:
    """The module with weights that all matter: timm begins with LayerScale near zero."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        scale = 0.5 if name.endswith("gamma") or "gamma_" in name else 0.05
        torch.nn.init.normal_(parameter, std=scale)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=SMALL)
def teacher(request: pytest.FixtureRequest) -> VisionTransformer:
    return randomized(TEACHERS[request.param].build())


@torch.no_grad()
def test_levels_follow_the_stated_rule(teacher: VisionTransformer) -> None:
    """One block after the other; 64 / 14 is nearest to 5, 96 / 14 to 7."""
    inner = teacher.transformer
    patch = inner.patch_embed.patch_size[0]
    image = torch.randn(2, 3, 64, 96)
    size = {14: (70, 98), 16: (64, 96)}[patch]
    fitted = F.interpolate(image, size, mode="bilinear")
    rows, columns = (side // patch for side in fitted.shape[-2:])
    grids: list[Tensor] = []

    def keep(module: object, inputs: object, tokens: Tensor) -> None:
        normed = inner.norm(tokens)[:, inner.num_prefix_tokens :]
        grids.append(normed.transpose(1, 2).unflatten(2, (rows, columns)))

    hooks = [inner.blocks[number - 1].register_forward_hook(keep) for number in (4, 8, 12)]
    inner.forward_features(fitted)
    for hook in hooks:
        hook.remove()
    for level, grid, stride in zip(teacher(image), grids, (4, 8, 16), strict=True):
        size = (64 // stride, 96 // stride)
        expected = F.interpolate(grid, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=12)
@given(height=st.integers(1, 7), width=st.integers(1, 7))
@torch.no_grad()
def test_any_size_that_the_model_pads_to_gives_whole_levels(height: int, width: int) -> None:
    teacher = VisionTransformer("vit_tiny_patch16_224", img_size=64, patch_size=14)
    levels = teacher.eval()(torch.zeros(1, 3, 32 * height, 32 * width))
    shapes = [tuple(level.shape[-2:]) for level in levels]
    assert shapes == [(32 * height // s, 32 * width // s) for s in (4, 8, 16)]
    assert all(torch.isfinite(level).all() for level in levels)


@torch.no_grad()
def test_what_moves_in_the_image_moves_in_the_levels(teacher: VisionTransformer) -> None:
    """The grid of tokens covers the image: a spot shows where it is, at every level."""
    image = torch.zeros(1, 3, 224, 320)
    spotted = image.clone()
    spotted[..., 160:192, 224:256] = 3.0
    for level, plain, stride in zip(teacher(spotted), teacher(image), (4, 8, 16), strict=True):
        changed = (level - plain).norm(dim=1)[0]
        row, column = divmod(int(changed.argmax()), changed.shape[1])
        assert 160 - 16 <= stride * (row + 0.5) <= 192 + 16
        assert 224 - 16 <= stride * (column + 0.5) <= 256 + 16


@torch.no_grad()
def test_a_fixed_size_gives_the_same_levels(teacher: VisionTransformer) -> None:
    image = torch.randn(1, 3, 96, 160)
    expected = teacher(image)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    fixed = deepcopy(teacher)
    fixed.fix_size(96, 160)
    for level, other in zip(fixed(image), expected, strict=True):
        torch.testing.assert_close(level, other, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def metas(name: str, module: VisionTransformer) -> dict[str, Tensor]:
    """What Meta's file of this network would hold, by its names."""
    state = module.transformer.state_dict()
    if name.startswith("dinov2"):
        return {**state, "mask_token": torch.randn(1, 384)}
    renamed: dict[str, Tensor] = {
        "mask_token": torch.randn(1, 384),
        "rope_embed.periods": torch.rand(16),
    }
    for key, value in state.items():
        if key.endswith("v_bias"):
            continue
        if key.endswith("q_bias"):
            stem = key.removesuffix("q_bias")
            keys = torch.full_like(value, 7.0)  # hidden by the mask
            parts = (value, keys, state[f"{stem}v_bias"])
            renamed[f"{stem}qkv.bias"] = torch.cat(parts)
            renamed[f"{stem}qkv.bias_mask"] = torch.ones(3 * len(value))
            continue
        key = key.replace("reg_token", "storage_tokens")
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("make", ["timm", "meta"])
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_published_files_are_read_as_they_are(
    name: str, make: str, suffix: str, tmp_path: Path
) -> None:
    theirs = randomized(TEACHERS[name].build())
    state = theirs.transformer.state_dict() if make == "timm" else metas(name, theirs)
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(dict(state), path)
    ours = TEACHERS[name].build().eval()
    load_teacher(name, ours, path)
    image = torch.randn(1, 3, 64, 96)
    for level, other in zip(ours(image), theirs(image), strict=True):
        torch.testing.assert_close(level, other)


def test_names_are_translated_as_timm_does() -> None:
    from timm.models import eva, vision_transformer

    v3 = TEACHERS["dinov3_s"].build()
    published = metas("dinov3_s", randomized(v3))
    expected = eva.checkpoint_filter_fn(dict(published), v3.transformer)
    assert_same_tensors(translate_dinov3(published), expected)
    v2 = TEACHERS["dinov2_s"].build()
    published = metas("dinov2_s", randomized(v2))
    expected = vision_transformer.checkpoint_filter_fn(dict(published), v2.transformer)
    assert_same_tensors(translate_dinov2(published), expected)


def assert_same_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert {key.removeprefix("transformer.") for key in ours} == set(theirs)
    for key, value in theirs.items():
        assert torch.equal(ours[f"transformer.{key}"], value)


def test_timms_files_without_biases_mean_biases_of_zero(tmp_path: Path) -> None:
    plain = timm.create_model("vit_small_patch16_dinov3", num_classes=0)
    save_file(plain.state_dict(), path := tmp_path / "plain.safetensors")
    module = TEACHERS["dinov3_s"].build()
    load_teacher("dinov3_s", module, path)
    state = module.state_dict()
    biases = [key for key in state if key.endswith(("q_bias", "v_bias"))]
    assert len(biases) == 24
    assert not any(state[key].any() for key in biases)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("dinov2_s", "vit_base_patch14_dinov2", r"transformer\.cls_token is \(1, 1, 768\)"),
        ("dinov2_s", "vit_small_patch14_reg4_dinov2", r"not known: transformer\.reg_token"),
        ("dinov3_s", "vit_small_patch14_dinov2", r"not known: transformer\.pos_embed"),
    ],
)
def test_files_of_other_transformers_are_refused(
    name: str, other: str, message: str, tmp_path: Path
) -> None:
    torch.save(timm.create_model(other, num_classes=0).state_dict(), path := tmp_path / "other.pth")
    with pytest.raises(ModelError, match=message):
        load_teacher(name, TEACHERS[name].build(), path)


def test_weights_under_terms_of_their_own_are_never_fetched() -> None:
    with pytest.raises(ModelError, match=r"accept yourself.*DINOv3.*`teacher_weights=FILE`"):
        load_teacher("dinov3_s", TEACHERS["dinov3_s"].build())


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_network_comes_back(name: str, tmp_path: Path) -> None:
    """Also what is in no file: the periods of rotary embeddings."""
    config = CFRGConfig.preset("lite", teacher=name, image_size=64)
    model = CFRG(config).eval()
    randomized(model.teacher)
    model.save_pretrained(tmp_path)
    loaded = CFRG.from_pretrained(tmp_path)
    image = torch.randn(1, 3, 70, 90)
    for ours, theirs in zip(loaded.predict(image), model.predict(image), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
