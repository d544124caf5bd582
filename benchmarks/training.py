"""What running under modelyard costs a training script: at its start, while it trains, and when a rank dies.

The limits are the bare tools, run by hand: ``python``, ``torchrun`` and ``mpirun``.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from modelyard import PyTorch
from modelyard.core.errors import JobFailedError

RUNS = 9
AIM_MS = 60
AIM_THROUGHPUT = 0.98
AIM_FAILED_S = 5
DEATHS = 5
STEPS = 200

FIRST_LINE = "import time; print('first line at', time.monotonic(), flush=True)\n"
TRAIN = f"""
import time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch, labels = torch.randn(256, 256), torch.randint(10, (256,))
start = time.perf_counter()
for step in range({STEPS}):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(batch), labels)
    loss.backward()
    optimizer.step()
    print(f"step {{step}} loss={{loss.item():.4f}}", flush=True)
print("steps per second", {STEPS} / (time.perf_counter() - start))
"""
KILLED = """
import os, signal, time
if os.environ["SM_CURRENT_HOST"] == "algo-2":
    print("killed at", time.monotonic(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(300)
"""


@attrs.frozen
class Tool:
    """A launcher's tool: how it is run by hand, and what has the in-job program use it."""

    name: str
    argv: Sequence[str]
    settings: Mapping[str, object]


def tools() -> list[Tool]:
    """Return the tools that are installed."""
    found = [
        Tool("python", (sys.executable,), {}),
        Tool(
            "torchrun",
            (sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "1"),
            {"sagemaker_torch_distributed_enabled": True},
        ),
    ]
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun:
        argv = (mpirun, "--allow-run-as-root", "-np", "1", sys.executable)
        found.append(Tool("mpirun", argv, {"sagemaker_mpi_enabled": True}))
    return found


def _job(folder: Path, tool: Tool) -> Path:
    """Lay out a job for the in-job program, as another client than modelyard would."""
    config, code = folder / "input" / "config", folder / "code"
    config.mkdir(parents=True)
    code.mkdir()
    (code / "train.py").write_text(FIRST_LINE)
    told = {"sagemaker_program": "train.py", **tool.settings}
    encoded = {name: json.dumps(value) for name, value in told.items()}
    (config / "hyperparameters.json").write_text(json.dumps(encoded))
    hosts = {"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    return folder


def _milliseconds(argv: Sequence[str], folder: Path) -> float:
    """Return the time from the tool's start to the script's first line."""
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    done = subprocess.run(
        argv, cwd=folder / "code", env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    line = next(line for line in done.stdout.splitlines() if "first line at" in line)
    return (float(line.split()[-1]) - start) * 1000


def launches(folder: Path) -> None:
    """Print what each launcher adds to its tool: the median of the differences of paired runs."""
    title = "from the start to the first line of the script"
    print(f"{title:<48}{'bare ms':>8}{'ours':>8}{'added':>8}{'aim':>6}")
    for tool in tools():
        job = _job(folder / tool.name, tool)
        turns = []
        for _ in range(RUNS):
            bare = _milliseconds((*tool.argv, "train.py"), job)
            turns.append((bare, _milliseconds((sys.executable, "-P", "-m", "modelyard.training"), job)))
        bare, ours = (median(times) for times in zip(*turns, strict=True))
        added = median(with_us - without for without, with_us in turns)
        verdict = "met" if added <= AIM_MS else "MISSED"
        print(f"{tool.name:<48}{bare:>8.0f}{ours:>8.0f}{added:>8.0f}{AIM_MS:>6}  {verdict}", flush=True)


def throughput(folder: Path) -> None:
    """Print the steps per second of a script under `fit`, as a ratio to the same script by hand."""
    script = folder / "train.py"
    script.write_text(TRAIN)
    ratios = [_under_fit(script) / _by_hand(script) for _ in range(RUNS)]
    ratio = median(ratios)
    verdict = "met" if ratio >= AIM_THROUGHPUT else "MISSED"
    title = f"throughput of {STEPS} steps under fit, of that by hand"
    print(f"{title:<64}{ratio:>8.3f}{AIM_THROUGHPUT:>6}  {verdict}")


def _by_hand(script: Path) -> float:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return _steps_per_second(done.stdout)


def _under_fit(script: Path) -> float:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        PyTorch(script).fit()
    return _steps_per_second(said.getvalue())


def _steps_per_second(text: str) -> float:
    return float(next(line for line in text.splitlines() if "steps per second" in line).split()[-1])


def deaths(folder: Path) -> None:
    """Print how long after the rank of one of two hosts was killed the job has failed, hosts and all."""
    script = folder / "train.py"
    script.write_text(KILLED)
    title = "from the death of a rank to the failure of the job"
    print(f"{title:<64}{'s':>8}{'aim':>6}")
    ways = {"process": {}, "torchrun": {"torch_distributed": {"enabled": True}}}
    if any(tool.name == "mpirun" for tool in tools()):
        ways["mpirun"] = {"mpi": {"enabled": True}}
    for name, distribution in ways.items():
        seconds = median(_seconds_to_fail(script, distribution) for _ in range(DEATHS))
        verdict = "met" if seconds <= AIM_FAILED_S else "MISSED"
        print(f"{name:<64}{seconds:>8.2f}{AIM_FAILED_S:>6}  {verdict}", flush=True)


def _seconds_to_fail(script: Path, distribution: Mapping[str, Any]) -> float:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(JobFailedError):
        PyTorch(script, instance_count=2, distribution=distribution).fit()
    failed = time.monotonic()
    line = next(line for line in said.getvalue().splitlines() if "killed at" in line)
    return failed - float(line.split()[-1])


def main() -> None:
    """Print the three tables."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["MODELYARD_HOME"] = str(Path(name, "home"))
        launches(Path(name))
        throughput(Path(name))
        deaths(Path(name))


if __name__ == "__main__":
    main()
