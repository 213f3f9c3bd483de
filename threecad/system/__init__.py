"""Files, folders, processes: atomic writing, caches, locks, workers; it knows no images."""
