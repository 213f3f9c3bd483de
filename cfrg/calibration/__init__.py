"""Finding thresholds on good images, with the confidence that goes with them."""
