"""What a visitor asks of the page, checked against the page before gradio sees it.

Gradio copies or fetches whatever an event names as a file: any path of this machine, any address.
So nothing of a visitor's words is handed on; the event is written anew from what is known.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfrg.app.uploads import Uploads

__all__ = ["SESSION", "EventError", "rewrite_event"]

SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""How a visitor's browser may name itself."""

_FILE = {"_type": "gradio.FileData"}


class EventError(ValueError):
    """An event that no page of ours sends.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def rewrite_event(body: bytes, page: Any, uploads: Uploads) -> tuple[str, bytes]:
    """Return the session of an event and the event anew, with known values only.

    Args:
        body: JSON as gradio's script sends it to ``queue/join``.
        page: ``gradio.Blocks``.
        uploads: The files that may be named.

    Raises:
        EventError: If a value is not one that its component can have.
    """
    try:
        event = json.loads(body)
        session, number, data = event["session_hash"], event["fn_index"], event["data"]
        trigger, details = event.get("trigger_id"), event.get("event_data")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EventError("This is not an event of the page.") from None
    if not (isinstance(session, str) and SESSION.fullmatch(session)):
        raise EventError("The session has no name.")
    if not (_is_integer(number) and number in page.fns):
        raise EventError("There is no such event.")
    known = page.fns[number]
    if trigger is not None and not (_is_integer(trigger) and trigger in dict(known.targets)):
        raise EventError("Nothing of the page starts this event.")
    if not (isinstance(data, list) and len(data) == len(known.inputs)):
        raise EventError(f"The event takes {len(known.inputs)} values.")
    values = [
        _known_value(component, value, uploads, session)
        for component, value in zip(known.inputs, data, strict=True)
    ]
    clean = {
        "data": values,
        "fn_index": number,
        "session_hash": session,
        "trigger_id": trigger,
        "event_data": _selection(details),
    }
    return session, json.dumps(clean).encode()


def _known_value(component: Any, value: Any, uploads: Uploads, session: str) -> Any:
    """Return a value that the component can have, or None for an empty one."""
    kind = type(component).__name__
    if value is None or kind == "State":  # the state is here, and no visitor's to give
        return None
    if kind == "Image":
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(path, str) and uploads.claim(path, session):
            return {"path": path, "meta": _FILE}
        reason = "This file is no upload of this session, or is gone: upload it again."
        raise EventError(reason, 403)
    if kind in ("Dropdown", "Radio"):
        choices = [choice for _, choice in component.choices]
        if isinstance(value, str) and value in choices:
            return value
        raise EventError(f"{component.label} is one of {', '.join(choices)}.")
    if kind == "Slider":
        if _is_number(value):
            return value
        raise EventError(f"{component.label} is a number.")
    raise EventError(f"Nobody fills {component.label}.")


def _selection(details: Any) -> dict[str, Any] | None:
    """Return which example was chosen, of what gradio tells about an event."""
    if not isinstance(details, dict) or "index" not in details:
        return None
    if not _is_integer(details["index"]) or details["index"] < 0:
        raise EventError("There is no such example.")
    return {"index": details["index"], "value": None, "selected": True}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and type(value) is not bool and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
