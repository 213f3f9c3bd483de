"""Our command lines, run in this process as a user would type them."""

from __future__ import annotations

import shlex

from click.testing import CliRunner, Result

import cfrg.cli
import threecad.cli

GROUPS = {"threecad": threecad.cli.main, "cfrg": cfrg.cli.main}


def run_line(line: str) -> Result:
    """Run a command line of ours; comments in it are left out."""
    program, *arguments = shlex.split(line, comments=True)
    return CliRunner().invoke(GROUPS[program], arguments, catch_exceptions=False)
