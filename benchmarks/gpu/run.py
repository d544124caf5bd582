"""The benchmark on a GPU, from its command line to its tables."""

import argparse
import contextlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from benchmarks.gpu import training
from benchmarks.serving import report
from benchmarks.serving.contenders import Cores, Launch, Place, launched, ours
from benchmarks.serving.environments import ROOT, Absent, Environment, default_cache
from benchmarks.serving.load import Load, generator, load
from benchmarks.serving.servers import Command, await_answer, scratch
from benchmarks.serving.workloads import NPY, Case, Workload
from modelyard.hardware import detection

ROUNDS, SECONDS, WARM_UP = 3, 3, 3
AIM = 0.95
MOST = 32
"""Rows of the largest request, and requests of the largest batch."""
ANYWHERE = Cores((), ())

Runs = dict[str, list[Load]]
Loop = Callable[[Path, int], float]
"""Returns how often the bare model answers a body in a second, from so many seconds."""


@attrs.frozen
class Network:
    """A model. `shape`: of one row; `values`: makes an input."""

    name: str
    title: str
    make: Callable[[], Any]
    shape: tuple[int, ...]
    values: Callable[[tuple[int, ...]], npt.NDArray[Any]]

    def workload(self, rows: int, connections: int, batch_size: int = 1) -> Workload:
        """Return the requests of so many rows each."""
        batches = f", batches of up to {batch_size}" if batch_size > 1 else ""
        return Workload(
            f"{self.name} x{rows}{' batched' if batches else ''}",
            f"{self.title}, {rows} row{'' if rows == 1 else 's'}{batches}",
            self.make,
            (rows, *self.shape),
            NPY,
            connections,
            batch_size,
            self.values,
            tolerance=2e-3,  # A GPU multiplies with fewer digits.
        )


def _resnet50() -> Any:
    from benchmarks.gpu import networks

    return networks.resnet50()


def _bert() -> Any:
    from benchmarks.gpu import networks

    return networks.bert()


def _pixels(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _words(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 30000, size=shape)


NETWORKS = {
    network.name: network
    for network in (
        Network("ResNet-50", "ResNet-50's shape, 3x224x224 in", _resnet50, (3, 224, 224), _pixels),
        Network("BERT-base", "BERT-base's shape, 128 words in", _bert, (128,), _words),
    )
}


def main(argv: Sequence[str] = ()) -> None:
    """Measure and print; where there is no GPU, say so."""
    asked = _arguments().parse_args(argv)
    found = detection.gpus()
    if not found.count:
        print(f"the benchmark on a GPU is left out: {found.said}")
        return
    # So that nothing which was started outlives a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds, seconds = (1, 2) if asked.quick else (ROUNDS, SECONDS)
    print(f"{found.said}; torch {version('torch')}; {generator()}")
    print(f"medians of {rounds} rounds by turns, of {seconds} s each after a warm-up", flush=True)
    with scratch() as folder:
        training.main(folder)
    contenders, absent = _contenders(asked.cache)
    aims = []
    for name in asked.only.split(",") if asked.only else NETWORKS:
        aims += _served(NETWORKS[name], contenders, absent, (rounds, seconds))
    print(f"\n{'ours, in answers per second':<48}{'ratio':>8}{'aim':>7}")
    print("\n".join(aims))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu",
        description="Train under `fit` and serve two networks on the GPU, beside the bare loop and LitServe.",
    )
    parser.add_argument("--quick", action="store_true", help="a first impression: one short round")
    parser.add_argument("--only", help=f"networks, with commas between them; of {', '.join(NETWORKS)}")
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="folder of LitServe's environment; %(default)s"
    )
    return parser


# -- who is compared -------------------------------------------------------------------------------


def _contenders(cache: Path) -> tuple[dict[str, tuple[Launch, str]], dict[str, str]]:
    """Return how each server is started and by which Python, and why the others are not there."""
    present, absent = {"ours": (ours(), sys.executable)}, {}
    try:
        present["litserve"] = _litserve, _python_with_litserve(cache)
    except Absent as reason:
        absent["litserve"] = str(reason)
    return present, absent


def _python_with_litserve(cache: Path) -> str:
    """Return this Python if it has LitServe, as where nothing can be installed, or one of its own."""
    if importlib.util.find_spec("litserve"):
        return sys.executable
    torch = f"torch=={version('torch').partition('+')[0]}"
    return str(Environment("litserve-gpu", ("litserve==0.2.19", "numpy", torch)).python(cache))


def _litserve(python: str, place: Place) -> Command:
    told = [str(place.port), place.case.workload.media_type, str(place.case.workload.batch_size), "cuda"]
    module = "benchmarks.serving.peers.litserve_server"
    return Command([python, "-m", module, *told], {"BENCH_FOLDER": str(place.case.folder)})


@contextlib.contextmanager
def _loop(case: Case) -> Iterator[Loop]:
    """Have the bare model ready on the GPU."""
    argv = [sys.executable, "-m", "benchmarks.gpu.bare", str(case.folder / "model" / "model.pt")]
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin  # noqa: S101 - it is a pipe, and so is the next one
        assert process.stdout  # noqa: S101
        tell, answers = process.stdin, process.stdout

        def rate(body: Path, seconds: int) -> float:
            tell.write(f"{body} {seconds}\n")
            tell.flush()
            return float(answers.readline())

        try:
            yield rate
        finally:
            tell.close()


# -- what is measured ------------------------------------------------------------------------------


def _served(
    network: Network,
    contenders: Mapping[str, tuple[Launch, str]],
    absent: Mapping[str, str],
    extent: tuple[int, int],
) -> list[str]:
    """Print a table for each kind of request, and return the lines of what was aimed at."""
    lines: list[str] = []
    with scratch() as folder:
        cases = {
            rows: _laid_out(network.workload(rows, 16 if rows == 1 else 4), folder) for rows in (1, 8, MOST)
        }
        batched = _laid_out(network.workload(1, 2 * MOST, MOST), folder)
        with _loop(cases[1]) as loop:
            # One server for all requests that it takes one by one, another for those in batches.
            for served in ([*cases.values()], [batched]):
                runs, out = _runs(served, contenders, loop, cases, extent)
                for case in served:
                    report.table(case.workload, runs[case.workload.name], {**absent, **out})
                    lines += _aims(case.workload, runs[case.workload.name])
    return lines


def _laid_out(workload: Workload, folder: Path) -> Case:
    return workload.lay_out(folder / workload.name.replace(" ", "-"))


def _runs(
    served: Sequence[Case],
    contenders: Mapping[str, tuple[Launch, str]],
    loop: Loop,
    cases: Mapping[int, Case],
    extent: tuple[int, int],
) -> tuple[dict[str, Runs], dict[str, str]]:
    """Measure these kinds of requests by turns; return the loads, and who could not be measured."""
    rounds, seconds = extent
    runs: dict[str, Runs] = {case.workload.name: {} for case in served}
    out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        measures = {}
        for name, (launch, python) in contenders.items():
            try:
                measures[name] = stack.enter_context(_serving(launch, python, served))
            except Absent as reason:
                out[name] = str(reason)
        for case in served:
            mine = runs[case.workload.name]
            for _ in range(rounds):
                for name, measure in measures.items():
                    mine.setdefault(name, []).append(measure(case, seconds))
                mine.setdefault("loop", []).append(_limit(loop, case, cases, seconds))
    return runs, out


@contextlib.contextmanager
def _serving(launch: Launch, python: str, served: Sequence[Case]) -> Iterator[Callable[[Case, int], Load]]:
    """Start a server and have it warm for each kind of request. Raises `Absent`."""
    with launched(launch, served[0], ANYWHERE, python) as server:
        for case in served:
            await_answer(server, case)
            load(case, server.port, server.path, WARM_UP, ())
        yield lambda case, seconds: load(case, server.port, server.path, seconds, ())


def _limit(loop: Loop, case: Case, cases: Mapping[int, Case], seconds: int) -> Load:
    """Return what the bare model does: as many answers as rows where a server may put requests together."""
    batch_size = case.workload.batch_size
    rate = loop((cases[batch_size] if batch_size > 1 else case).folder / "body", seconds)
    return Load(rate * batch_size, 1000 / rate, 1000 / rate)


def _aims(workload: Workload, runs: Runs) -> Iterator[str]:
    for other, aim in (("loop", AIM), ("litserve", 1.0)):
        if other in runs and "ours" in runs:
            found = report.ratio(runs["ours"], runs[other])
            yield report.aim_line(
                f"{workload.name}, of {other}", f"{found:.2f}", f"{aim:g}", met=found >= aim
            )
