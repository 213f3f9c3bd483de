"""The network and its parts; ``processing``, the one way from image to decision."""
