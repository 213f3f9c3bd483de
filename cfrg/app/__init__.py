"""The page in a browser: drop an image, see what the detector says."""
