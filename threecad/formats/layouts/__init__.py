"""One module for each layout: how it is recognised, read and written."""
