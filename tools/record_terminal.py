"""Draw docs/images/terminal.svg: what a first look at the data prints, as a terminal shows it.

python tools/record_terminal.py [OUT.svg]
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 98
LINES = (
    "threecad sample 3cad --per-category 4 --category Copper_Stator",
    "threecad verify 3cad --deep",
    "threecad audit 3cad --near",
    "threecad stats 3cad --no-contrast",
)
DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "terminal.svg"


def record() -> Console:
    """Run the commands in an empty folder; return a console that holds what they printed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    looks = {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    with tempfile.TemporaryDirectory() as folder:
        for line in LINES:
            program, *words = shlex.split(line)
            finished = subprocess.run(
                [sys.executable, "-m", f"{program}.cli", *words],
                cwd=folder,
                env={**os.environ, **looks},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
            console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
            said = finished.stdout.rstrip().replace(f"{folder}/", "")
            console.print(Text.from_ansi(said))
            console.print()
    return console


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    record().save_svg(str(path), title="threecad", unique_id="threecad-terminal")
    print(path)
