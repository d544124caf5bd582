import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from modelyard.plugins.launchers.mpi_connect import connect
from modelyard.plugins.launchers.mpi_wire import LEAD, MODULE, RUN, Cluster, HostError

KEY = "a secret of one job"
LIMIT = 30
AGENT = [
    "/bin/sh",
    "-c",
    'exec sh -c "$1"',
]  # As ssh: the name of a host ($0 here), and a command for its shell.


@pytest.fixture
def cluster():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return Cluster("algo-1", ["algo-1", "algo-2"], ["127.0.0.1", "127.0.0.1"], port, LIMIT, [])


@pytest.fixture
def program():
    """Start a program of the module; what still runs at the end is killed."""
    started = []

    def start(*words, key=KEY, **environ):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, *words],
            env={**os.environ, "MODELYARD_HOST_KEY": key, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def serve(program, cluster, **options):
    return program("serve", cluster._replace(name="algo-2").to_json(), **options)


def lead(program, cluster, script, **options):
    return program("lead", cluster.to_json(), "--", "/bin/sh", "-c", script, **options)


REACH = f"{sys.executable} -P -m {MODULE} reach -x algo-2"


@pytest.mark.parametrize("agent", [[], AGENT], ids=["key", "agent"])
class TestTogether:
    def test_what_is_reached_runs_with_the_environment_of_its_host(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        worker = serve(program, cluster, SM_CURRENT_HOST="algo-2")
        master = lead(program, cluster, f"{REACH} 'echo I am $SM_CURRENT_HOST; exit 7'", SM_CURRENT_HOST="x")
        assert master.communicate(timeout=LIMIT)[0] == "I am algo-2\n"
        assert (master.returncode, worker.wait(LIMIT)) == (7, 7)

    def test_the_master_waits_for_a_worker_that_comes_late(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        master = lead(program, cluster, "exit 0")
        worker = serve(program, cluster)
        assert (master.wait(LIMIT), worker.wait(LIMIT)) == (0, 0)

    def test_a_master_that_is_killed_ends_the_worker_and_what_it_started(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        worker = serve(program, cluster)
        master = lead(program, cluster, f"{REACH} 'echo $$; exec sleep 300'")
        pid = int(master.stdout.readline())
        os.killpg(master.pid, signal.SIGKILL)
        assert worker.wait(LIMIT) == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_a_worker_that_is_killed_ends_the_master(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        worker = serve(program, cluster)
        master = lead(program, cluster, "echo started; exec sleep 300")
        assert master.stdout.readline() == "started\n"
        worker.kill()
        assert master.wait(LIMIT) == 128 + signal.SIGTERM
        assert "lost algo-2" in master.stdout.read()


class TestAlone:
    def test_a_worker_whose_master_does_not_come_says_so(self, program, cluster):
        worker = serve(program, cluster._replace(timeout=0.2))
        assert "algo-1 did not come within 0.2 s" in worker.communicate(timeout=LIMIT)[0]
        assert worker.returncode == 1

    def test_a_master_whose_worker_does_not_come_says_so(self, program, cluster):
        master = lead(program, cluster._replace(timeout=0.2), "echo never")
        said, _ = master.communicate(timeout=LIMIT)
        assert "algo-2 cannot be reached" in said
        assert "never" not in said
        assert master.returncode == 1

    def test_sigterm_goes_to_the_ranks_and_mpirun_may_wait_for_them(self, program, cluster):
        alone = cluster._replace(names=["algo-1"])
        rank = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        # The parent, as mpirun, would die of the signal.
        master = lead(program, alone, f'PMI_RANK=0 sh -c "{rank}"; echo mpirun ends')
        assert master.stdout.readline() == "ready\n"
        os.killpg(master.pid, signal.SIGTERM)
        assert master.communicate(timeout=LIMIT)[0] == "saved\nmpirun ends\n"
        assert master.returncode == 0

    def test_sigterm_goes_to_mpirun_where_no_rank_is_there_yet(self, program, cluster):
        master = lead(program, cluster._replace(names=["algo-1"]), "echo ready; exec sleep 300")
        assert master.stdout.readline() == "ready\n"
        time.sleep(0.1)
        os.killpg(master.pid, signal.SIGTERM)
        assert master.wait(LIMIT) == 128 + signal.SIGTERM


class TestStrangers:
    def test_a_caller_with_another_key_is_refused_and_the_job_goes_on(self, program, cluster, monkeypatch):
        worker = serve(program, cluster)
        monkeypatch.setenv("MODELYARD_HOST_KEY", "of another job")
        with pytest.raises(HostError, match="does not know the job's key"):
            connect(cluster, "algo-2", time.monotonic() + LIMIT)
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0
        assert "refused" in worker.stdout.read()

    @pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)])
    def test_garbage_is_refused_and_the_job_goes_on(self, program, cluster, garbage):
        worker = serve(program, cluster)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                stranger = socket.create_connection(("127.0.0.1", cluster.port), timeout=LIMIT)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
        with stranger:
            stranger.sendall(garbage)
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0
        assert "refused" in worker.stdout.read()

    def test_one_who_does_not_prove_the_key_starts_nothing(self, program, cluster, tmp_path):
        worker = serve(program, cluster)
        master = lead(program, cluster, "echo started; exec sleep 300")
        assert master.stdout.readline() == "started\n"
        with socket.create_connection(("127.0.0.1", cluster.port), timeout=LIMIT) as stranger:
            stranger.sendall(b"modelyard-mpi-1\n" + bytes(32))
            assert len(stranger.recv(64)) == 64
            command = f"touch {tmp_path}/made".encode()
            stranger.sendall(bytes(32) + RUN + len(command).to_bytes(4) + command)
            assert not stranger.recv(1)
        assert not (tmp_path / "made").exists()
        assert worker.poll() is None

    def test_there_is_one_master(self, program, cluster, monkeypatch):
        worker = serve(program, cluster)
        master = lead(program, cluster, "echo started; exec sleep 300")
        assert master.stdout.readline() == "started\n"
        monkeypatch.setenv("MODELYARD_HOST_KEY", KEY)
        second = connect(cluster, "algo-2", time.monotonic() + LIMIT)
        second.send(LEAD)
        with pytest.raises(EOFError):
            second.receive()
        second.close()
        assert worker.poll() is None


def test_a_cluster_is_one_token(cluster):
    assert json.loads(cluster.to_json())["names"] == ["algo-1", "algo-2"]
    assert Cluster.from_json(cluster.to_json()) == cluster
