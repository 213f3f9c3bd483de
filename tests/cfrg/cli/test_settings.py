"""``--set name=value``: every field of both configurations, by its type."""

from __future__ import annotations

import dataclasses

import pytest

from cfrg.cli.settings import parse_settings
from cfrg.network.config import CFRGConfig
from cfrg.training.options import TrainingOptions
from threecad.errors import UsageError


def write(value: object) -> str:
    """How a value is typed."""
    if isinstance(value, tuple):
        return ",".join(map(write, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


@pytest.mark.parametrize("preset", ["paper", "lite"])
def test_every_value_of_the_presets_can_be_typed(preset: str) -> None:
    config, options = CFRGConfig.preset(preset), TrainingOptions.preset(preset)
    for position, owner in enumerate((config, options)):
        for field in dataclasses.fields(owner):
            value = getattr(owner, field.name)
            parsed = parse_settings([f"{field.name}={write(value)}"])
            assert parsed[position] == {field.name: value}, field.name
            assert not parsed[1 - position]


def test_values_get_the_type_of_their_field() -> None:
    network, training = parse_settings(
        ["smoothing_sigma=3", "image_size=64", "foreground=true", "steps=none", "select=best"]
    )
    assert network == {"smoothing_sigma": 3.0, "image_size": (64, 64)}
    assert training == {"foreground": True, "steps": None, "select": "best"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("foregound=true", "Did you mean 'foreground'"),
        ("foreground", "expected NAME=VALUE"),
        ("foreground=1", "expected true or false"),
        ("batch_size=4.5", "expected an integer"),
        ("steps=few", "expected none or an integer"),
        ("betas=0.9", "expected 2 of a number, separated by commas"),
        ("select=first", "expected last or best"),
        ("unet_channels=64,32", "expected 4 of an integer"),
        ("mean=a,b,c", "expected 3 of a number"),
    ],
)
def test_what_cannot_be_is_said(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings([assignment])
    with pytest.raises(UsageError, match="given twice"):
        parse_settings(["seed=1", "seed=2"])
