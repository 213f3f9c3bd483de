"""Can figures measured on this tree be trusted? Duplicates, odd masks, and the errata they make."""

from __future__ import annotations

from threecad.auditing.examination import MEANINGS, Audit, audit, meanings, union_mask

__all__ = ["MEANINGS", "Audit", "audit", "meanings", "union_mask"]
