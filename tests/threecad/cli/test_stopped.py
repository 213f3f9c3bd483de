"""A command that is told to stop ends with the signal's number, whatever fails on the way out."""

from __future__ import annotations

import signal

import click
import pytest
from click.testing import CliRunner

from threecad.cli.group import FriendlyGroup


@click.group(cls=FriendlyGroup)
def main() -> None:
    """A program."""


@main.command()
@click.argument("number", type=int)
def unwinds_badly(number: int) -> None:
    """Clean up as a library does that was ended between two lines."""
    try:
        signal.raise_signal(signal.Signals(number))
    finally:
        raise UnboundLocalError("cannot access local variable 'parent_r'")


@main.command()
def fails() -> None:
    """Fail by itself."""
    raise UnboundLocalError("a mistake of ours")


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_fails_while_a_command_is_told_to_stop_is_not_shown(kind: int, code: int) -> None:
    result = CliRunner().invoke(main, ["unwinds-badly", str(int(kind))])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert "parent_r" not in result.output


def test_what_fails_by_itself_is_shown() -> None:
    result = CliRunner().invoke(main, ["fails"])
    assert isinstance(result.exception, UnboundLocalError)
