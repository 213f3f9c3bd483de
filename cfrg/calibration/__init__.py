"""Thresholds from good images, with the confidence that goes with them."""
