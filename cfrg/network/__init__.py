"""The network, its parts, its weights, and the file they travel in."""
