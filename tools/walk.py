"""List the files that a command enters, in order: ``python tools/walk.py threecad info 3cad``.

A file is entered when a function of it is called, not when it is imported. What ``cfrg`` and
``threecad`` do in other processes is not seen; say ``--workers 0`` where a command has it.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
PACKAGES = ("cfrg", "threecad")


def main(words: list[str]) -> int:
    """Run ``words`` as a command and print the files it enters; return its exit code."""
    command = import_module(f"{words[0]}.cli").main
    entered: dict[str, str] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<"):
            return
        path = code.co_filename
        if path not in entered and Path(path).is_relative_to(ROOT):
            package = Path(path).relative_to(ROOT).parts[0]
            if package in PACKAGES:
                entered[path] = code.co_name

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        command(words[1:], standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        for number, (path, name) in enumerate(entered.items(), 1):
            print(f"{number:3} {Path(path).relative_to(ROOT)}: {name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
