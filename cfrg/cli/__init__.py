"""The ``cfrg`` command: each subcommand parses, calls one library function and prints.

The modules here import nothing heavy at module level, so that ``--help`` is instant.
"""

from __future__ import annotations

import click

from cfrg.cli.app import app
from cfrg.cli.bench import bench
from cfrg.cli.calibrate import calibrate
from cfrg.cli.evaluate import evaluate
from cfrg.cli.export import export
from cfrg.cli.import_checkpoint import import_checkpoint
from cfrg.cli.info import info
from cfrg.cli.monitor import monitor
from cfrg.cli.predict import predict
from cfrg.cli.serve import serve
from cfrg.cli.train import train
from threecad.cli.group import FriendlyGroup

__all__ = ["main"]


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="threecad")
def main() -> None:
    """Train, evaluate and use CFRG, the anomaly detector of 3CAD."""
    from cfrg.devices import suit_process_to_tensors

    suit_process_to_tensors()


for command in (
    app,
    bench,
    calibrate,
    evaluate,
    export,
    import_checkpoint,
    info,
    monitor,
    predict,
    serve,
    train,
):
    main.add_command(command)
