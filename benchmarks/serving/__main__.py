"""Run the benchmark of the model server."""

import sys

from benchmarks.serving import run

run.main(sys.argv[1:])
