"""Scores counted: from maps to bins, and from bins to certified bounds."""
