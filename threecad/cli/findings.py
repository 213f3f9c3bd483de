"""How the findings of a check are shown at the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from threecad.cli.group import name_flags

if TYPE_CHECKING:
    from threecad.dataset.findings import FindingsReport

__all__ = ["print_findings"]

_SHOWN = 5
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def print_findings(report: FindingsReport, *, shown: int = _SHOWN) -> None:
    """Print the findings on stdout, worst first.

    Of errors of one code at most ``shown`` are printed; of more warnings or notes than that, only
    an example.
    """
    for (severity, code), group in groupby(report.sorted(), lambda f: (f.severity, f.code)):
        findings = list(group)
        title = click.style(f"{severity}: {code}", fg=_COLOURS[severity], bold=True)
        click.echo(f"{title} ({len(findings):,})" if len(findings) > 1 else title)
        few = len(findings) <= shown
        some = findings if few else findings[: shown if severity == "error" else 1]
        for finding in some:
            click.echo(f"  {name_flags(finding.message)}")
        if not few:
            click.echo(f"  … and {len(findings) - len(some):,} more; --json lists them all")
        if advice := findings[0].advice:
            click.echo(f"  → {name_flags(advice)}")
    numbers = report.to_dict()["summary"]
    said = ", ".join(
        f"{numbers[plural]:,} {plural[:-1] if numbers[plural] == 1 else plural}"
        for plural in ("errors", "warnings", "infos")
    )
    click.echo(f"{said} in {report.root}".replace("infos", "notes").replace("info ", "note "))
