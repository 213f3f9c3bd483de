"""From an image file to pixels, masks and regions, and back; it knows no dataset."""
