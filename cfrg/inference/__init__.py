"""The predictor: from images to anomaly maps, scores, regions and decisions."""
