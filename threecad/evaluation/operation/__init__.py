"""Figures at one threshold: what is found, what is stopped, and whether for the right reason."""
