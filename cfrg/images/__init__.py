"""From an image file to what the network sees: size, foreground, tiles, a cache."""
