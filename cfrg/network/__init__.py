"""The network, its parts and weights; ``processing``, the one way from image to decision."""
