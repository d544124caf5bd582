"""What one way of doing something costs, and the medians of several."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import attrs

RUNS = 5


@attrs.frozen
class Cost:
    """Seconds by the clock and of the CPU."""

    wall: float
    cpu: float


def python(python: str | Path, program: str, *arguments: Path) -> Cost:
    """Run a program that prints its cost, by that Python and in the folder that is its last argument."""
    done = subprocess.run(
        [python, "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=arguments[-1]
    )
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def shell(script: str, *arguments: Path | str) -> Cost:
    """Run a script of the shell, whose cost to the CPU is not known."""
    start = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", script, *arguments], check=True)
    return Cost(time.perf_counter() - start, 0)


def settled(measure: Callable[[], Cost]) -> Cost:
    """Measure once nothing that was written before is on its way to the disk."""
    os.sync()
    return measure()


def medians(costs: list[Cost]) -> Cost:
    """Return the medians, each by itself."""
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))
