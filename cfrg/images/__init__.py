"""From an image file to what the network sees."""
