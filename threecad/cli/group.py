"""What all commands share: the error boundary, help with examples, the usual options."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from threecad.errors import ThreecadError, UsageError
from threecad.system.disk import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "FriendlyGroup",
    "across_categories_option",
    "category_option",
    "cluster_option",
    "errata_option",
    "examples",
    "fold_option",
    "force_option",
    "json_option",
    "mask_rule_option",
    "name_flags",
    "print_json",
    "root_argument",
    "seed_option",
    "selection_options",
    "split_file_option",
    "workers_option",
]

Function = TypeVar("Function", bound="Callable[..., Any]")

PARAMETER = re.compile(r"`(?P<name>[a-z][a-z0-9_]*)(?:=(?P<value>[^`]*))?`")
QUOTES = "'\""


class FriendlyGroup(click.Group):
    """A group that prints mistakes as one clear message, without a traceback.

    Arguments that are wrong exit with 2, as click's own mistakes do; anything else with 1. Asked to
    stop, a command takes back what is half-written and exits with 128 + the signal's number, as
    shells count: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def invoke(self, context: click.Context) -> Any:
        """Run the chosen command."""
        try:
            with _stopping():
                return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("\nAborted!", err=True)
            raise SystemExit(128 + signal.SIGINT) from None
        except ThreecadError as error:
            message = name_flags(str(error), _running(context))
            raise _Mistake(message, 2 if isinstance(error, UsageError) else 1) from error
        except BrokenPipeError:
            # The reader of our output has gone (`threecad info | head`): nothing is wrong.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)
        except OSError as error:
            if error.filename is None and not error.strerror:
                raise
            where = f"{error.filename}: " if error.filename else ""
            advice = ""
            if error.errno in FULL:
                advice = ". Make room there, or choose another disk, and run the command again."
            raise click.ClickException(f"{where}{error.strerror or error}{advice}") from error


@contextmanager
def _stopping() -> Iterator[None]:
    """Have SIGTERM and SIGHUP unwind the command as Ctrl-C does; a second one ends it at once.

    What fails while it unwinds is no mistake of anybody's: libraries do not expect to end anywhere.
    """
    told = False

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal told
        told = True
        # Threads that wait for workers would complain that these have gone.
        threading.excepthook = lambda _: None
        signal.signal(number, as_usual[number])
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    as_usual: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            kind = getattr(signal, name, None)
            usual = signal.getsignal(kind) if kind else None
            if kind and usual in (signal.SIG_DFL, signal.default_int_handler):  # not under nohup
                as_usual[kind] = signal.signal(kind, stop)
    try:
        yield
    except Exception as error:
        if told and (reason := _stop_behind(error)) is not None:
            raise reason from None
        raise
    finally:
        for kind, usual in as_usual.items():
            signal.signal(kind, usual)


def _stop_behind(error: BaseException) -> BaseException | None:
    """Return the stop during which an error was raised, if there was one."""
    behind = error.__context__
    while behind is not None and not isinstance(behind, (KeyboardInterrupt, SystemExit)):
        behind = behind.__context__
    return behind


def _running(context: click.Context) -> click.Command:
    """Return the command that a group was asked for, or the group itself."""
    group, name = context.command, context.invoked_subcommand
    command = group.get_command(context, name) if isinstance(group, click.Group) and name else None
    return command or group


def name_flags(message: str, command: click.Command | None = None) -> str:
    """Return a message of the library as the command line speaks: flags in place of parameters.

    The library names parameters between backquotes, as Python writes them: ```workers```,
    ```clip=1```, ```force=True```. Those of the command become ``--workers``, ``--clip 1``,
    ``--force``, and ``private=False`` of ``--private/--public`` becomes ``--public``; what it sets
    by ``--set`` becomes ``--set tile=64``; its arguments, ``ROOT``. Anything else between
    backquotes stays.

    Args:
        message: What the library says.
        command: Whose flags they are; the running one's if ``None``.
    """
    command = command or click.get_current_context().command
    known = {parameter.name: parameter for parameter in command.params}
    # Several flags may set one parameter, each to a value of its own.
    flags = {
        (option.name, option.flag_value): option
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.flag_value, str)
    }

    def spell(found: re.Match[str]) -> str:
        name, value = found.group("name"), found.group("value")
        parameter = flags.get((name, value and value.strip(QUOTES))) or known.get(name)
        if isinstance(parameter, click.Option):
            off = parameter.is_flag and value == "False" and parameter.secondary_opts
            flag = max(off or parameter.opts, key=len)
            return flag if value is None or parameter.is_flag else f"{flag} {value.strip(QUOTES)}"
        if parameter is not None:
            return parameter.human_readable_name.upper()
        settings = known.get("settings")
        if value is not None and settings is not None:
            return f"{settings.opts[0]} {name}={value.strip(QUOTES)}"
        return found[0]

    return PARAMETER.sub(spell, message)


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


def selection_options(
    *, root: bool = True, category: str | None = "--category", splits: bool = True
) -> Callable[[Function], Function]:
    """Add what chooses images of a tree; the command gets it as one ``selection``.

    That is a :class:`threecad.dataset.scanning.Selection`.

    Args:
        root: Add the optional positional ROOT. Without, the command may add a ``root`` of its own.
        category: The flag that names a category, repeatable; ``None`` for no such flag.
        splits: Add ``--split-file`` and ``--fold``, beside ``--errata``.
    """

    def add(function: Function) -> Function:
        @wraps(function)
        def select(*arguments: Any, **options: Any) -> Any:
            from threecad.dataset.scanning import Selection

            chosen = {name: options.pop(name, None) or None for name in ("root", "categories")}
            for name in ("split_file", "fold", "errata"):
                chosen[name] = options.pop(name, None)
            return function(*arguments, selection=Selection(**chosen), **options)

        command: Any = errata_option(select)
        if splits:
            command = split_file_option(fold_option(command))
        if category is not None:
            command = category_option(command, category)
        return cast("Function", root_argument(command) if root else command)

    return add


def across_categories_option(function: Function) -> Function:
    """Add ``--across-categories``."""
    return click.option(
        "--across-categories",
        is_flag=True,
        help="Take pictures that several categories share as duplicates, too, as they are for a "
        "detector of all categories.",
    )(function)


def category_option(function: Function, flag: str = "--category") -> Function:
    """Add ``--category``, repeatable."""
    return click.option(
        flag,
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
