"""The tables, and whether the aims are met."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import attrs

from benchmarks.serving.load import Load
from benchmarks.serving.workloads import Workload

Runs = Mapping[str, Sequence[Load]]
"""Of one workload: each contender's rounds, in the order in which they were run."""

OURS = "ours"


@attrs.frozen
class Aim:
    """How many times the answers per second of another ours is to give; `quicker`: with a lower p99 too."""

    workloads: tuple[str, ...]
    other: str
    ratio: float
    quicker: bool = False


_INCUMBENT = "sagemaker-torchserve"
AIMS = (
    *(Aim(("W1", "W1J"), other, 20, quicker=True) for other in ("litserve", _INCUMBENT)),
    *(Aim(("W2x1", "W3"), other, 10) for other in ("litserve", _INCUMBENT)),
    *(Aim(("W2x32",), other, 3) for other in ("litserve", _INCUMBENT)),
    Aim(("W4",), "litserve", 15),
    *(Aim(("W4",), other, 3) for other in (_INCUMBENT, "torchserve")),
    Aim(("W4",), "ours-unbatched", 2),
    Aim(("W1", "W1J"), "yardstick", 0.6),
    Aim(("W2x1", "W2x32"), "yardstick", 0.8),
    Aim(("W3",), "yardstick", 0.5),
    Aim(("W2x32",), "loop", 0.85),
)


def ratio(ours: Sequence[Load], other: Sequence[Load]) -> float:
    """Return the median of the rounds' own ratios: a machine that slows down slows both sides of a round."""
    return median(our.rate / their.rate for our, their in zip(ours, other, strict=True))


def table(workload: Workload, runs: Runs, absent: Mapping[str, str]) -> None:
    """Print the medians of one workload, the fastest first; `absent`: who is not there, and why."""
    print(f"\n{workload.name}: {workload.title}; {workload.connections} connections")
    print(f"{'':<24}{'answers/s':>11}{'from':>10}{'to':>10}{'p50 ms':>9}{'p99 ms':>9}{'ours is':>10}")
    for name in sorted(runs, key=lambda name: -median(load.rate for load in runs[name])):
        rates = [load.rate for load in runs[name]]
        p50, p99 = (median(getattr(load, what) for load in runs[name]) for what in ("p50", "p99"))
        times = f"{ratio(runs[OURS], runs[name]):>9.2f}x" if OURS in runs else ""
        spread = f"{median(rates):>11,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}"
        print(f"{name:<24}{spread}{p50:>9.2f}{p99:>9.2f}{times}")
    for name, reason in absent.items():
        print(f"{name:<24}  absent: {reason}")


def aims(results: Mapping[str, Runs]) -> None:
    """Print each aim that the results of the workloads can tell of."""
    print(f"\n{'ours, in answers per second':<48}{'ratio':>8}{'aim':>7}")
    for line in (line for aim in AIMS for line in _aim_lines(aim, results)):
        print(line)


def _aim_lines(aim: Aim, results: Mapping[str, Runs]) -> Iterator[str]:
    for name in aim.workloads:
        runs = results.get(name, {})
        if OURS not in runs or aim.other not in runs:
            continue
        found = ratio(runs[OURS], runs[aim.other])
        yield aim_line(f"{name}, of {aim.other}", f"{found:.2f}", f"{aim.ratio:g}", met=found >= aim.ratio)
        if aim.quicker:
            ours, other = (median(load.p99 for load in runs[each]) for each in (OURS, aim.other))
            label = f"{name}, p99 in ms, below that of {aim.other}"
            yield aim_line(label, f"{ours:.2f}", f"{other:.2f}", met=ours < other)


def aim_line(label: str, found: str, wanted: str, *, met: bool) -> str:
    """Return a line of a list of aims."""
    return f"{label:<48}{found:>8}{wanted:>7}  {'met' if met else 'MISSED'}"
