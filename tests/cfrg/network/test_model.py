"""The network as a whole: shapes, sizes, gradients, branches, options."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cfrg.network.config import CFRGConfig
from cfrg.network.model import BRANCHES, CFRG
from cfrg.network.processing import smooth_maps

SMALL = {  # the paper's algorithm at a size for tests
    "image_size": 64,
    "teacher": "efficientnet_lite0",
    "student": "small_resnet",
    "fusion_blocks": 2,
    "fusion_width": 64,
    "fusion_channels": 128,
    "decoder_blocks": (2, 2, 2),
    "decoder_widths": (24, 32, 48),
    "decoder_channels": (48, 64, 96),
    "unet_channels": (48, 32, 16, 8),
    "smoothing_sigma": 2.0,
}


def build(**overrides: object) -> CFRG:
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.from_dict({**SMALL, **overrides}))
    model.load_teacher()
    for module in model.modules():  # as after some training, so that no map is constant
        if isinstance(module, torch.nn.BatchNorm2d) and module.weight.requires_grad:
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> CFRG:
    return build()


def images(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 64), (33, 47), (100, 70)])
@torch.no_grad()
def test_any_size_in_the_same_size_out(model: CFRG, size: tuple[int, int]) -> None:
    output = model(images(2, *size))
    assert output.anomaly_map.shape == output.logits.shape == (2, 1, *size)
    padded = [-(-side // 32) * 32 for side in size]
    for levels in (output.teacher, output.student, output.recovery):
        assert [tuple(level.shape[2:]) for level in levels] == [
            (padded[0] // stride, padded[1] // stride) for stride in (4, 8, 16)
        ]
    maps, scores = model.predict(images(2, *size))
    assert maps.shape == (2, 1, *size)
    assert scores.shape == (2,)


@torch.no_grad()
def test_odd_sizes_are_padded_by_replication_at_right_and_bottom(model: CFRG) -> None:
    image = images(1, 50, 41)
    padded = F.pad(image, (0, 23, 0, 14), mode="replicate")
    expected = model(padded)
    output = model(image)
    torch.testing.assert_close(output.anomaly_map, expected.anomaly_map[..., :50, :41])
    torch.testing.assert_close(output.logits, expected.logits[..., :50, :41])


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(model: CFRG) -> None:
    batch = images(3)
    together, _ = model.predict(batch)
    alone = torch.cat([model.predict(image[None])[0] for image in batch])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_anomaly_map_is_recovery_plus_segmentation(model: CFRG) -> None:
    image = images(2)
    output = model(image)
    expected = torch.sigmoid(output.logits)
    for t, r in zip(output.teacher, output.recovery, strict=True):
        distance = 1 - F.cosine_similarity(t, r)
        expected = expected + F.interpolate(
            distance[:, None], (64, 64), mode="bilinear", align_corners=True
        )
    torch.testing.assert_close(output.anomaly_map, expected)
    maps, scores = model.predict(image)
    torch.testing.assert_close(maps, smooth_maps(expected, model.config.smoothing_sigma))
    torch.testing.assert_close(scores, maps.amax((1, 2, 3)))


@torch.no_grad()
def test_branches_add_up_with_their_weights() -> None:
    weights = {
        "recovery_weights": (0.5, 2.0, 0.0),
        "coarse_weights": (0.0, 1.0, 3.0),
        "segmentation_weight": 0.25,
    }
    model = build(**weights)
    image = images(2, 50, 40)
    branches = model.branches(image)
    assert tuple(branches) == BRANCHES
    weighted = {
        "coarse_2": 1.0,
        "coarse_3": 3.0,
        "recovery_1": 0.5,
        "recovery_2": 2.0,
        "segmentation": 0.25,
    }
    total = sum(weight * branches[name] for name, weight in weighted.items())
    torch.testing.assert_close(model(image).anomaly_map, total)


@torch.no_grad()
def test_recovery_may_be_judged_by_its_euclidean_distance() -> None:
    model = build(recovery_distance="euclidean")
    image = images(2, 50, 40)
    maps, _ = model.predict(image)
    branches = model.branches(image)
    names = ("difference_1", "difference_2", "difference_3", "segmentation")
    total = sum(branches[name] for name in names)
    torch.testing.assert_close(model(image).anomaly_map, total)
    torch.testing.assert_close(maps, smooth_maps(total, 2.0))
    output = model(images(1))
    difference = output.teacher[1] - output.recovery[1]
    expected = difference.norm(dim=1, keepdim=True) / difference.shape[1] ** 0.5
    expected = F.interpolate(expected, (64, 64), mode="bilinear", align_corners=True)
    torch.testing.assert_close(model.branches(images(1))["difference_2"], expected)


def test_prediction_leaves_training_mode_and_gradients_as_they_were(model: CFRG) -> None:
    model.train()
    try:
        before = {key: value.clone() for key, value in model.state_dict().items()}
        maps, scores = model.predict(images(2))
        assert model.training
        assert not maps.requires_grad
        assert not scores.requires_grad
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    finally:
        model.eval()


def test_teacher_is_frozen_in_training() -> None:
    model = build().train()
    assert not any(module.training for module in model.teacher.modules())
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    model.losses(images(2), images(2, seed=1), torch.zeros(2, 1, 64, 64))["loss"].backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.teacher.state_dict().items())


OPTIONS: list[dict[str, object]] = [
    {},
    {"segmentation_input": "difference"},
    {"segmentation_input": "both", "recovery_loss": "pixel", "recovery_mse": 0.5},
    {"standardize_features": True, "recovery_distance": "euclidean"},
    {"calibrate_maps": True, "segmentation_map": "logit"},
    {"student": "efficientnet_b0"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_trained_parameter_gets_a_gradient(options: dict[str, object]) -> None:
    model = build(**options).train()
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 20:30, 20:40] = 1
    losses = model.losses(images(2), images(2, seed=1), mask)
    terms = [losses[name] for name in ("segmentation", "discrepancy", "recovery")]
    torch.testing.assert_close(losses["loss"], torch.stack(terms).sum())
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias before a batch normalisation cannot change anything.
            if not name.endswith(("conv1.bias", "conv2.bias")):
                assert parameter.grad.abs().sum() > 0, name
    assert model.eval()(images(1, 50, 40)).anomaly_map.isfinite().all()


def test_nothing_is_detached(model: CFRG) -> None:
    """The segmentation trains student and recovery through the weights of its input."""
    model.zero_grad()
    mask = torch.ones(2, 1, 64, 64)
    model.losses(images(2), images(2, seed=1), mask)["segmentation"].backward()
    for part in (model.student, model.adapters, model.fusion, model.decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    model.zero_grad()


def test_recovery_compares_with_the_clean_image(model: CFRG) -> None:
    clean, defective, mask = images(2), images(2, seed=1), torch.zeros(2, 1, 64, 64)
    with torch.no_grad():
        losses = model.losses(clean, defective, mask)
        normal, seen = model(clean), model(defective)
    expected = sum(
        (1 - F.cosine_similarity(t.flatten(1), r.flatten(1))).mean()
        for t, r in zip(normal.teacher, seen.recovery, strict=True)
    )
    torch.testing.assert_close(losses["recovery"], expected)


@torch.no_grad()
def test_losses_take_any_size_and_mask_type(model: CFRG) -> None:
    mask = torch.zeros(2, 1, 50, 40, dtype=torch.uint8)
    mask[..., 10:20, 10:20] = 1
    batch = images(2, 50, 40), images(2, 50, 40, seed=1)
    losses = model.losses(*batch, mask)
    other = model.losses(*batch, mask.float())
    assert all(torch.equal(losses[name], other[name]) for name in losses)
    assert all(value.isfinite() for value in losses.values())


@torch.no_grad()
def test_score_fraction_takes_the_mean_of_the_largest_pixels(model: CFRG) -> None:
    model = build(score_fraction=0.01)
    maps, scores = model.predict(images(2))
    largest = maps.flatten(1).sort(descending=True).values[:, : round(0.01 * 64 * 64)]
    torch.testing.assert_close(scores, largest.mean(1))


@torch.no_grad()
def test_standardised_features_have_mean_zero_and_deviation_one() -> None:
    model = build(standardize_features=True)
    good = [images(4, seed=seed) for seed in range(3)]
    model.fit_features(good)
    model.fit_features(good)  # fitting anew does not pile up
    for level in range(3):
        rows = torch.cat([model(image).teacher[level] for image in good])
        rows = rows.transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), atol=1e-3, rtol=0)
        torch.testing.assert_close(
            rows.std(1, correction=0), torch.ones(len(rows)), atol=1e-3, rtol=0
        )
        # What imitates signed features must be able to be negative.
        assert model(good[0]).recovery[level].min() < 0
        assert model(good[0]).student[level].min() < 0


@torch.no_grad()
def test_calibrated_maps_are_on_one_scale() -> None:
    model = build(calibrate_maps=True)
    good = [images(4, seed=seed) for seed in range(3)]
    before = model.branches(good[0])
    model.fit_calibration(good)
    after = model.branches(good[0])
    assert all(torch.equal(before[name], after[name]) for name in BRANCHES)
    rows = torch.cat([torch.cat(list(model.branches(image).values()), 1) for image in good])
    rows = rows.transpose(0, 1).flatten(1)
    torch.testing.assert_close(model.calibration.mean, rows.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.calibration.std, rows.std(1), atol=1e-5, rtol=1e-3)
    total = torch.cat([model(image).anomaly_map for image in good])
    assert total.mean().abs() < 1e-2


def test_paper_network_has_no_option_in_its_state() -> None:
    with torch.device("meta"):
        model = CFRG(CFRGConfig.preset("paper"))
    parts = {key.split(".")[0] for key in model.state_dict()}
    assert parts == {"teacher", "student", "adapters", "fusion", "decoder", "unet"}
    assert all(isinstance(head, torch.nn.Identity) for head in model.decoder.heads)


def test_same_seed_same_initial_weights() -> None:
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_weights_and_features_are_channels_last(model: CFRG) -> None:
    weight = model.unet.up4.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        level = model(images(2)).recovery[0]
    assert level.is_contiguous(memory_format=torch.channels_last)


def test_half_precision_autocast_keeps_maps_and_losses_in_float32(model: CFRG) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        maps, scores = model.predict(images(2))
        losses = model.losses(images(2), images(2, seed=1), torch.ones(2, 1, 64, 64))
    assert maps.dtype == scores.dtype == torch.float32
    assert {value.dtype for value in losses.values()} == {torch.float32}
    full, _ = model.predict(images(2))
    assert (maps - full).abs().mean() < 0.1
