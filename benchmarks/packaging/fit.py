"""Submitting a job: ``fit(wait=False)`` in a new process, against SDK v2 doing the same.

The service is moto's server, in an environment of its own. Both programs are the same but for the name of
the package; each run has other source, for what we have uploaded once we do not upload again. Times are
those of the whole process, so what it takes to start a Python and to import is in them.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO, cast
from urllib.request import Request, urlopen

from benchmarks.packaging.costs import Cost, medians
from benchmarks.packaging.peer import SDK
from benchmarks.serving.environments import Absent, Environment, default_cache

RUNS = 7
AIM = 3
BUCKET = "jobs-of-a-benchmark"
"""Not the default one: for that SDK v2 calls AWS itself, whatever the endpoint."""
MOTO = Environment("moto", ("moto[server]==5.*",))
PROGRAM = """
import sys
from {package}.pytorch import PyTorch
estimator = PyTorch(
    entry_point="train.py", source_dir=sys.argv[1], role="arn:aws:iam::123456789012:role/SageMakerRole",
    instance_type="ml.m5.xlarge", instance_count=1, framework_version="2.3.0", py_version="py311",
    hyperparameters={{"epochs": 3}}, code_location="s3://{bucket}/code", output_path="s3://{bucket}/jobs",
)
estimator.fit(wait=False)
"""
OPTED_OUT = """
SchemaVersion: "1.0"
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""
_READY = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@contextmanager
def _service(python: Path) -> Iterator[str]:
    """Give the URL of a moto server."""
    server = subprocess.Popen(
        [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        env={**os.environ, "MOTO_PORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = cast("TextIO", server.stderr)
        ready = next(filter(None, map(_READY.search, said)), None)
        if ready is None:
            raise Absent("moto's server does not start")
        threading.Thread(target=said.read, daemon=True).start()
        yield ready[1]
    finally:
        server.kill()
        server.wait()


def _environ(base: Path, url: str) -> Mapping[str, str]:
    """Return the surroundings of a user of that service, who lets SDK v2 tell its makers nothing."""
    config = base / "sdk.yaml"
    config.write_text(OPTED_OUT)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "HOME": str(base),
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
    }


def _submitted(python: str | Path, package: str, source: Path, environ: Mapping[str, str]) -> Cost:
    start, before = time.perf_counter(), os.times()
    argv = [python, "-c", PROGRAM.format(package=package, bucket=BUCKET), source]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise RuntimeError(f"{package} does not submit a job: {(done.stderr or done.stdout)[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, used)


def run(base: Path) -> None:
    """Print what it costs, and whether the aim is met."""
    source = base / "source"
    source.mkdir()
    try:
        if not find_spec("boto3"):
            raise Absent("there is no boto3 (the extra aws)")  # noqa: TRY301 - as where a peer is missing
        sides: dict[str, str | Path] = {"modelyard": sys.executable, "sagemaker": SDK.python(default_cache())}
        with _service(MOTO.python(default_cache())) as url:
            environ = _environ(base, url)
            urlopen(Request(f"{url}/{BUCKET}", method="PUT")).close()  # noqa: S310 - it is moto's
            costs: dict[str, list[Cost]] = {package: [] for package in sides}
            for number in range(1 + RUNS):
                for package, python in sides.items():
                    (source / "train.py").write_text(f"print({package!r}, {number})\n")
                    costs[package].append(_submitted(python, package, source, environ))
    except Absent as error:
        print(f"fit(wait=False) is not measured: {error}", file=sys.stderr)
        return
    rows = {package: medians(measured[1:]) for package, measured in costs.items()}
    print(f"{'fit(wait=False) in a new process':<44}{'s':>8}{'CPU s':>8}{'x ours':>8}{'aim':>6}")
    for package, cost in rows.items():
        ratio = cost.wall / rows["modelyard"].wall
        verdict = f"{AIM:>6}  {'met' if ratio >= AIM else 'MISSED'}" if package == "sagemaker" else ""
        print(f"{package:<44}{cost.wall:>8.2f}{cost.cpu:>8.2f}{ratio:>8.2f}{verdict}", flush=True)
