"""What it costs to import modelyard and to find the plugins, beside a bare Python."""

import statistics
import subprocess
import sys
import time
from functools import partial

from benchmarks.timing import compare
from modelyard import PluginManager

RUNS = 21
PROGRAMS = {
    "import modelyard": 10,
    "from modelyard import PyTorch": 100,
    "from modelyard import PluginManager; PluginManager.discover()": None,
}
"""Each with its aim: milliseconds over a bare Python."""


def _run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)


def _program_row(program: str, aim: int | None) -> str:
    compared = compare(partial(_run, program), partial(_run, "pass"), RUNS)
    ours, bare = compared.ours / 1000, compared.reference / 1000
    over = ours - bare
    verdict = "" if aim is None else f"{aim:>6}  {'met' if over < aim else 'MISSED'}"
    return f"{program:<64}{ours:>8.1f}{bare:>8.1f}{over:>8.1f}{ours / bare:>8.2f}{verdict}"


def _discover_again() -> float:
    """Return the median milliseconds of a discovery in a process that has done one before."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        PluginManager.discover()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    """Print the medians, over a bare Python and as a ratio to it."""
    print(f"{'':<64}{'ms':>8}{'bare':>8}{'over':>8}{'ratio':>8}{'aim':>6}")
    for program, aim in PROGRAMS.items():
        print(_program_row(program, aim), flush=True)
    print(f"{'PluginManager.discover(), once more in one process':<64}{_discover_again():>8.1f}")


if __name__ == "__main__":
    main()
