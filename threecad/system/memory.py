"""Memory that a process has taken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

__all__ = ["peak_memory"]


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far, bytes; ``None`` if unknown."""
    try:  # on Linux the peak that getrusage gives is inherited from the parent process
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0])
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
