"""From anomaly maps to figures (AUROC, AP, PRO …), exact within a certified interval."""
