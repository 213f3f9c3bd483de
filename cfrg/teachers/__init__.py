"""Networks that others trained: what they are, and how their weights come in."""
