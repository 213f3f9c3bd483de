"""What the book needs beyond its plugins: the examples of commands, CONTRIBUTING's pictures."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import cfrg.cli
import threecad.cli

if TYPE_CHECKING:
    import click
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Move each command's examples into its help, the only text that mkdocs-click shows."""
    for group in (threecad.cli.main, cfrg.cli.main):
        for command in group.commands.values():
            move_examples(command)
    return config


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return the text of a page; CONTRIBUTING stands above ``docs/``, and so do its pictures."""
    if page.file.src_uri != "contributing.md":
        return markdown
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")


def move_examples(command: click.Command) -> None:
    """Append the examples in the epilog of a command to its help, as a code block."""
    _, _, examples = (command.epilog or "").partition("Examples:\n")
    command.epilog = None
    if examples:
        text = inspect.cleandoc(command.help or "").replace("\b\n", "")
        command.help = "\n".join([text, "", "```console", textwrap.dedent(examples), "```"])
