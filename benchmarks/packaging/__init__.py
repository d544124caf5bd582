"""Packing source, giving a model other code, and submitting a job. ``python -m benchmarks.packaging``."""

from benchmarks.packaging.run import main

__all__ = ["main"]
