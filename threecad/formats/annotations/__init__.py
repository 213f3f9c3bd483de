"""Masks that annotations describe: shapes, run lengths, images of classes."""
