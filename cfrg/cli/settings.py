"""``name=value`` on a command line, as values of ``CFRGConfig`` and ``TrainingOptions``."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from cfrg.network.config import CFRGConfig
from cfrg.training.options import TrainingOptions
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["parse_settings"]

WORDS: dict[Any, dict[str, Any]] = {
    bool: {"true": True, "false": False},
    type(None): {"none": None},
}


def parse_settings(assignments: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of the network's configuration and those of the training options.

    Args:
        assignments: ``name=value`` each: numbers; ``true`` or ``false``; ``none``; tuples with
            commas, ``64,32,16,8``.

    Raises:
        UsageError: A field that is not there, given twice, or a value that is not of its type.
    """
    settings: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    owners = (CFRGConfig, TrainingOptions)
    known = {field.name: i for i, owner in enumerate(owners) for field in dataclasses.fields(owner)}
    hints = [get_type_hints(owner) for owner in owners]
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: expected NAME=VALUE.")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UsageError(
                f"--set {assignment}: there is no field {name!r}.{hint} "
                "CFRGConfig and TrainingOptions list all."
            )
        target = settings[known[name]]
        if name in target:
            raise UsageError(f"--set {assignment}: {name} is given twice.")
        target[name] = _parse(assignment, text, hints[known[name]][name])
    return settings


def _parse(assignment: str, text: str, hint: Any) -> Any:
    """Return the value that a text stands for."""
    for kind in _members(hint):
        try:
            return _read(text, kind)
        except ValueError:
            continue
    raise UsageError(f"--set {assignment}: expected {_describe(hint)}.")


def _read(text: str, kind: Any) -> Any:
    """Return the value of one kind, or raise ``ValueError``."""
    if get_origin(kind) is tuple:
        words = [word for word in text.split(",") if word]
        kinds = get_args(kind)
        if kinds[-1] is ...:
            kinds = kinds[:1] * len(words)
        if len(words) == 1 and len(kinds) == 2 and kinds[0] is kinds[1] is int:
            words *= 2  # one number stands for a square
        if len(words) != len(kinds):
            raise ValueError
        return tuple(_read(word, one) for word, one in zip(words, kinds, strict=True))
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError
        return text
    if kind in WORDS:
        if text not in WORDS[kind]:
            raise ValueError
        return WORDS[kind][text]
    return kind(text)


def _members(hint: Any) -> list[Any]:
    """Return the kinds of which a value may be one, without the empty tuple; none comes first."""
    union = get_origin(hint) in (Union, UnionType)
    kinds = [kind for kind in (get_args(hint) if union else (hint,)) if kind != tuple[()]]
    return sorted(kinds, key=lambda kind: kind is not type(None))


def _describe(hint: Any) -> str:
    """Return what is expected, for people."""
    if len(members := _members(hint)) > 1:
        return " or ".join(map(_describe, members))
    hint = members[0]
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        count = "one or more" if others == [...] else len(others) + 1
        return f"{count} of {_describe(first)}, separated by commas"
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return names.get(hint, "none")
