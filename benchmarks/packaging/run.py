"""All of them, one after the other."""

import tempfile
from pathlib import Path

from benchmarks.packaging import fit, repack, sources


def main() -> None:
    """Print medians and whether the aims are met."""
    for benchmark in (sources, fit, repack):
        with tempfile.TemporaryDirectory() as name:
            benchmark.run(Path(name))
