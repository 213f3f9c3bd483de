"""What is decided about an image, and by which thresholds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.regions import FlaggedRegion
from cfrg.inference.thresholds import Threshold
from threecad.errors import ModelError, UsageError

OLD = {
    "schema": "cfrg.calibration/1",
    "image_threshold": 2.5,
    "pixel_threshold": 3.5,
    "false_alarm_rate": 0.01,
    "interval": [0.0001, 0.012],
    "images": 299,
    "source": "held-out",
    "data_fingerprint": "0" * 64,
    "weights_digest": "1" * 64,
    "tile": 0,
    "tile_overlap": 0,
    "version": "0.1.0",
}


def region(area: int) -> FlaggedRegion:
    return FlaggedRegion((0, 0, area, 1), area, 9.0)


def test_two_thresholds_give_three_answers_and_a_score_on_one_is_below_it() -> None:
    policy = DecisionPolicy(defective=3.0, review=2.0)
    answers = [policy.decide(score) for score in (1.0, 2.0, 2.5, 3.0, 3.5)]
    assert answers == ["good", "good", "review", "review", "defective"]
    one = DecisionPolicy(defective=3.0)
    assert [one.decide(score) for score in (2.5, 3.0, 3.5)] == ["good", "good", "defective"]


def test_an_image_is_decided_by_its_category_and_by_the_strictest_where_it_is_not_known() -> None:
    lenient = DecisionPolicy(defective=5.0, review=4.0, pixel_threshold=6.0)
    strict = DecisionPolicy(defective=3.0, review=2.0, pixel_threshold=7.0)
    policy = DecisionPolicy.strictest({"Stator": lenient, "Ring": strict})
    assert policy.decide(3.5, "Stator") == "good"
    assert (
        policy.decide(3.5, "Ring") == policy.decide(3.5) == policy.decide(3.5, "?") == "defective"
    )
    assert policy.pixel_threshold == 6.0
    assert policy.category_of("Ring/test/good/1") == "Ring"
    assert policy.category_of("Other/test/good/1") is None


def test_regions_below_the_least_area_stop_no_part() -> None:
    policy = DecisionPolicy(defective=3.0, review=2.0, pixel_threshold=3.0, least_area=20)
    assert policy.decide(9.0, regions=[region(19)]) == "good"
    assert policy.decide(9.0, regions=[region(19), region(20)]) == "defective"
    assert policy.decide(2.5, regions=[region(20)]) == "review"
    assert policy.decide(1.0, regions=[region(20)]) == "good"
    with pytest.raises(UsageError, match="Give `regions`"):
        policy.decide(9.0)


def test_what_was_calibrated_before_gives_two_answers() -> None:
    policy = Threshold.from_dict(OLD).policy
    assert (policy.defective, policy.review, policy.pixel_threshold) == (2.5, None, 3.5)
    assert policy.false_alarm_rate == 0.01
    assert [policy.decide(score) for score in (2.5, 2.6)] == ["good", "defective"]


def test_a_policy_survives_its_file() -> None:
    own = DecisionPolicy(defective=5.0, review=4.0, pixel_threshold=6.0, least_area=9)
    policy = DecisionPolicy.strictest({"Ring": own})
    stored = json.loads(json.dumps({**policy.to_dict(), "of a later version": 1}))
    assert DecisionPolicy.from_dict(stored) == policy


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "another/1"},
        {"defective": "3"},
        {"defective": True},
        {"defective": float("nan")},
        {"review": 4.0},
        {"least_area": -1},
        {"least_area": 1.5},
        {"categories": [1]},
        {"categories": {"Ring": {}}},
        {"defective": 10**400},
    ],
)
def test_a_damaged_policy_is_refused(change: dict[str, Any]) -> None:
    policy = DecisionPolicy(defective=3.0, review=2.0, pixel_threshold=3.0)
    with pytest.raises(ModelError, match="is no policy of decisions"):
        DecisionPolicy.from_dict({**policy.to_dict(), **change})


def test_a_threshold_given_replaces_both_and_those_of_categories() -> None:
    own = DecisionPolicy(defective=5.0, review=4.0, pixel_threshold=6.0, false_alarm_rate=0.1)
    policy = DecisionPolicy.strictest({"Ring": own}).with_given(1.0, None)
    assert policy == DecisionPolicy(defective=1.0, pixel_threshold=6.0)
    assert DecisionPolicy.strictest({"Ring": own}).with_given(None, 2.0).of("Ring") == (
        DecisionPolicy(defective=5.0, review=4.0, pixel_threshold=2.0, false_alarm_rate=0.1)
    )
