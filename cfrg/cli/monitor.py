"""``cfrg monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cfrg.cli.options import computing_options
from threecad.cli.group import examples, json_option, print_json

if TYPE_CHECKING:
    from cfrg.monitoring.watching import Report

__all__ = ["monitor"]

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(
    epilog=examples(
        "cfrg monitor run predictions/predictions.jsonl --most-stopped 0.9 --html monitor.html",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument(
    "predictions", nargs=-1, type=click.Path(path_type=Path), metavar="[PREDICTIONS.JSONL]…"
)
@click.option(
    "--false-alarm-rate",
    type=_SHARE,
    default=0.01,
    show_default=True,
    metavar="R",
    help="Greatest chance of ever alarming without a change.",
)
@click.option(
    "--most-stopped",
    type=_SHARE,
    default=0.1,
    show_default=True,
    metavar="S",
    help="Share of stopped parts that is accepted.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Repeated photographs of one part: how far do scores and maps spread?",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the figure there, as monitor.png and monitor.pdf.",
)
@computing_options
@json_option
def monitor(
    run: Path,
    predictions: tuple[Path, ...],
    html: Path | None,
    figures: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask whether production still looks as it did when RUN was calibrated.

    Compares scores, brightness, contrast, sharpness and the place of the part in files
    predictions.jsonl, in the order of time, with the good images of the calibration, and says since
    about which part something differs and what to look at. The files may be growing: look again
    whenever you like, the chance of a false alarm is that of all looks together. Exit code 1 after
    an alarm.
    """
    from cfrg.monitoring.page import draw_report, write_report
    from cfrg.monitoring.watching import monitor
    from threecad.pages.figures import save_figure

    report = monitor(run, predictions, **options)
    if html:
        write_report(report, html)
    if figures and report.watched:
        save_figure(draw_report(report), figures, "monitor")
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.alarms:
        raise SystemExit(1)


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from cfrg.monitoring.page import describe_watched

    if report.warning:
        click.echo(f"Warning: {report.warning}", err=True)
    if report.watched:
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for head in ("usual", "found", "since part", "noticed at", "capital of that needed"):
            table.add_column(head, justify="right")
        for watched in report.watched:
            table.add_row(*describe_watched(watched).values())
        Console(width=100, highlight=False).print(table)
        broken = f", {report.broken:,} images that could not be read" if report.broken else ""
        click.echo(
            f"{report.parts:,} parts{broken}, against {report.reference:,} good images of the "
            "calibration"
        )
    if report.watched and report.missing:
        click.echo(f"Not in the files, and so not tested: {', '.join(report.missing)}")
    for sentence in report.sentences:
        click.echo(sentence)
