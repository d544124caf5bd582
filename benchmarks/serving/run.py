"""The benchmark of the model server, from its command line to its tables."""

import argparse
import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from benchmarks.serving import report
from benchmarks.serving.contenders import CONTENDERS, Contender, Cores, Measure
from benchmarks.serving.costs import costs
from benchmarks.serving.environments import Absent, default_cache
from benchmarks.serving.load import Load, generator
from benchmarks.serving.servers import scratch
from benchmarks.serving.workloads import WORKLOADS, Case, Workload

T = TypeVar("T")
ROUNDS, SECONDS = 5, 3
QUICK_ROUNDS, QUICK_SECONDS = 2, 1
TRIES = 2
"""TorchServe's start under SageMaker's toolkit fails now and then: it looks through all processes."""


def main(argv: Sequence[str] = ()) -> None:
    """Measure what was asked for and print it."""
    # So that nothing which was started outlives a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    asked = _arguments().parse_args(argv)
    quick = asked.quick
    rounds = asked.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    seconds = asked.seconds or (QUICK_SECONDS if quick else SECONDS)
    contenders = [_found(CONTENDERS, name) for name in asked.only.split(",")] if asked.only else []
    workloads = [_found(WORKLOADS, name) for name in asked.workloads.split(",")] if asked.workloads else []
    cores = Cores.found()
    _machine(cores, rounds, seconds)
    cores = cores or Cores((), ())
    present, absent = _prepared(contenders or CONTENDERS.values(), asked.cache)
    results = {}
    for workload in workloads or WORKLOADS.values():
        results[workload.name] = _compared(workload, present, absent, (rounds, seconds), cores)
    report.aims(results)
    if not asked.no_costs and "ours" in {contender.name for contender in present}:
        costs(rounds, seconds, cores)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving",
        description="Load our model server, a yardstick and its peers in turn, and print medians and ratios.",
        epilog=f"Contenders: {', '.join(CONTENDERS)}. Workloads: {', '.join(WORKLOADS)}. "
        "Example: --only ours,yardstick --workloads W1,W3 --rounds 3 --seconds 2",
    )
    parser.add_argument("--quick", action="store_true", help="a first impression: few and short rounds")
    parser.add_argument("--only", help="contenders, with commas between them; all of them otherwise")
    parser.add_argument("--workloads", help="workloads, with commas between them; all of them otherwise")
    parser.add_argument("--rounds", type=int, help=f"of each contender and workload; {ROUNDS}")
    parser.add_argument("--seconds", type=int, help=f"whole seconds of one load; {SECONDS}")
    parser.add_argument("--no-costs", action="store_true", help="leave out start, memory and second worker")
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder of the peers' environments; %(default)s"
    )
    return parser


def _found(known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise SystemExit(f"there is no {name!r}; there are {', '.join(known)}")
    return known[name]


def _prepared(contenders: Iterable[Contender], cache: Path) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that are installed now, and why the others are not."""
    present, absent = [], {}
    for contender in contenders:
        try:
            contender.prepare(cache)
        except Absent as reason:
            absent[contender.name] = str(reason)
        else:
            present.append(contender)
    return present, absent


def _compared(
    workload: Workload,
    contenders: Iterable[Contender],
    absent: Mapping[str, str],
    extent: tuple[int, int],
    cores: Cores,
) -> report.Runs:
    """Measure one workload by turns, so that whatever slows the machine down slows all of them."""
    rounds, seconds = extent
    mine = [each for each in contenders if not each.workloads or workload.name in each.workloads]
    out = dict(absent)
    runs: dict[str, list[Load]] = {}
    with scratch() as folder, contextlib.ExitStack() as stack:
        case = workload.lay_out(folder)
        measures = dict(_running(mine, case, cores, stack, out))
        for turn in range(rounds):
            for name, measure in measures.items():
                if name in out:
                    continue
                _say(f"{workload.name}, round {turn + 1} of {rounds}: {name}")
                try:
                    runs.setdefault(name, []).append(measure(seconds))
                except Absent as reason:
                    out[name] = str(reason)
                    runs.pop(name, None)
    _say("")
    report.table(workload, runs, out)
    return runs


def _running(
    contenders: Iterable[Contender],
    case: Case,
    cores: Cores,
    stack: contextlib.ExitStack,
    out: dict[str, str],
) -> Iterator[tuple[str, Measure]]:
    """Start what can be started, until the stack ends; note in `out` why the rest cannot."""
    for contender in contenders:
        _say(f"{case.workload.name}: starting {contender.name}")
        for _ in range(TRIES):
            out.pop(contender.name, None)
            try:
                yield contender.name, stack.enter_context(contender.running(case, cores))
                break
            except Absent as reason:
                out[contender.name] = str(reason)


def _machine(cores: Cores | None, rounds: int, seconds: int) -> None:
    """Print where and how it is measured."""
    where = (
        "server and load on any core"
        if cores is None
        else (f"server on core {','.join(map(str, cores.server))}, load on {','.join(map(str, cores.load))}")
    )
    print(f"{_cpu()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {where}")
    print(f"Python {platform.python_version()}; {', '.join(map(_version, VERSIONS))}; {generator()}")
    print(f"medians of {rounds} rounds by turns, of {seconds} s each after a warm-up", flush=True)


VERSIONS = ("modelyard", "torch", "numpy", "uvicorn", "httptools", "uvloop", "gunicorn")


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _say(text: str) -> None:
    """Show on a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"\r{text:<72}", end="" if text else "\r", file=sys.stderr, flush=True)
