"""JSON that somebody else may have written: read strictly, and refused with a reason."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["parse_json", "parse_object", "read_json", "read_object"]


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: If it is not JSON, nested too deeply, or holds a number that is not finite.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_object(text: str) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        ValueError: If it holds anything else.
    """
    content = parse_json(text)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {_shorten(content)}, expected an object {{…}}")
    return content


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, in UTF-8.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not JSON; see ``parse_json``.
    """
    return parse_json(path.read_text(encoding="utf-8-sig"))


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds anything else.
    """
    return parse_object(path.read_text(encoding="utf-8-sig"))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number")


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:20]}, which is too large for a number")
    return value


def _shorten(content: object) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
