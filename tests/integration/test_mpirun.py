"""mpirun for real, with each implementation that is found, on hosts that share this machine."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelyard.core.contracts import EntryPoint, Host
from modelyard.core.listening import free_port
from modelyard.plugins.launchers import mpi_dialects
from modelyard.plugins.launchers.mpirun import MpirunLauncher
from modelyard.testing.stand_in import StandInHardware

DDP = Path(__file__).with_name("scripts") / "ddp.py"
LIMIT = 90
ADDRESSES = ("127.41.7.1", "127.41.7.2")
AGENT = ["/bin/sh", "-c", 'exec sh -c "$1"']

WHO = """
import json, os, pathlib
names = ("SM_CURRENT_HOST", "RANK", "WORLD_SIZE", "LOCAL_RANK", "NCCL_DEBUG")
said = {name: os.environ.get(name) for name in names} | {"cwd": os.getcwd()}
pathlib.Path(os.environ["OUT"], f"who-{said['RANK']}.json").write_text(json.dumps(said))
"""
SLEEP = """
import os, sys, time
# In one write: ranks may share their stream.
os.write(1, f"rank {os.environ['RANK']} {os.getpid()}\\n".encode())
if os.environ["RANK"] == "1" and sys.argv[1:]:
    sys.exit(int(sys.argv[1]))
time.sleep(300)
"""


def found():
    """Yield an mpirun of each implementation: beside this Python, on the PATH, and where we are told."""
    beside = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    told = os.environ.get("MODELYARD_TEST_MPICH")
    seen = {}
    for path in filter(None, (beside, shutil.which("mpirun"), shutil.which("mpirun", path="/usr/bin"), told)):
        seen.setdefault(mpi_dialects.dialect_of(Path(path)).title, path)
    for title in ("Open MPI 5", "Open MPI 4", "MPICH"):
        absent = pytest.mark.skipif(title not in seen, reason=f"no mpirun of {title} is installed")
        yield pytest.param(seen.get(title), id=title.replace(" ", "-"), marks=absent)


every_mpirun = pytest.mark.parametrize("mpirun", list(found()))


@pytest.fixture
def job(tmp_path):
    """Start the commands of a job's hosts; what still runs at the end is killed."""
    started = []

    def start(mpirun, text, *arguments, hosts=2, each=1, **options):
        names = tuple(f"algo-{number + 1}" for number in range(hosts))
        port = free_port(count=2)
        launcher = MpirunLauncher(mpirun=mpirun, processes_per_host=each, start_timeout=LIMIT, **options)
        for name in names:
            host = Host(name, names, "lo", ADDRESSES[:hosts], port)
            code = tmp_path / name / "code"
            code.mkdir(parents=True)
            (code / "train.py").write_text(text)
            command = launcher.command(EntryPoint("train.py", arguments, code), host, StandInHardware())
            environ = {
                "SM_CURRENT_HOST": name,
                "SM_HOSTS": json.dumps(names),
                "MASTER_ADDR": ADDRESSES[0],
                "MASTER_PORT": str(port),
                "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
                "OUT": str(tmp_path),
                "MODELYARD_HOST_KEY": "a secret of this job",
                **command.environ,
            }
            with (tmp_path / f"{name}.log").open("w") as log:
                started.append(
                    subprocess.Popen(
                        command.argv,
                        cwd=command.cwd,
                        env={**os.environ, **environ},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return started

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def logs(tmp_path):
    return "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))


def ranks(tmp_path, count):
    """Return the pids of the ranks, by rank, once all have said theirs."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = re.findall(r"^rank (\d+) (\d+)\n", logs(tmp_path), re.MULTILINE)
        if len(found) == count:
            return {int(rank): int(pid) for rank, pid in found}
        time.sleep(0.05)
    pytest.fail(logs(tmp_path))


def ended(processes):
    return [process.wait(LIMIT) for process in processes]


@every_mpirun
@pytest.mark.parametrize("agent", [[], AGENT], ids=["key", "agent"])
def test_a_rank_sees_its_own_host(job, tmp_path, mpirun, agent):
    assert ended(job(mpirun, WHO, agent=agent)) == [0, 0], logs(tmp_path)
    for rank, name in enumerate(("algo-1", "algo-2")):
        who = json.loads((tmp_path / f"who-{rank}.json").read_text())
        assert who == {
            "SM_CURRENT_HOST": name,
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": "0",
            "NCCL_DEBUG": None,
            "cwd": str(tmp_path / name / "code"),
        }


CUSTOM = {
    "Open MPI 5": "--map-by slot:OVERSUBSCRIBE --bind-to none --host localhost:1,algo-2:1",
    "Open MPI 4": "-map-by node:OVERSUBSCRIBE --bind-to none -H localhost:1,algo-2:1",
    "MPICH": "-ppn 1 -iface lo -hosts localhost,algo-2 -launcher rsh -genvlist PATH",
}


@every_mpirun
def test_custom_options_replace_ours(job, tmp_path, mpirun):
    custom = CUSTOM[mpi_dialects.dialect_of(Path(mpirun)).title] + " --NCCL_DEBUG=WARN"
    assert ended(job(mpirun, WHO, custom_mpi_options=custom)) == [0, 0], logs(tmp_path)
    for rank, name in enumerate(("algo-1", "algo-2")):
        who = json.loads((tmp_path / f"who-{rank}.json").read_text())
        assert (who["SM_CURRENT_HOST"], who["NCCL_DEBUG"]) == (name, "WARN")


@every_mpirun
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_rank_that_fails_ends_all_and_is_named(job, tmp_path, mpirun, hosts):
    started = job(mpirun, SLEEP, "3", hosts=hosts, each=2 // hosts)
    assert ended(started) == [3] * hosts, logs(tmp_path)
    failure = MpirunLauncher().first_failure((tmp_path / "algo-1.log").read_text())
    assert (failure.rank, failure.status) == (1, 3)


@every_mpirun
def test_a_rank_that_is_killed_ends_all_and_is_named(job, tmp_path, mpirun):
    started = job(mpirun, SLEEP)
    os.kill(ranks(tmp_path, 2)[1], signal.SIGKILL)
    assert ended(started) == [137, 137], logs(tmp_path)
    failure = MpirunLauncher().first_failure((tmp_path / "algo-1.log").read_text())
    assert (failure.rank, failure.status) == (1, -signal.SIGKILL)


@every_mpirun
def test_a_worker_ends_when_mpirun_is_killed(job, tmp_path, mpirun):
    master, worker = job(mpirun, SLEEP)
    pids = ranks(tmp_path, 2)
    os.killpg(master.pid, signal.SIGKILL)
    assert worker.wait(LIMIT) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[1], 0)


@every_mpirun
def test_the_master_ends_when_a_worker_is_killed(job, tmp_path, mpirun):
    master, worker = job(mpirun, SLEEP)
    ranks(tmp_path, 2)
    os.killpg(worker.pid, signal.SIGKILL)
    assert master.wait(LIMIT) != 0
    assert "lost algo-2" in logs(tmp_path)


@every_mpirun
@pytest.mark.timeout(200)
@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_ddp_trains_the_same_parameters_everywhere(job, tmp_path, mpirun, hosts):
    started = job(mpirun, DDP.read_text(), hosts=hosts, each=2 // hosts)
    assert ended(started) == [0] * hosts, logs(tmp_path)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first["after"] == second["after"] != first["before"]
    assert (first["world"], second["rank"]) == (2, 1)
