"""What all commands share: the error boundary, help with examples, the usual options."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from threecad.errors import ThreecadError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FriendlyGroup",
    "category_option",
    "cluster_option",
    "errata_option",
    "examples",
    "fold_option",
    "force_option",
    "json_option",
    "mask_rule_option",
    "print_json",
    "root_argument",
    "seed_option",
    "split_file_option",
    "workers_option",
]

Function = TypeVar("Function", bound="Callable[..., Any]")


class FriendlyGroup(click.Group):
    """A group that prints mistakes as one clear message, without a traceback.

    Arguments that are wrong exit with 2, as click's own mistakes do; anything else with 1.
    """

    def invoke(self, context: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(context)
        except ThreecadError as error:
            raise _Mistake(str(error), 2 if isinstance(error, UsageError) else 1) from error
        except BrokenPipeError:
            # The reader of our output has gone (`threecad info | head`): nothing is wrong.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)
        except OSError as error:
            if error.filename is None and not error.strerror:
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


class _Mistake(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it a class variable


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: its examples, each a complete command line.

    The test suite runs every one of them in a folder that holds a sample tree ``3cad``.
    """
    return "\b\nExamples:\n" + "\n".join(f"  $ {break_line(line)}" for line in lines)


def break_line(line: str, width: int = 72) -> str:
    """Return a command line in rows that a terminal of 80 columns holds, broken before options."""
    rows: list[str] = []
    for part in re.split(r" (?=--)", line):
        if rows and len(rows[-1]) + len(part) < width:
            rows[-1] += f" {part}"
        else:
            rows.append(part)
    return " \\\n      ".join(rows)


def root_argument(function: Function) -> Function:
    """Add the optional positional ROOT."""
    return click.argument("root", required=False, type=click.Path(path_type=Path))(function)


def category_option(function: Function) -> Function:
    """Add ``--category``, repeatable."""
    return click.option(
        "--category",
        "categories",
        multiple=True,
        metavar="C",
        help="Only this category. May be given several times.",
    )(function)


def json_option(function: Function) -> Function:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."
    )(function)


def seed_option(function: Function) -> Function:
    """Add ``--seed``."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed."
    )(function)


def workers_option(function: Function) -> Function:
    """Add ``--workers``."""
    return click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="W",
        help="Worker processes; 0 runs in this process.  [default: one per core]",
    )(function)


def force_option(function: Function) -> Function:
    """Add ``--force``."""
    return click.option("--force", is_flag=True, help="Replace what is there already.")(function)


def split_file_option(function: Function) -> Function:
    """Add ``--split-file``."""
    return click.option(
        "--split-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Take the splits from this file.",
    )(function)


def fold_option(function: Function) -> Function:
    """Add ``--fold``, which goes with ``--split-file``."""
    return click.option(
        "--fold",
        type=click.IntRange(min=0),
        metavar="K",
        help="Fold to hold out, for a k-fold split file.",
    )(function)


def errata_option(function: Function) -> Function:
    """Add ``--errata``."""
    return click.option(
        "--errata",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Apply the corrections in this file.",
    )(function)


def mask_rule_option(function: Function) -> Function:
    """Add ``--mask-rule``."""
    return click.option(
        "--mask-rule",
        type=click.Choice(["binary", "labels", "threshold"]),
        help="Tell defect from background in every mask by this rule.  [default: by its values]",
    )(function)


def cluster_option(function: Function) -> Function:
    """Add ``--cluster``."""
    return click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Run on a cluster that sees the same paths: dask://HOST:PORT, ray or ray://HOST:PORT.",
    )(function)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on stdout."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
