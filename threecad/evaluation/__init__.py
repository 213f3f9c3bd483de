"""From anomaly maps to figures, exact within a certified interval."""
