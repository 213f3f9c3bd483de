"""Messages of the library on the command line: flags in place of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from threecad.cli.group import FriendlyGroup, force_option, selection_options
from threecad.dataset.scanning import Selection
from threecad.errors import ModelError, UsageError

SAID = (
    "Use fewer `workers`, `clip=1` or `precision='no'`; or `force=True`; or another `run` of "
    "`root`. `tile=64` and `name` are no options here, `threecad audit --near` is a command."
)


@click.group(cls=FriendlyGroup)
def main() -> None:
    """Say what the library says."""


@main.command()
@click.argument("root")
@click.option("--out", "run")
@click.option("--workers", "-w")
@click.option("--clip")
@click.option("--precision")
@click.option("--force", is_flag=True)
def plain(**_: object) -> None:
    """Fail."""
    raise UsageError(SAID)


@main.command()
@click.option("--set", "settings", multiple=True)
def setting(**_: object) -> None:
    """Fail."""
    raise ModelError(SAID)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["plain", "x"],
            2,
            "Use fewer --workers, --clip 1 or --precision no; or --force; or another --out of "
            "ROOT. `tile=64` and `name` are no options here, `threecad audit --near` is a command.",
        ),
        (
            ["setting"],
            1,
            "Use fewer `workers`, --set clip=1 or --set precision=no; or --set force=True; or "
            "another `run` of `root`. --set tile=64 and `name` are no options here, `threecad "
            "audit --near` is a command.",
        ),
    ],
)
def test_parameters_of_a_message_become_the_flags_of_the_command(
    arguments: list[str], code: int, said: str
) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code
    assert result.output == f"Error: {said}\n"


@main.command()
@click.option("--copy", "placement", flag_value="copy")
@click.option("--link", "placement", flag_value="link")
@click.option("--reference", "placement", flag_value="reference")
def placing(**_: object) -> None:
    """Fail."""
    raise UsageError("Use `placement='link'` or `placement='copy'`.")


def test_of_several_flags_for_one_parameter_the_one_of_the_value_is_named() -> None:
    result = CliRunner().invoke(main, ["placing"])
    assert result.output == "Error: Use --link or --copy.\n"


@main.command()
@click.option("--private/--public", default=True)
def publishing(**_: object) -> None:
    """Fail."""
    raise UsageError("Use `private=False`; `private=True` and `private` are its other side.")


def test_a_flag_with_two_sides_is_named_by_the_side_of_the_value() -> None:
    result = CliRunner().invoke(main, ["publishing"])
    assert result.output == "Error: Use --public; --private and --private are its other side.\n"


def _chosen(options: dict[str, Any], *arguments: str) -> dict[str, Any] | str:
    """Return what a command with these options is called with, or why it is not."""
    called: dict[str, Any] = {}

    @click.command()
    @selection_options(**options)
    @force_option
    def command(**given: Any) -> None:
        called.update(given)

    result = CliRunner().invoke(command, arguments)
    return called if result.exit_code == 0 else result.output


def test_a_command_gets_its_images_as_one_selection(tmp_path: Path) -> None:
    split_file, errata = tmp_path / "split.csv", tmp_path / "errata.json"
    split_file.touch()
    errata.touch()
    given = ["3cad", "--category", "A", "--category", "B", "--split-file", str(split_file)]
    given += ["--fold", "0", "--errata", str(errata), "--force"]
    expected = Selection(Path("3cad"), ("A", "B"), split_file, 0, errata)
    assert _chosen({}, *given) == {"selection": expected, "force": True}
    assert _chosen({}) == {"selection": Selection(), "force": False}


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"root": False}, ["3cad"]),
        ({"category": None}, ["--category", "A"]),
        ({"category": "--config"}, ["--category", "A"]),
        ({"splits": False}, ["--fold", "0"]),
    ],
)
def test_what_a_command_does_not_choose_by_is_no_option_of_it(
    options: dict[str, Any], given: list[str]
) -> None:
    assert isinstance(_chosen({}, *given), dict)
    assert "Error" in _chosen(options, *given)


def test_a_category_may_have_another_flag() -> None:
    chosen = _chosen({"category": "--config"}, "--config", "A")
    assert chosen == {"selection": Selection(categories=("A",)), "force": False}
