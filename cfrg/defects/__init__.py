"""Synthetic defects, and the pairs the network is trained on."""
