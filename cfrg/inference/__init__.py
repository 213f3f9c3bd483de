"""From images to anomaly maps, scores, regions and decisions."""
