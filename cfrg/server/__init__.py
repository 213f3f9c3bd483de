"""Detectors over HTTP, for other programs: photographs in, predictions out."""
