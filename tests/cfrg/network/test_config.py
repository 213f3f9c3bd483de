"""The configuration: plain data, strict about what it is told."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cfrg.network.config import PRESETS, CFRGConfig
from cfrg.teachers.backbones import TEACHERS
from threecad.errors import ModelError


@pytest.mark.parametrize("name", PRESETS)
def test_survives_json(name: str) -> None:
    config = CFRGConfig.preset(name, image_size=(320, 192))
    assert CFRGConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_paper_is_the_default_and_departs_in_nothing() -> None:
    config = CFRGConfig.preset("paper")
    assert config == CFRGConfig()
    assert config.image_size == (256, 256)
    assert not config.standardize_features
    assert not config.calibrate_maps
    assert config.recovery_weights == (1, 1, 1)
    assert config.coarse_weights == (0, 0, 0)
    assert config.segmentation_weight == 1
    assert config.segmentation_input == "weighted"
    assert (config.recovery_loss, config.recovery_mse) == ("image", 0)
    assert config.recovery_distance == "cosine"
    assert config.segmentation_map == "probability"
    assert config.smoothing_sigma == 4
    assert config.score_fraction == 0


@pytest.mark.parametrize("teacher", TEACHERS)
def test_normalisation_is_the_teachers_unless_given(teacher: str) -> None:
    config = CFRGConfig.preset("lite", teacher=teacher)
    assert (config.mean, config.std) == (TEACHERS[teacher].mean, TEACHERS[teacher].std)
    assert CFRGConfig(mean=(0.5, 0.5, 0.5)).mean == (0.5, 0.5, 0.5)


def test_lite_teacher_sees_what_it_was_trained_on() -> None:
    config = CFRGConfig.preset("lite")
    for value in (0, 127, 255):
        seen = (value / 255 - config.mean[0]) / config.std[0]
        assert seen == pytest.approx((value - 127) / 128)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        CFRGConfig(
            teacher="wide_resnet50",
            image_size=(0, 256),
            decoder_blocks=(1, 2),  # type: ignore[arg-type]
            score_fraction=2,
            calibrate_maps=1,  # type: ignore[arg-type]
            unet_channels="wide",  # type: ignore[arg-type]
        )
    message = str(caught.value)
    for part in (
        "teacher is 'wide_resnet50'",
        "did you mean 'wide_resnet50_2'?",
        "image_size",
        "decoder_blocks is (1, 2), expected 3",
        "score_fraction is 2",
        "calibrate_maps is 1",
        "unet_channels is 'wide'",
    ):
        assert part in message


@pytest.mark.parametrize(
    "tampered",
    [
        '{"image_size": 1000000000}',
        '{"fusion_blocks": 1000000000}',
        '{"unet_channels": [64, 32, 16, 1000000000]}',
        '{"smoothing_sigma": 1e9}',
        '{"smoothing_sigma": Infinity}',
        '{"recovery_weights": [NaN, 1, 1]}',
        '{"std": [0, 1, 1]}',
        '{"mean": ["0.5", 0.5, 0.5]}',
        '{"tile": -1}',
    ],
)
def test_values_that_no_machine_computes_are_refused(tampered: str) -> None:
    (field,) = values = json.loads(tampered)
    with pytest.raises(ModelError, match=f"{field} is .*, expected"):
        CFRGConfig.from_dict(values)


def test_tiles_overlap_by_less_than_their_side() -> None:
    assert (CFRGConfig().tile, CFRGConfig().tile_overlap) == (0, 0)
    assert CFRGConfig(tile=512, tile_overlap=64).tile_overlap == 64
    for tile, overlap in ((0, 8), (64, 64)):
        with pytest.raises(ModelError, match="expected less than tile"):
            CFRGConfig(tile=tile, tile_overlap=overlap)
    with pytest.raises(ModelError, match="tile is -1"):
        CFRGConfig(tile=-1)


def test_unknown_fields_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="did you mean 'smoothing_sigma'") as caught:
        CFRGConfig.from_dict({"smoothing": 1, "colour": "blue"})
    assert "no field 'colour'" in str(caught.value)
    with pytest.raises(ModelError, match="There are: paper, lite"):
        CFRGConfig.preset("huge")


def test_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CFRGConfig().teacher = "other"  # type: ignore[misc]


def test_departures_from_the_paper_are_told() -> None:
    assert CFRGConfig.preset("paper").departures() == {}
    departures = CFRGConfig(smoothing_sigma=2.0, calibrate_maps=True).departures()
    assert departures == {"smoothing_sigma": (2.0, 4.0), "calibrate_maps": (True, False)}
    assert "teacher" in CFRGConfig.preset("lite").departures()
