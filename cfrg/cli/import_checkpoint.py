"""``cfrg import-checkpoint``."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import examples, force_option

__all__ = ["import_checkpoint"]


@click.command(
    "import-checkpoint",
    epilog=examples("cfrg import-checkpoint model_Copper_Stator.pth --out imported-run"),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "run",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run folder to write.",
)
@click.option(
    "--category", metavar="C", help="What it was trained on.  [default: from the file's name]"
)
@force_option
def import_checkpoint(file: Path, run: Path, category: str | None, force: bool) -> None:
    """Convert a checkpoint of the authors' code (model_X.pth) into a run folder.

    Nothing in the file is executed. Every key and every shape must be those of the authors'
    network; parts that take no part in its result are left out, and named.
    """
    from cfrg.network.authors_checkpoint import convert_checkpoint

    imported = convert_checkpoint(file, run, category=category, force=force)
    for what, keys in imported.dropped.items():
        if keys:
            click.echo(f"left out {len(keys)} tensors: {what}", err=True)
    click.echo(f"Converted: {run}. Next: cfrg evaluate {run}", err=True)
