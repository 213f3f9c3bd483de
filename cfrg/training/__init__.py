"""The training loop, its options, and the run folder it fills."""
