"""Load on a server: wrk, or where that is absent a simple generator of our own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import attrs

from benchmarks.serving.environments import Absent
from benchmarks.serving.workloads import Case

HERE = Path(__file__).parent


@attrs.frozen
class Load:
    """What came of it: answers per second, and milliseconds."""

    rate: float
    p50: float
    p99: float


def generator() -> str:
    """Return the name and version of what makes the load, for the report."""
    wrk = shutil.which("wrk")
    if not wrk:
        return "load by Python, which is slower than a fast server: install wrk (apt install wrk)"
    done = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False)
    return " ".join((done.stdout or done.stderr).split()[:2])


def pinned(argv: list[str], cores: Collection[int]) -> list[str]:
    """Return the command that runs `argv` on these cores only; on any, where there is no taskset."""
    if not cores or not shutil.which("taskset"):
        return argv
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *argv]


def load(case: Case, port: int, path: str, seconds: int, cores: Collection[int]) -> Load:
    """Send the case's request over its connections for `seconds`. Raises `Absent` unless all get a 200."""
    url, connections = f"http://127.0.0.1:{port}{path}", str(case.workload.connections)
    if shutil.which("wrk"):
        argv = ["wrk", "-t", "1", "-c", connections, "-d", f"{seconds}s", "--timeout", "20s", "--latency"]
        argv += ["-s", str(HERE / "load.lua"), url]
    else:
        argv = [sys.executable, str(HERE / "simple_load.py"), str(port), path, connections, str(seconds)]
    environ = {
        **os.environ,
        "BENCH_BODY": str(case.folder / "body"),
        "BENCH_MEDIA_TYPE": case.workload.media_type,
    }
    done = subprocess.run(
        pinned(argv, cores), env=environ, capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["answers"]:
        raise Absent(f"{found['failed']} requests got no 200, beside {found['answers']} answers")
    return Load(found["answers"] / found["seconds"], found["p50"], found["p99"])
