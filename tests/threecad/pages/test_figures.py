from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from threecad.errors import UsageError
from threecad.pages.figures import (
    heatmap,
    outline,
    overlay,
    save_figure,
    training_curve,
)

GREY = np.full((40, 60, 3), 120, np.uint8)


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    return np.linspace(0, 1, height * width).reshape(height, width)


def test_a_heat_map_is_matplotlibs_inferno() -> None:
    picture = heatmap(ramp(), vmin=0, vmax=1)
    levels = np.rint(ramp() * 255).astype(int)
    expected = mpl.colormaps["inferno"](levels, bytes=True)[..., :3]
    assert (picture.shape, picture.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(picture.astype(int) - expected.astype(int)).max() <= 1


def test_the_scale_is_fixed() -> None:
    """A value has one colour, whatever else is in the map."""
    low, high = np.array([[0.2, 0.3]]), np.array([[0.3, 0.9]])
    first = heatmap(low, vmin=0, vmax=1)
    second = heatmap(high, vmin=0, vmax=1)
    assert np.array_equal(first[0, 1], second[0, 0])


def test_values_outside_the_scale_take_its_ends() -> None:
    ends = heatmap(np.array([[-9.0, 0, 1, 9]]), vmin=0, vmax=1)
    assert np.array_equal(ends[0, 0], ends[0, 1])
    assert np.array_equal(ends[0, 2], ends[0, 3])


def test_an_overlay_shows_the_image_where_the_map_is_low() -> None:
    colourful = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    picture = overlay(colourful, np.zeros((40, 60)), vmin=0, vmax=1)
    grey = np.asarray(Image.fromarray(colourful).convert("L"))
    assert np.abs(picture.astype(int) - grey[..., None]).max() <= 1


def test_an_overlay_is_stronger_where_the_map_is_higher() -> None:
    picture = overlay(GREY, np.array([[0.0, 0.5, 1.0]] * 3), vmin=0, vmax=1).astype(int)
    change = np.abs(picture - 120).sum(axis=(0, 2))
    assert change[5] < change[30] < change[55]


def test_a_smaller_map_is_brought_to_the_size_of_the_image() -> None:
    assert overlay(GREY, np.zeros((10, 15)), vmin=0, vmax=1).shape == GREY.shape


def test_the_threshold_is_a_line_round_what_lies_above() -> None:
    anomaly_map = np.zeros((40, 60))
    anomaly_map[10:20, 10:20] = 0.8
    plain = overlay(GREY, anomaly_map, vmin=0, vmax=1)
    marked = overlay(GREY, anomaly_map, vmin=0, vmax=1, threshold=0.5)
    changed = (plain != marked).any(axis=2)
    assert (marked[changed] == 255).all()
    assert changed[9, 15]
    assert changed[20, 15]
    assert not changed[10:20, 10:20].any()
    assert np.array_equal(plain, overlay(GREY, anomaly_map, vmin=0, vmax=1, threshold=0.9))


def test_an_outline_leaves_mask_and_image_alone() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    before = GREY.copy()
    picture = outline(GREY, mask, colour=(1, 2, 3))
    assert np.array_equal(GREY, before)
    assert (picture[mask] == 120).all()
    drawn = (picture == (1, 2, 3)).all(axis=2)
    assert drawn[9, 9:21].any()
    assert not drawn[0:8].any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: heatmap(ramp(), vmin=1, vmax=1),
        lambda: heatmap(ramp(), vmin=float("nan"), vmax=1),
        lambda: heatmap(np.full((2, 2), np.nan), vmin=0, vmax=1),
        lambda: heatmap(np.zeros((2, 2, 2)), vmin=0, vmax=1),
        lambda: overlay(GREY.astype(float), ramp(), vmin=0, vmax=1),
        lambda: overlay(GREY[..., 0], ramp(), vmin=0, vmax=1),
        lambda: outline(GREY, np.zeros((3, 3), bool)),
        lambda: training_curve([]),
        lambda: training_curve([{"step": 1, "accuracy": 0.5}]),
    ],
)
def test_wrong_arguments_are_refused(call) -> None:
    with pytest.raises(UsageError):
        call()


def test_every_loss_is_a_curve() -> None:
    log = [{"step": k, "loss": 2 / (k + 1), "pull_loss": 1 / (k + 1), "lr": 1e-3} for k in range(9)]
    losses, rate = training_curve(log).axes
    assert [line.get_label() for line in losses.lines] == ["loss", "pull loss"]
    assert losses.lines[0].get_ydata()[0] == 2
    assert losses.get_yscale() == "log"
    assert rate.get_xlabel() == "step"
    assert rate.get_ylabel() == "learning rate"


def test_validation_has_a_panel_of_its_own() -> None:
    log = [{"step": k, "loss": 2 / (k + 1), "learning_rate": 1e-3} for k in range(9)]
    log.insert(5, {"step": 4, "validation_image_auroc": 0.9, "validation_pixel_ap": 0.25})
    losses, validation, rate = training_curve(log).axes
    assert [line.get_label() for line in validation.lines] == ["image auroc", "pixel ap"]
    assert [list(line.get_ydata()) for line in validation.lines] == [[0.9], [0.25]]
    assert list(validation.lines[0].get_xdata()) == [4]
    assert len(losses.lines) == len(rate.lines) == 1


def test_a_long_curve_has_its_running_mean() -> None:
    log = [{"epoch": k, "loss": float(k)} for k in range(100)]
    (axis,) = training_curve(log).axes
    raw, mean = axis.lines
    assert len(raw.get_ydata()) == 100
    # The mean of a straight line is the line: the window is centred.
    assert np.abs(mean.get_xdata() - mean.get_ydata()).max() <= 1
    assert axis.get_yscale() == "linear"  # a loss of 0 has no logarithm
    assert axis.get_xlabel() == "epoch"


def test_records_without_the_loss_are_passed_over() -> None:
    log = [{"step": 0, "event": "start"}, {"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    (axis,) = training_curve(log).axes
    assert list(axis.lines[0].get_xdata()) == [1, 2]


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    formats = ("png", "pdf", "svg")
    runs = [
        save_figure(
            training_curve([{"loss": 1.0}, {"loss": 0.5}]), tmp_path / str(k), "c", formats=formats
        )
        for k in range(2)
    ]
    assert [path.name for path in runs[0]] == ["c.png", "c.pdf", "c.svg"]
    for first, second in zip(*runs, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_drawing_changes_no_global_setting() -> None:
    before = dict(mpl.rcParams)
    training_curve([{"loss": 1.0}])
    assert dict(mpl.rcParams) == before
