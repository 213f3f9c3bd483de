"""List the files that a command enters, in order: ``python tools/walk.py threecad info 3cad``.

A file is entered when a function of it is called, not when it is imported. What ``cfrg`` and
``threecad`` do in other processes is not seen; say ``--workers 0`` where a command has it.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
PACKAGES = ("cfrg", "threecad")


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: what runs then is no part of the walk."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and "importlib" in str(
            frame.f_back and frame.f_back.f_code
        ):
            return True
        frame = frame.f_back
    return False


def main(words: list[str]) -> int:
    """Run ``words`` as a command and print the files it enters; return its exit code."""
    command = import_module(f"{words[0]}.cli").main
    entered: dict[str, str] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        path = code.co_filename
        if event != "call" or path in entered or not path.startswith(str(ROOT)):
            return
        package = Path(path).relative_to(ROOT).parts[0]
        if package in PACKAGES and code.co_flags & CO_OPTIMIZED and not _is_importing(frame):
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
