"""A tree of images: its samples, splits, corrections, duplicates, and the facts about 3CAD."""
