"""What the server costs beside answering: time until it is ready, memory; and what a second worker brings."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

import psutil

from benchmarks.serving.contenders import Cores, launched, ours
from benchmarks.serving.environments import ROOT
from benchmarks.serving.load import Load, load, pinned
from benchmarks.serving.report import aim_line, ratio
from benchmarks.serving.servers import Server, await_answer, scratch
from benchmarks.serving.workloads import WORKLOADS, Case

READY_SECONDS = 1.0
MEMORY_MB = 60
TWO_WORKERS = 1.8
MB = 1024 * 1024


def costs(rounds: int, seconds: int, cores: Cores) -> None:
    """Print what each is, and whether its aim is met."""
    print(f"\n{'ours, besides':<48}{'found':>8}{'aim':>7}")
    with scratch() as folder:
        small, large = (WORKLOADS[name].lay_out(folder / name) for name in ("W2x1", "W2x32"))
        for line in (*_readiness(small, rounds, cores), *_memory(small, seconds, cores)):
            print(line, flush=True)
        for line in _second_worker(large, rounds, seconds):
            print(line, flush=True)


def _readiness(case: Case, rounds: int, cores: Cores) -> Iterator[str]:
    """Compare the time until a ping is answered by 200 with that of a process that imports torch."""
    turns = [(_seconds_to_ready(case, cores), _seconds_to_import(cores)) for _ in range(rounds)]
    beyond = median(ready - torch for ready, torch in turns)
    ready, torch = (median(times) for times in zip(*turns, strict=True))
    label = f"ready, s beyond import torch ({ready:.2f} and {torch:.2f})"
    yield aim_line(label, f"{beyond:.2f}", f"{READY_SECONDS:g}", met=beyond < READY_SECONDS)


def _seconds_to_ready(case: Case, cores: Cores) -> float:
    start = time.monotonic()
    with launched(ours(), case, cores) as server:
        while not _pings(server):
            if server.process.poll() is not None or time.monotonic() > start + 60:
                raise RuntimeError(f"not ready: {server.log.read_text()}")
            time.sleep(0.005)
        return time.monotonic() - start


def _pings(server: Server) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _seconds_to_import(cores: Cores) -> float:
    start = time.monotonic()
    subprocess.run(pinned([sys.executable, "-c", "import torch"], cores.server), check=True)
    return time.monotonic() - start


def _memory(case: Case, seconds: int, cores: Cores) -> Iterator[str]:
    """Compare a worker after a load with a process that has answered the same request once."""
    argv = [sys.executable, "-m", "benchmarks.serving.bare", str(case.folder), case.workload.media_type, "0"]
    bare = psutil.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        bare.stdout.readline()
        without = _resident(bare)
    finally:
        bare.communicate(timeout=30)
    with launched(ours(), case, cores) as server:
        await_answer(server, case)
        load(case, server.port, server.path, seconds, cores.load)
        processes = sorted((_resident(process) for process in server.processes()), reverse=True)
    more = processes[0] - without
    label = f"MB of a worker beyond torch and model ({processes[0]:.0f}, {without:.0f})"
    yield aim_line(label, f"{more:.0f}", f"{MEMORY_MB}", met=more < MEMORY_MB)
    for each in processes[1:]:
        yield f"{'MB of another process of the server':<48}{each:>8.0f}"


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MB


def _second_worker(case: Case, rounds: int, seconds: int) -> Iterator[str]:
    """Compare two workers with one, on two cores beside that of the load if there are three."""
    cores = Cores.found(servers=2)
    runs: dict[int, list[Load]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, loads in runs.items():
            loads.append(_loaded(case, workers, seconds, cores or Cores((), ())))
    found = ratio(runs[2], runs[1])
    one, two = (median(load.rate for load in runs[workers]) for workers in (1, 2))
    label = f"{case.workload.name}, two workers of one ({two:,.0f} and {one:,.0f})"
    line = aim_line(label, f"{found:.2f}", f"{TWO_WORKERS:g}", met=found >= TWO_WORKERS)
    yield line if cores else f"{line}; unpinned: with under 3 cores the load takes its share of them"


def _loaded(case: Case, workers: int, seconds: int, cores: Cores) -> Load:
    with launched(ours(workers), case, cores) as server:
        await_answer(server, case)
        load(case, server.port, server.path, 1, cores.load)
        return load(case, server.port, server.path, seconds, cores.load)
