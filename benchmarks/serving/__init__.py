"""The model server beside its peers and its limits. ``python -m benchmarks.serving --help``."""
