"""Our command lines, run in this process as a user would type them."""

from __future__ import annotations

import shlex

from click.testing import CliRunner, Result

import cfrg.cli
import threecad.cli

GROUPS = {"threecad": threecad.cli.main, "cfrg": cfrg.cli.main}


def run_line(line: str) -> Result:
    """Run a command line of ours; comments in it are left out."""
    program, *words = shlex.split(line, comments=True)
    return run_words(program, words)


def run_words(program: str, words: list[str]) -> Result:
    """Run a command of ours that is split already."""
    return CliRunner().invoke(GROUPS[program], words, catch_exceptions=False)
