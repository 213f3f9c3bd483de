"""The page: drop an image, see what the detector says."""
