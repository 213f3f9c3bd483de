"""``cfrg app``."""

from __future__ import annotations

from pathlib import Path

import click

from cfrg.cli.options import listening_options, runtime_option
from threecad.cli.group import examples

__all__ = ["app"]


@click.command(
    epilog=examples(
        "cfrg app run",
        "cfrg app run other-run --root 3cad --port 8000",
        "cfrg app run --threshold 3.5 --pixel-threshold 3",
        "cfrg app run --host 0.0.0.0 --allow-host inspection.example",
    )
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="ROOT",
    help="Show examples from this tree.",
)
@click.option("--threshold", type=float, help="For image scores.  [default: the calibrated one]")
@click.option("--pixel-threshold", type=float, help="For maps.  [default: the calibrated one]")
@listening_options(7860, "browsers reach the page")
@click.option("--device", metavar="D", help="cpu, cuda, …  [default: CUDA if there is one]")
@runtime_option
def app(
    runs: tuple[str, ...],
    root: Path | None,
    threshold: float | None,
    pixel_threshold: float | None,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    device: str | None,
    runtime: str,
) -> None:
    """Open a web page to try detectors: drop an image, see the regions, move the threshold.

    RUN is a run folder or OWNER/NAME on the Hub; of several, the page offers a choice. Nothing is
    sent anywhere, and uploads are gone when the command ends. There is no password: whoever reaches
    the address can use the page.
    """
    from cfrg.app.inspector import load_inspectors
    from cfrg.app.server import serve

    inspectors = load_inspectors(
        runs,
        root=root,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        device=device,
        runtime=runtime,
    )
    serve(inspectors, host=host, port=port, allow_hosts=allow_hosts)
