"""``cfrg serve``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cfrg.cli.options import listening_options, runtime_option
from threecad.cli.group import examples

__all__ = ["serve"]


@click.command(
    epilog=examples(
        "cfrg serve run",
        "cfrg serve run lid=other-run --workers 2 --port 9000",
        "cfrg serve run --host 0.0.0.0 --allow-host inspection.example --token-file token.txt",
    )
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@listening_options(8000, "the server is called")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Ask callers for the token in this file.  [default: in CFRG_TOKEN, else none]",
)
@click.option(
    "--root-path", default="", metavar="PATH", help="Where a proxy has put it, e.g. /inspection."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="W",
    help="Threads that decode and compute.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Waiting images, or tiles, computed at a time; more help on a GPU.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests that may wait; more are told to come again (429).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    metavar="S",
    help="Seconds a request may take.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=32 << 20,
    show_default=True,
    metavar="N",
    help="Of a request.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=1 << 25,
    show_default=True,
    metavar="N",
    help="Of an image.",
)
@click.option("--device", metavar="D", help="cpu, cuda, …  [default: CUDA if there is one]")
@runtime_option
def serve(
    runs: tuple[str, ...],
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    token_file: Path | None,
    root_path: str,
    workers: int,
    batch_size: int,
    queue: int,
    timeout: float,
    max_bytes: int,
    max_pixels: int,
    device: str | None,
    runtime: str,
) -> None:
    """Answer for detectors over HTTP: photographs in, predictions out.

    RUN is a run folder or OWNER/NAME on the Hub, NAME=RUN to give it a name. POST /predict takes
    images, /v2 speaks the Open Inference Protocol, /metrics has figures for Prometheus, /docs says
    the rest. Told to end, it answers those who wait first.
    """
    from cfrg.server.serving import read_token
    from cfrg.server.serving import serve as serve_runs

    serve_runs(
        runs,
        host=host,
        port=port,
        allow_hosts=allow_hosts,
        token=read_token(token_file) if token_file else os.environ.get("CFRG_TOKEN"),
        root_path=root_path,
        workers=workers,
        batch_size=batch_size,
        queue=queue,
        timeout=timeout,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        device=device,
        runtime=runtime,
    )
