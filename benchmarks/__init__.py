"""Measurements: each figure stands beside a baseline of the same run. ``python -m benchmarks`` runs all."""
