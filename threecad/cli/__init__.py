"""The ``threecad`` command: each subcommand parses, calls one library function and prints.

The modules here import nothing heavy at module level, so that ``--help`` is instant.
"""

from __future__ import annotations

import click

from threecad.cli.audit import audit
from threecad.cli.benchmark import benchmark
from threecad.cli.convert import convert, import_
from threecad.cli.demo import demo
from threecad.cli.doctor import cache, doctor
from threecad.cli.download import cite, download
from threecad.cli.evaluate import compare, evaluate
from threecad.cli.group import FriendlyGroup
from threecad.cli.info import info
from threecad.cli.push import push
from threecad.cli.sample import sample
from threecad.cli.split import split
from threecad.cli.stats import stats
from threecad.cli.verify import verify
from threecad.cli.view import view

__all__ = ["main"]


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="threecad")
def main() -> None:
    """Download, check, describe, convert and evaluate 3CAD, industrial surface defects."""


for command in (
    audit,
    benchmark,
    cache,
    cite,
    compare,
    convert,
    demo,
    doctor,
    download,
    evaluate,
    import_,
    info,
    push,
    sample,
    split,
    stats,
    verify,
    view,
):
    main.add_command(command)
