"""The code blocks of Markdown pages, and how each of them is run."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHELL = {"sh", "bash", "console"}

PART = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```[ ]*$"
    r"|<!--\s*(?P<kind>not run|slow|setup|file)\b:?(?P<text>.*?)-->",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code, and the comment before it.

    Attributes:
        page: Path from the repository's root.
        line: Line of its first line of code.
        kind: ``run``, ``slow``, ``not run``, ``setup`` (Python that the reader does not see), or
            ``file`` (what the reader is asked to save).
        reason: Why it is slow or not run; the name of the file.
    """

    page: str
    line: int
    language: str
    code: str
    kind: str
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def command_lines(self) -> list[str]:
        """The commands of a shell block; comments, prompts and printed output are left out."""
        lines = self.code.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def read_pages() -> dict[str, list[Block]]:
    """Return the blocks of the README, CONTRIBUTING and every page of the book, by page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {page.relative_to(ROOT).as_posix(): read_blocks(page) for page in pages}


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of one page, in their order."""
    text = page.read_text(encoding="utf-8")
    blocks, kind, reason = [], "run", ""
    for part in PART.finditer(text):
        if part["kind"] in ("slow", "not run", "file"):
            kind, reason = part["kind"], " ".join(part["text"].split())
            continue
        language, code = part["language"], part["code"]
        if part["kind"] == "setup":
            language, code, kind = "python", part["text"].strip("\n"), "setup"
        line = text.count("\n", 0, part.start("code" if part["code"] else "text")) + 1
        name = page.relative_to(ROOT).as_posix()
        blocks.append(Block(name, line, language, textwrap.dedent(code), kind, reason))
        kind, reason = "run", ""
    return blocks
