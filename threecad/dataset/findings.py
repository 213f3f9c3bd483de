"""What a check found: one record per fault, and the report that collects them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "FindingsReport", "Severity"]

Severity = Literal["error", "warning", "info"]
_ORDER: dict[str, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about a tree.

    Attributes:
        code: Stable name such as ``mask-missing``.
        severity: ``error``, ``warning`` or ``info``.
        message: What was found and what was expected.
        id: Sample id, where the finding is about one sample.
        path: File or folder, relative to the root, with ``/``.
        advice: What to do next.
    """

    code: str
    severity: Severity
    message: str
    id: str | None = None
    path: str | None = None
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-able data."""
        return asdict(self)


@dataclass
class FindingsReport:
    """The findings about one root, with counts.

    Attributes:
        root: The tree that was looked at.
        findings: Sorted by severity, then code and id when shown.
        summary: Free-form figures of the check (counts, rules used, times).
    """

    root: str
    findings: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    SCHEMA = "threecad.findings/1"

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def sorted(self) -> list[Finding]:
        """Return the findings, errors first."""
        return sorted(
            self.findings,
            key=lambda f: (_ORDER[f.severity], f.code, f.id or "", f.path or ""),
        )

    def counts(self) -> dict[str, int]:
        """Return how often each code was found, most frequent first."""
        return dict(Counter(finding.code for finding in self.findings).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return ``{schema, root, summary, findings}`` as JSON-able data."""
        severities = Counter(finding.severity for finding in self.findings)
        return {
            "schema": self.SCHEMA,
            "root": self.root,
            "summary": {
                "errors": severities["error"],
                "warnings": severities["warning"],
                "infos": severities["info"],
                "codes": self.counts(),
                **self.summary,
            },
            "findings": [finding.to_dict() for finding in self.sorted()],
        }
