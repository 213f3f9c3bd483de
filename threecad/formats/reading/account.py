"""What became of every file and every annotation of a source."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from threecad.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Account", "LeftOut", "Use"]

Use = Literal["image", "mask", "annotation", "index"]
"""What a file is used as; an index lists files or classes, an annotation describes images."""

_FIRST = 3


@dataclass(frozen=True)
class LeftOut:
    """What is not used, and why.

    Attributes:
        reason: Why.
        count: How many files or annotations.
        first: The first names.
    """

    reason: str
    count: int
    first: tuple[str, ...]

    @classmethod
    def gather(cls, reasons: Mapping[str, str]) -> tuple[LeftOut, ...]:
        """Return one entry for every reason, from the reason of every name."""
        names: dict[str, list[str]] = {}
        for name, reason in reasons.items():
            names.setdefault(reason, []).append(name)
        return tuple(
            cls(reason, len(of_reason), tuple(of_reason[:_FIRST]))
            for reason, of_reason in sorted(names.items())
        )

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.first) else ""
        return f"{self.count} {self.reason}: {', '.join(self.first)}{more}"


@dataclass(frozen=True)
class Account:
    """What a source holds and what became of it. Nothing is passed over.

    Attributes:
        files: Number of files below the source.
        images: Number of those that are images which were converted.
        masks: Number of mask images that belong to them.
        annotations: Number of files that describe them.
        indexes: Number of lists, tables, shards and class names.
        left_out: The other files, by reason.
        entries: Number of annotations in these files: shapes, lines, rows.
        entries_used: Number of annotations that labels and masks were made from.
        entries_left_out: The other annotations, by reason.

    Raises:
        ConversionError: If the parts do not add up to the whole: a fault of the reader.
    """

    files: int
    images: int
    masks: int
    annotations: int
    indexes: int
    left_out: tuple[LeftOut, ...]
    entries: int
    entries_used: int
    entries_left_out: tuple[LeftOut, ...]

    def __post_init__(self) -> None:
        used = self.images + self.masks + self.annotations + self.indexes
        files = used + sum(part.count for part in self.left_out)
        entries = self.entries_used + sum(part.count for part in self.entries_left_out)
        if (files, entries) != (self.files, self.entries):
            raise ConversionError(
                f"Of {self.files} files {files} are accounted for, of {self.entries} annotations "
                f"{entries}. This is a fault of threecad: please report it."
            )

    @classmethod
    def of(
        cls,
        uses: Mapping[str, Use],
        left_out: Mapping[str, str],
        entries: int,
        entries_left_out: Mapping[str, str],
        total: int,
    ) -> Account:
        """Return the account of ``total`` files from what each was used as, or why it was not."""
        counts = Counter(uses.values())
        return cls(
            files=total,
            images=counts["image"],
            masks=counts["mask"],
            annotations=counts["annotation"],
            indexes=counts["index"],
            left_out=LeftOut.gather(left_out),
            entries=entries + len(entries_left_out),
            entries_used=entries,
            entries_left_out=LeftOut.gather(entries_left_out),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as one line."""
        kinds = {
            "image": self.images,
            "mask": self.masks,
            "annotation file": self.annotations,
            "index": self.indexes,
        }
        parts = [_counted(number, kind) for kind, number in kinds.items() if number]
        skipped = [*self.left_out, *self.entries_left_out]
        said = f"{_counted(self.files, 'file')}: {', '.join(parts) or 'none used'}"
        return f"{said}; left out: {'; '.join(map(str, skipped)) or 'nothing'}"


def _counted(number: int, kind: str) -> str:
    plural = "indexes" if kind == "index" else f"{kind}s"
    return f"{number} {kind if number == 1 else plural}"
