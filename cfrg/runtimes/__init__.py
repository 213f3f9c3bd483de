"""Networks outside PyTorch: written as graphs, opened in other runtimes, held against the model."""
