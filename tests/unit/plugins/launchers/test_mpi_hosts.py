import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from modelyard.core.listening import free_port
from modelyard.plugins.launchers.mpi_connect import connect
from modelyard.plugins.launchers.mpi_serve import Server
from modelyard.plugins.launchers.mpi_wire import LEAD, MODULE, RUN, Channel, Cluster, HostError

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="what is asked about other processes is Linux's"
)

KEY = "a secret of one job"
LIMIT = 60
AGENT = [
    "/bin/sh",
    "-c",
    'exec sh -c "$1"',
]  # As ssh: the name of a host ($0 here), and a command for its shell.


@pytest.fixture
def cluster():
    return Cluster("algo-1", ["algo-1", "algo-2"], ["127.0.0.1", "127.0.0.1"], free_port(), LIMIT, [])


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


def call(cluster):
    """Return a connection of a stranger, once the worker listens."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", cluster.port), timeout=LIMIT)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def listens(cluster):
    """Tell whether the worker listens, without a call: the first one has it do more than the next."""
    if cluster.agent:
        return cluster.socket_name("algo-2").replace("\0", "@") in Path("/proc/net/unix").read_text()
    return f" 0100007F:{cluster.port:04X} 00000000:0000 0A " in Path("/proc/net/tcp").read_text()


def serving(program, cluster, **options):
    """Return a worker that listens: of one that does not yet, an agent has something to say."""
    worker = serve(program, cluster, **options)
    wait_until(lambda: listens(cluster))
    return worker


def descriptors(process):
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_until(true):
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


REACH = f"{sys.executable} -P -m {MODULE} reach -x algo-2"


@pytest.mark.parametrize("agent", [[], AGENT], ids=["key", "agent"])
class TestTogether:
    def test_what_is_reached_runs_with_the_environment_of_its_host(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        worker = serving(program, cluster, SM_CURRENT_HOST="algo-2")
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
        worker = serving(program, cluster)
        master = lead(program, cluster, f"{REACH} 'echo $$; exec sleep 300'")
        pid = int(master.stdout.readline())
        os.killpg(master.pid, signal.SIGKILL)
        assert worker.wait(LIMIT) == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_a_worker_that_is_killed_ends_the_master(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        worker = serving(program, cluster)
        master = lead(program, cluster, "echo started; exec sleep 300")
        assert master.stdout.readline() == "started\n"
        worker.kill()
        assert master.wait(LIMIT) == 128 + signal.SIGTERM
        assert "lost algo-2" in master.stdout.read()


@linux_only
@pytest.mark.parametrize("left", ["", "sleep 300 & "], ids=["alone", "what it left holds its output"])
def test_what_is_killed_fails_the_job_though_mpirun_has_given_it_up(program, cluster, left):
    """So quickly does an mpirun see that a daemon is lost, and end with status 0."""
    worker = serving(program, cluster)
    daemon = f"{left}echo daemon $$; exec sleep 300"
    master = lead(program, cluster, f"{REACH} '{daemon}' 2>&1 & echo reach $!; wait; exit 0")
    pids = dict(master.stdout.readline().split() for _ in range(2))
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(worker.pid) == "T")
    for name in ("daemon", "reach"):
        os.kill(int(pids[name]), signal.SIGKILL)
    worker.send_signal(signal.SIGCONT)
    assert (master.wait(LIMIT), worker.wait(LIMIT)) == (0, 137)


def test_what_exits_once_mpirun_has_given_it_up_does_not_fail_the_job(cluster, tmp_path):
    server, told = Server(cluster), tmp_path / "told"
    ours, theirs = socket.socketpair()

    def run():
        with contextlib.suppress(EOFError):
            server._run(Channel(theirs), f"until [ -e {told} ]; do sleep 0.02; done; exit 3")

    running = threading.Thread(target=run)
    running.start()
    wait_until(lambda: server._running)
    with theirs:
        ours.close()
        wait_until(lambda: server._unwanted)
        told.touch()
        running.join(LIMIT)
    ((process, relay),) = server._running
    relay.join(LIMIT)
    assert process.returncode in {3, -signal.SIGKILL}, "it has a moment to end"
    assert server._died == 0


def lose(worker, started, master, mpirun):
    """Kill a worker and what it has started; the master stands still until mpirun has ended of it."""
    master.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(master.pid) == "T")
    os.killpg(worker.pid, signal.SIGKILL)
    os.kill(started, signal.SIGKILL)
    wait_until(lambda: state(mpirun) == "Z")
    master.send_signal(signal.SIGCONT)


@linux_only
@pytest.mark.parametrize(("end", "status"), [(0, 1), (5, 5)])
def test_a_lost_worker_is_named_though_mpirun_knew_of_it_first(program, cluster, end, status):
    """Some mpirun sees that a host is lost, and ends at once, even with status 0."""
    worker = serving(program, cluster)
    master = lead(program, cluster, f"echo $$; {REACH} 'echo $$; exec sleep 300' 2>&1; exit {end}")
    mpirun, started = (int(master.stdout.readline()) for _ in range(2))
    lose(worker, started, master, mpirun)
    said, _ = master.communicate(timeout=LIMIT)
    assert said.count("algo-1 has lost algo-2") == 1
    assert master.returncode == status


@linux_only
def test_a_lost_worker_is_named_though_its_agent_does_not_know_yet(program, cluster):
    """What stands for ssh ends some time after the host that it has reached."""
    cluster = cluster._replace(agent=AGENT)
    worker = serving(program, cluster)
    master = lead(program, cluster, f"echo $$; {REACH} 'echo $$; exec sleep 300' 2>&1; exit 0")
    mpirun, started = (int(master.stdout.readline()) for _ in range(2))
    (agent,) = (child for child in psutil.Process(master.pid).children() if child.pid != mpirun)
    agent.suspend()
    os.killpg(worker.pid, signal.SIGKILL)
    os.kill(started, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(mpirun))
    agent.resume()
    said, _ = master.communicate(timeout=LIMIT)
    assert said.count("algo-1 has lost algo-2") == 1
    assert master.returncode == 1


@linux_only
def test_the_other_hosts_fail_too_where_mpirun_takes_a_loss_for_success(program, cluster):
    cluster = cluster._replace(
        names=["algo-1", "algo-2", "algo-3"], addresses=["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    )
    lost, other = (program("serve", cluster._replace(name=name).to_json()) for name in cluster.workers)
    master = lead(program, cluster, f"echo $$; {REACH} 'echo $$; exec sleep 300' 2>&1; exit 0")
    mpirun, started = (int(master.stdout.readline()) for _ in range(2))
    lose(lost, started, master, mpirun)
    assert (master.wait(LIMIT), other.wait(LIMIT)) == (1, 1)


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

    @pytest.mark.parametrize("agent", [[], AGENT], ids=["key", "agent"])
    def test_a_worker_that_cannot_listen_says_where(self, program, cluster, agent):
        cluster = cluster._replace(agent=agent)
        with contextlib.ExitStack() as stack:
            if agent:
                other = stack.enter_context(socket.socket(socket.AF_UNIX))
                other.bind(cluster.socket_name("algo-2"))
            else:
                stack.enter_context(socket.create_server(("127.0.0.1", cluster.port)))
            worker = serve(program, cluster)
            said, _ = worker.communicate(timeout=LIMIT)
        assert said.startswith("modelyard: algo-2 cannot listen at ")
        assert str(cluster.port) in said
        assert "Address already in use" in said
        assert (said.count("\n"), worker.returncode) == (1, 1)

    def test_the_master_ends_with_mpirun_whatever_that_left_behind(self, program, cluster):
        worker = serve(program, cluster)
        master = lead(program, cluster, "sleep 300 >/dev/null & echo $!; echo last words >&2; exit 0")
        left = int(master.stdout.readline())
        try:
            assert (master.wait(LIMIT), worker.wait(LIMIT)) == (0, 0)
            assert master.stdout.read() == "last words\n"
        finally:
            os.kill(left, signal.SIGKILL)

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
        os.killpg(master.pid, signal.SIGTERM)
        assert master.wait(LIMIT) == 128 + signal.SIGTERM

    def test_sigterm_that_comes_while_mpirun_starts_ends_it(self, cluster):
        late = f"""
        import signal, subprocess, sys
        started = subprocess.Popen
        def start(*arguments, **options):
            process = started(*arguments, **options)
            signal.raise_signal(signal.SIGTERM)
            return process
        subprocess.Popen = start
        from {MODULE.rpartition(".")[0]} import mpi_hosts
        sys.exit(mpi_hosts.main(sys.argv[1:]))
        """
        alone = cluster._replace(names=["algo-1"]).to_json()
        words = ("lead", alone, "--", "/bin/sh", "-c", "exec sleep 300")
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(late), *words], timeout=LIMIT, check=False
        )
        assert ended.returncode == 128 + signal.SIGTERM

    @linux_only
    def test_mpirun_takes_sigterm_as_its_parent_did(self, program, cluster):
        told = "grep -E 'SigBlk|SigIgn' /proc/self/status"
        shown, _ = lead(program, cluster._replace(names=["algo-1"]), told).communicate(timeout=LIMIT)
        sets = [int(line.split()[1], 16) for line in shown.splitlines()]
        assert len(sets) == 2
        for number in (signal.SIGTERM, signal.SIGINT):
            assert not any(found >> (number - 1) & 1 for found in sets)


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
        with call(cluster) as stranger:
            stranger.sendall(garbage)
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0
        assert "refused" in worker.stdout.read()

    def test_one_who_does_not_prove_the_key_starts_nothing(self, program, cluster, tmp_path):
        worker = serve(program, cluster)
        master = lead(program, cluster, "echo started; exec sleep 300")
        assert master.stdout.readline() == "started\n"
        with socket.create_connection(("127.0.0.1", cluster.port), timeout=LIMIT) as stranger:
            stranger.sendall(b"modelyard-mpi-2\n" + bytes(32))
            assert len(stranger.recv(64)) == 64
            command = f"touch {tmp_path}/made".encode()
            stranger.sendall(bytes(32) + RUN + len(command).to_bytes(4) + command)
            assert not stranger.recv(1)
        assert not (tmp_path / "made").exists()
        assert worker.poll() is None

    @linux_only
    def test_more_callers_than_there_are_descriptors_do_not_deafen_a_worker(self, program, cluster):
        worker = serving(program, cluster)
        most = descriptors(worker) + 5
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (most, most))
        with contextlib.ExitStack() as strangers:
            for _ in range(20):
                strangers.enter_context(call(cluster))
            wait_until(lambda: descriptors(worker) == most)
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0

    @linux_only
    def test_the_master_needs_one_descriptor_of_a_worker(self, program, cluster):
        worker = serving(program, cluster)
        most = descriptors(worker) + 1
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (most, most))
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0

    @linux_only
    def test_a_worker_asks_so_many_at_once_who_they_are(self, program, cluster):
        worker = serve(program, cluster)
        call(cluster).close()
        with contextlib.ExitStack() as strangers:
            for _ in range(80):
                strangers.enter_context(call(cluster))
            wait_until(lambda: descriptors(worker) >= 32)
            time.sleep(0.3)
            assert descriptors(worker) < 32 + 12, "of its own it has some"
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.wait(LIMIT) == 0

    def test_refusals_are_said_once(self, program, cluster):
        worker = serve(program, cluster)
        for _ in range(5):
            with call(cluster) as stranger:
                stranger.sendall(bytes(48))
                assert not stranger.recv(1)
        assert lead(program, cluster, "exit 0").wait(LIMIT) == 0
        assert worker.communicate(timeout=LIMIT)[0].count("refused") == 1

    def test_one_who_speaks_slowly_is_not_heard_for_longer(self):
        ours, theirs = socket.socketpair()
        channel, done = Channel(ours), threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not done.wait(0.02):
                    theirs.send(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            channel.wait(0.3)
            with pytest.raises(TimeoutError):
                channel.read(500)
        finally:
            done.set()
            dripping.join()
            channel.close()
            theirs.close()

    @linux_only
    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    def test_another_user_who_took_the_name_of_the_socket_is_not_spoken_with(self, program):
        name = f"modelyard-mpi/algo-2/test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            os.seteuid(65534)
            try:
                listener.listen()
            finally:
                os.seteuid(0)
            joined = program("join", name)
            assert "the other side is the user 65534, not 0" in joined.communicate(timeout=LIMIT)[0]
            assert joined.returncode == 1

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
