"""Pixels, masks and regions: from a file to arrays, and back."""
