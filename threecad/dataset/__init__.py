"""A tree of images: samples, splits, corrections, and what is known of the dataset."""
