"""Timing two ways of doing one thing, by turns."""

import time
from collections.abc import Callable, Iterable
from statistics import median

import attrs

BATCH_SECONDS = 0.002
"""How long a batch of calls takes at least: a hundred times what the clock adds to it."""


@attrs.frozen
class Comparison:
    """Medians: microseconds of one call, and how many times as fast as the reference ours is."""

    ours: float
    reference: float
    ratio: float


@attrs.frozen
class Row:
    """A line of a table: what was compared, and the ratio that it should reach, if any."""

    label: str
    comparison: Comparison
    aim: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the aim is met."""
        if self.aim is None:
            return ""
        return "met" if self.comparison.ratio >= self.aim else "MISSED"


def compare(ours: Callable[[], object], reference: Callable[[], object], repeats: int = 41) -> Comparison:
    """Return the medians over `repeats` turns, each a batch of calls of one and of the other.

    The ratio is the median of the turns' own ratios: a machine that slows down slows both halves
    of a turn down.
    """
    our_size, reference_size = _batch_size(ours), _batch_size(reference)
    turns = [
        (_microseconds(ours, our_size), _microseconds(reference, reference_size)) for _ in range(repeats)
    ]
    ratios = [reference_time / our_time for our_time, reference_time in turns]
    our_times, reference_times = zip(*turns, strict=True)
    return Comparison(median(our_times), median(reference_times), median(ratios))


def _batch_size(function: Callable[[], object]) -> int:
    """Return how many calls make a batch; the calls made to find out also fill the caches."""
    size = 1
    while _microseconds(function, size) * size < BATCH_SECONDS * 1e6:
        size *= 2
    return size


def _microseconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls * 1e6


def table(rows: Iterable[Row]) -> None:
    """Print the rows, each as it is measured."""
    print(f"{'':<36}{'ours us':>10}{'reference us':>14}{'ratio':>8}{'aim':>6}")
    for row in rows:
        compared = row.comparison
        figures = f"{compared.ours:>10.2f}{compared.reference:>14.2f}{compared.ratio:>8.1f}"
        aim = "" if row.aim is None else f"{row.aim:g}"
        print(f"{row.label:<36}{figures}{aim:>6}  {row.verdict}", flush=True)
