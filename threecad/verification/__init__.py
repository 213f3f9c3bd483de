"""Is this tree complete and sound? Structure, counts, files, masks and the manifest."""

from __future__ import annotations

from threecad.verification.checking import Expectation, verify

__all__ = ["Expectation", "verify"]
