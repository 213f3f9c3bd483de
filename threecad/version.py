"""The version of both packages, in a place that all may read."""

__all__ = ["__version__"]

__version__ = "0.1.0"
