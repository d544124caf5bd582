"""Run the benchmarks of packaging."""

from benchmarks.packaging import main

main()
