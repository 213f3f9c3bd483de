"""What is to be done where a source leaves in doubt what is good, and what is whose."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Literal

from threecad.errors import ConversionError, UsageError

__all__ = ["Decisions", "Doubts"]

_SHOWN = 10

_CHOICES = {
    "unlabelled": ("refuse", "good", "skip"),
    "orphans": ("refuse", "skip"),
    "conflicts": ("refuse", "label", "mask", "skip"),
    "boxes": ("refuse", "fill"),
}

_HEADS = {
    "unlabelled": "Not said to be good or defective",
    "orphans": "Of no image",
    "conflicts": "Label and mask contradict each other",
    "boxes": "Only boxes, no outlines",
    "": "Not as it should be",
}

_REMEDIES = {
    "unlabelled": "Label them, or say what they are: `unlabelled='good'` (free of defects) or "
    "`unlabelled='skip'` (leave them out).",
    "orphans": "Restore the images, rename or remove what is left over, or leave it out with "
    "`orphans='skip'`.",
    "conflicts": "Repair them, or say what is right: `conflicts='label'` (the mask is ignored), "
    "`conflicts='mask'` (a mask makes it defective, an empty one good) or `conflicts='skip'`.",
    "boxes": "Export polygons or masks, or take the whole box for defect with `boxes='fill'`.",
    "": "Repair them and run the same command again.",
}


@dataclass(frozen=True)
class Decisions:
    """What to do with what is in doubt: refuse, unless it is said.

    Attributes:
        unlabelled: An image of which nothing says whether it is good: count it as ``good``, or
            ``skip`` it. A defective image without a mask among others with one can only be skipped.
        orphans: A mask or annotation of no image, or a link to nowhere: ``skip`` it.
        conflicts: A good image with a mask that is not empty, or an outline called good: believe
            the ``label`` or the ``mask``, or ``skip`` the image.
        boxes: An annotation that has only a box: ``fill`` it.

    Raises:
        UsageError: If a choice is none of these.
    """

    unlabelled: Literal["refuse", "good", "skip"] = "refuse"
    orphans: Literal["refuse", "skip"] = "refuse"
    conflicts: Literal["refuse", "label", "mask", "skip"] = "refuse"
    boxes: Literal["refuse", "fill"] = "refuse"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, allowed = getattr(self, field.name), _CHOICES[field.name]
            if value not in allowed:
                raise UsageError(
                    f"{field.name} is {value!r}; expected one of: {', '.join(allowed)}."
                )


class Doubts:
    """Everything that keeps a source from being read, gathered before it is said at once."""

    def __init__(self) -> None:
        self._messages: dict[str, list[str]] = defaultdict(list)

    def add(self, message: str, *, switch: str = "") -> None:
        """Add a line about a file or entry; ``switch`` names the field of ``Decisions``."""
        if message not in self._messages[switch]:
            self._messages[switch].append(message)

    def __bool__(self) -> bool:
        return any(self._messages.values())

    def error(self, source: object) -> ConversionError:
        """Return one error with all of it, and what to do about each kind."""
        parts = []
        for switch in sorted(self._messages, reverse=True):
            messages = self._messages[switch]
            shown = [f"  {message}" for message in messages[:_SHOWN]]
            if len(messages) > _SHOWN:
                shown.append(f"  … and {len(messages) - _SHOWN} more")
            head = f"{_HEADS[switch]} ({len(messages)}):"
            parts += [head, *shown, f"  → {_REMEDIES[switch]}"]
        return ConversionError(f"{source} is not converted:\n" + "\n".join(parts))
