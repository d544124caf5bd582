"""Who is compared: ours, its limits, and the peers, each in its fastest documented way."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks.serving.environments import ROOT, Environment
from benchmarks.serving.load import Load, load, pinned
from benchmarks.serving.servers import Command, Server, await_answer, free_ports, scratch, started
from benchmarks.serving.workloads import JSON, Case

TORCH = "torch==2.13.0"
PEERS = "benchmarks.serving.peers"
JVM_WARM_UP = 15
"""Seconds, after which TorchServe answers more than twice as much as at first."""

Measure = Callable[[int], Load]
"""Loads a contender for so many seconds."""


@attrs.frozen
class Place:
    """What a server serves, at which port, and its own folder, which is its working directory."""

    case: Case
    port: int
    folder: Path


Launch = Callable[[str, Place], Command]
"""From a server's Python and its place to how it is started there."""


class Contender(Protocol):
    """What can be measured with a case."""

    @property
    def name(self) -> str:
        """How it is called in the tables."""

    @property
    def workloads(self) -> frozenset[str]:
        """The only workloads that it is measured with; empty for all."""

    def prepare(self, cache: Path) -> None:
        """Install what it needs. Raises `Absent`."""

    def running(self, case: Case, cores: "Cores") -> AbstractContextManager[Measure]:
        """Have it warm and ready for the block, idle but when it is measured.

        Raises `Absent`, and so does the measuring.
        """


@attrs.frozen
class Cores:
    """Where the server runs and where the load comes from; empty: anywhere."""

    server: Collection[int]
    load: Collection[int]

    @classmethod
    def found(cls, servers: int = 1) -> "Cores | None":
        """Return `servers` cores for the server and another one for the load, if there are so many."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(cores[:servers], cores[servers : servers + 1]) if len(cores) > servers else None


@attrs.frozen
class ServerContender:
    """A server. `warm_up`: seconds of load that count for nothing."""

    name: str
    launch: Launch
    environment: Environment | None = None
    workloads: frozenset[str] = frozenset()
    warm_up: int = 2
    _python: list[str] = attrs.field(factory=lambda: [sys.executable], init=False)

    def prepare(self, cache: Path) -> None:
        """Make its environment."""
        if self.environment:
            self._python[:] = [str(self.environment.python(cache))]

    @contextlib.contextmanager
    def running(self, case: Case, cores: Cores) -> Iterator[Measure]:
        """Start it, have it answer rightly, warm it up; end it after the block."""
        with launched(self.launch, case, cores, self._python[0]) as server:
            await_answer(server, case)
            load(case, server.port, server.path, self.warm_up, cores.load)
            yield lambda seconds: load(case, server.port, server.path, seconds, cores.load)


@attrs.frozen
class LoopContender:
    """Decode, model, encode in a loop, and no server."""

    name: str = "loop"
    workloads: frozenset[str] = frozenset()

    def prepare(self, cache: Path) -> None:
        """Need nothing."""

    @contextlib.contextmanager
    def running(self, case: Case, cores: Cores) -> Iterator[Measure]:
        """Run it anew for every measurement."""
        argv = [sys.executable, "-m", "benchmarks.serving.bare", str(case.folder), case.workload.media_type]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}

        def measure(seconds: int) -> Load:
            done = subprocess.run(
                pinned([*argv, str(seconds)], cores.server),
                cwd=ROOT,
                env=environ,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=seconds * 2 + 60,
            )
            rate = float(done.stdout)
            return Load(rate, 1000 / rate, 1000 / rate)

        yield measure


@contextlib.contextmanager
def launched(launch: Launch, case: Case, cores: Cores, python: str = sys.executable) -> Iterator[Server]:
    """Start a server; with the block it ends."""
    (port,) = free_ports(1)
    with scratch() as folder:
        command = launch(python, Place(case, port, folder))
        with started(command, port, folder, cores.server) as server:
            yield server


def ours(workers: int = 1, *, batching: bool = True) -> Launch:
    """Return how our server is started: default handlers, no script of the user's."""

    def command(python: str, place: Place) -> Command:
        batch_size = place.case.workload.batch_size if batching else 1
        env = {
            "SAGEMAKER_BASE_DIR": str(place.case.folder),
            "SAGEMAKER_BIND_TO_PORT": str(place.port),
            "MODELYARD_SERVE_WORKERS": str(workers),
            "MODELYARD_SERVE_BATCH_SIZE": str(batch_size),
        }
        return Command([python, "-P", "-m", "modelyard.serving"], env)

    return command


def _yardstick(python: str, place: Place) -> Command:
    module = "benchmarks.serving.yardstick"
    return Command(
        [python, "-m", module, str(place.case.folder), place.case.workload.media_type, str(place.port)]
    )


def _fastapi(python: str, place: Place) -> Command:
    return Command(
        [python, "-m", f"{PEERS}.fastapi_server", str(place.port)], _folder(place.case), _path(place.case)
    )


def _litserve(python: str, place: Place) -> Command:
    told = [str(place.port), place.case.workload.media_type, str(place.case.workload.batch_size)]
    return Command([python, "-m", f"{PEERS}.litserve_server", *told], _folder(place.case))


def _mlserver(python: str, place: Place) -> Command:
    model = {"name": "model", "implementation": f"{PEERS}.mlserver_model.Runtime"}
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    grpc, metrics = free_ports(2)
    settings = {
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
        "gzip_enabled": False,
    }
    env = {f"MLSERVER_{name.upper()}": json.dumps(value).strip('"') for name, value in settings.items()}
    return Command([_beside(python, "mlserver"), "start", "."], env | _folder(place.case), _path(place.case))


def _sagemaker(python: str, place: Place) -> Command:
    env = _torchserve_env(python, place) | {
        "SAGEMAKER_BASE_DIR": str(place.case.folder),
        "SAGEMAKER_BIND_TO_PORT": str(place.port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
    }
    if place.case.workload.batch_size > 1:
        env |= {
            "SAGEMAKER_TS_BATCH_SIZE": str(place.case.workload.batch_size),
            "SAGEMAKER_TS_MAX_BATCH_DELAY": str(TOOLKIT_BATCH_DELAY_MS),
        }
    return Command([python, "-m", f"{PEERS}.sagemaker_torchserve"], env)


TOOLKIT_BATCH_DELAY_MS, TORCHSERVE_BATCH_DELAY_MS = 5, 50
"""TorchServe holds a batch for so long unless it is full; each has the best of 1, 5 and 50 here."""


def _torchserve(python: str, place: Place) -> Command:
    model = {
        "defaultVersion": True,
        "marName": "model.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": place.case.workload.batch_size,
        "maxBatchDelay": TORCHSERVE_BATCH_DELAY_MS,
        "responseTimeout": 60,
    }
    properties = {
        "default_service_handler": f"{ROOT}/benchmarks/serving/peers/torchserve_handler.py:handle",
        "enable_envvars_config": "true",
        "decode_input_request": "false",
        "models": json.dumps({"model": {"1.0": model}}),
    }
    (place.folder / "config").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    (place.folder / "store").mkdir()
    argv = [_beside(python, "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth"]
    argv += ["--model-store", "store", "--models", f"model={place.case.folder}/model"]
    env = _torchserve_env(python, place) | _folder(place.case)
    return Command([*argv, "--ts-config", "config", "--log-config", "log4j2.xml"], env, "/predictions/model")


def _torchserve_env(python: str, place: Place) -> dict[str, str]:
    """Return what keeps a TorchServe on loopback, off fixed ports, quiet, and in its folder."""
    shutil.copy(ROOT / "benchmarks" / "serving" / "peers" / "log4j2.xml", place.folder)
    metrics, inference, management = free_ports(3)
    return {
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
        "TEMP": str(place.folder),
        "TS_DISABLE_TOKEN_AUTHORIZATION": "true",
        "TS_DISABLE_SYSTEM_METRICS": "true",
        "TS_INFERENCE_ADDRESS": f"http://127.0.0.1:{place.port}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{place.port}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
        "TS_GRPC_INFERENCE_PORT": str(inference),
        "TS_GRPC_MANAGEMENT_PORT": str(management),
    }


def _folder(case: Case) -> dict[str, str]:
    return {"BENCH_FOLDER": str(case.folder)}


def _path(case: Case) -> str:
    return "/json" if case.workload.media_type == JSON else "/invocations"


def _beside(python: str, program: str) -> str:
    return str(Path(python).with_name(program))


_TORCHSERVE = Environment(
    "torchserve",
    ("sagemaker-pytorch-inference==2.0.25", "torchserve==0.12.0", "pyyaml", "setuptools<81", TORCH),
    programs=("java",),
)
_FASTAPI = Environment("fastapi", ("fastapi", "uvicorn", "httptools", "uvloop", "numpy", TORCH))
_BATCHED = frozenset({"W4"})

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        ServerContender("ours", ours()),
        ServerContender("ours-unbatched", ours(batching=False), workloads=_BATCHED),
        ServerContender("yardstick", _yardstick),
        LoopContender(),
        ServerContender("fastapi", _fastapi, _FASTAPI),
        ServerContender("mlserver", _mlserver, Environment("mlserver", ("mlserver==1.7.1", TORCH))),
        ServerContender("litserve", _litserve, Environment("litserve", ("litserve==0.2.19", "numpy", TORCH))),
        ServerContender("sagemaker-torchserve", _sagemaker, _TORCHSERVE, warm_up=JVM_WARM_UP),
        ServerContender("torchserve", _torchserve, _TORCHSERVE, workloads=_BATCHED, warm_up=JVM_WARM_UP),
    )
}
