"""Run the benchmark on a GPU."""

import sys

from benchmarks.gpu import run

run.main(sys.argv[1:])
