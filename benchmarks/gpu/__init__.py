"""What modelyard costs on a GPU, against the bare script and the bare model; ``python -m benchmarks.gpu``."""
