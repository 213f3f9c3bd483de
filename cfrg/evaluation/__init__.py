"""How good, how fast and how big a detector is, and what it has to beat."""
