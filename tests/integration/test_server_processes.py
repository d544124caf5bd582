"""The processes of a model server: real ones, killed, stopped and reloaded while clients ask."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from tests.integration.conftest import is_running, until

PATIENCE = 30.0
GRACE = {"http.protocol.GRACE": PATIENCE}
"""Clients have as long to ask once more on a connection that is about to be closed."""
SIBLINGS = {
    "processes.acceptor.PATIENCE": PATIENCE,
    "processes.server.PATIENCE": PATIENCE,
    "processes.acceptor._DEFERRALS": 10_000,
}
"""Workers count on each other however long one of them does not come to run."""
SOON = 15.0
"""Seconds: far less than what would be waited for otherwise, and enough on a machine that is busy."""

SERVER = """
import importlib, json, os, pathlib, socket, sys

from modelyard.core import log
from modelyard.serving.processes.arbiter import LoadFailedError, serve
from modelyard.serving.program import Deployment
from modelyard.serving.settings import ServerSettings

settings = ServerSettings.from_environ(os.environ)
base = pathlib.Path(sys.argv[1])
for name, value in json.loads(sys.argv[2]).items():
    module, _, constant = name.rpartition(".")
    module = importlib.import_module(f"modelyard.serving.{module}")
    assert hasattr(module, constant), name
    setattr(module, constant, value)

def making(name):
    return Deployment(base / name, base / "endpoint", settings).endpoint().application

log.configure()
listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(listening.getsockname()[1], flush=True)
try:
    serve(making("model"), listening, settings, renew=lambda _: making("new"))
except LoadFailedError as error:
    print("failed:", error, flush=True)
    sys.exit(1)
print("ended", flush=True)
"""

MODEL = """
import json, os, time

NAME = "old"

def model_fn(model_dir):
    return NAME

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(asked, model):
    if "begun" in asked:
        open(asked["begun"], "w").close()
    time.sleep(asked.get("sleep", 0))
    return {"pid": os.getpid(), "model": model, "number": asked.get("number")}

def output_fn(made, accept):
    return json.dumps(made)
"""


class Server:
    """A model server as a process of its own, whose log is a file."""

    def __init__(self, folder):
        self.folder = folder
        self.log_file = folder / "log"

    def write(self, source, name="model"):
        code = self.folder / name / "code"
        code.mkdir(parents=True, exist_ok=True)
        (code / "inference.py").write_text(textwrap.dedent(source))

    def start(self, source=MODEL, *, constants=GRACE, **settings):
        """Start it, with these constants of its modules."""
        self.write(source)
        told = {"workers": 2, "request_timeout": 25, "drain_timeout": 25, **settings}
        environ = {f"MODELYARD_SERVE_{name.upper()}": str(value) for name, value in told.items()}
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(self.folder), json.dumps(constants)],
                env={**os.environ, "GUNICORN_CMD_ARGS": "--workers 7 --bind nowhere", **environ},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.port = int(self.process.stdout.readline())
        return self

    def ready(self, number=2):
        """Wait until so many workers have become ready, since the server was started."""
        self.until_logged("worker ready", number)
        return self

    def until_logged(self, text, number=1, seconds=PATIENCE):
        until(lambda: self.log.count(text) >= number or self._ended(), seconds)
        assert self.log.count(text) >= number, self.log

    def _ended(self):
        return self.process.poll() is not None

    @property
    def log(self):
        return self.log_file.read_text()

    @property
    def workers(self):
        """The pids of the processes below the server's."""
        pid = self.process.pid
        with contextlib.suppress(FileNotFoundError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, connection=None, **asked):
        """Return the status and the answer to one request, on a connection of its own unless given."""
        with contextlib.ExitStack() as stack:
            connection = connection or stack.enter_context(contextlib.closing(self.connect()))
            connection.request(
                "POST", "/invocations", json.dumps(asked), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body else None

    def ping(self):
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", "/ping")
            return connection.getresponse().status

    def end(self, sig=signal.SIGTERM):
        """Tell the server to stop; return its exit code and what it has printed."""
        self.process.send_signal(sig)
        printed = self._printed()
        return self.process.wait(PATIENCE), printed

    def failed(self):
        """Return what a server that ends by itself says."""
        printed = self._printed()
        assert self.process.wait(PATIENCE) == 1, self.log
        return printed.partition("failed: ")[2].strip()

    def _printed(self):
        """Wait until it has ended; return what it has printed."""
        # Not by `communicate`, which does not know what `readline` has read ahead.
        return self.process.stdout.read()


class Load:
    """Clients that ask all the time, each on a connection that it keeps, until the server is gone."""

    def __init__(self, server, clients=8, **asked):
        self.server = server
        self.asked = asked
        self.answers = []
        self.lost = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def more(self, number=50):
        """Wait until so many more requests are answered."""
        wanted = len(self.answers) + number
        until(lambda: len(self.answers) >= wanted)

    def _run(self, number):
        connection = self.server.connect()
        while not self._stop.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                return
            except OSError:
                continue  # Nothing was sent.
            try:
                status, answer = self.server.ask(connection, number=number, **self.asked)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append((time.monotonic(), error))
                connection.close()
                continue
            self.answers.append((time.monotonic(), status, answer))
            assert answer.get("number", number) == number
        connection.close()

    @property
    def statuses(self):
        return {status for _, status, _ in self.answers}

    def models(self):
        return {answer["model"] for *_, answer in list(self.answers)}

    def pids(self, of_last):
        return {answer["pid"] for *_, answer in self.answers[-of_last:]}


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    yield started
    if process := getattr(started, "process", None):
        children = started.workers
        process.kill()
        process.wait()
        process.stdout.close()
        until(lambda: not any(map(is_running, children)))


# -- serving ---------------------------------------------------------------------------------------


def test_several_workers_answer_on_one_port(server):
    server.start().ready()
    assert len(server.workers) == 2
    assert server.ping() == 200
    status, answer = server.ask(number=3)
    assert status == 200
    assert answer["pid"] in server.workers
    assert server.end() == (0, "ended\n")
    assert "gunicorn" not in server.log.lower()


def test_connections_that_are_kept_are_spread_over_the_workers(server):
    server.start(constants=SIBLINGS).ready()
    connections = [server.connect() for _ in range(16)]
    for connection in connections:
        connection.connect()
    pids = [server.ask(connection)[1]["pid"] for connection in connections]
    for connection in connections:
        connection.close()
    assert min(pids.count(pid) for pid in server.workers) >= 6


def test_connections_move_to_a_worker_that_has_few(server):
    server.start().ready()
    victim, survivor = server.workers
    with Load(server, clients=8, sleep=0.01) as load:
        load.more()
        os.kill(victim, signal.SIGKILL)
        server.ready(3)
        until(lambda: load.pids(of_last=40) == set(server.workers), PATIENCE)
    assert survivor in server.workers
    assert load.statuses == {200}
    assert len(load.lost) <= 8  # What the victim held.


def test_what_a_worker_uses_is_its_share_of_the_cores(server):
    server.start(
        MODEL.replace('"number": asked.get("number")', '"number": os.environ["OMP_NUM_THREADS"]'), workers=1
    ).ready(1)
    assert server.ask()[1]["number"] == str(len(os.sched_getaffinity(0)))


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has it")
def test_the_event_loop_gives_way_to_the_model(server):
    policies = "[os.sched_getscheduler(thread) for thread in (0, os.getpid())]"
    server.start(MODEL.replace('"number": asked.get("number")', f'"number": {policies}'), workers=1).ready(1)
    assert server.ask()[1]["number"] == [os.SCHED_OTHER, os.SCHED_BATCH]


# -- a worker that dies ----------------------------------------------------------------------------


def test_a_killed_worker_fails_only_what_it_held(server):
    server.start().ready()
    with Load(server, clients=8, sleep=0.01) as load:
        for kills in range(1, 4):
            load.more()
            victim = server.workers[0]
            lost = len(load.lost)
            os.kill(victim, signal.SIGKILL)
            load.more(100)
            assert len(load.lost) - lost <= 8
            server.ready(2 + kills)
            assert victim not in server.workers
            # It is replaced at once as long as the one before it has served for a while.
            ready = time.monotonic()
            until(lambda since=ready: time.monotonic() > since + 1.2)
    assert load.statuses == {200}
    assert server.log.count("SIGKILL") == 3


def test_pings_are_honest_while_the_only_worker_is_replaced(server):
    server.start(workers=1).ready(1)
    gate = server.folder / "gate"
    wait = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    server.write(MODEL.replace("return NAME", f"{wait}\n    return NAME"))
    os.kill(server.workers[0], signal.SIGKILL)

    def status():
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            return server.ping()

    assert until(status) == 503
    gate.touch()
    server.ready(2)
    assert server.ping() == 200


def test_a_worker_that_is_stopped_is_replaced(server):
    server.start(request_timeout=1).ready()
    stopped = server.workers[0]
    with Load(server) as load:
        load.more()
        os.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        server.until_logged("worker started", 3)
        took = time.monotonic() - began
        load.more(200)
    assert took < SOON
    assert not is_running(stopped)
    assert "has shown no life for 1 s" in server.log
    # Only what it held.
    assert len(load.lost) <= 8


def test_a_model_that_does_not_come_back_costs_its_own_request(server):
    server.start(
        MODEL.replace(
            'time.sleep(asked.get("sleep", 0))',
            """
    while asked.get("hang"):
        try:
            time.sleep(0.01)
        except BaseException:
            pass
""",
        ),
        request_timeout=1,
    ).ready()
    began = time.monotonic()
    status, answer = server.ask(hang=True)
    assert (status, answer["code"]) == (504, "timeout")
    server.until_logged("worker started", 3)
    assert time.monotonic() - began < SOON
    server.ready(3)
    assert server.ask()[0] == 200
    assert "predict_fn" in server.log  # What it did.


FRAGILE = """
from modelyard import hookimpl
from modelyard.hardware.cpu import CpuHardware

class Fragile(CpuHardware):
    name = "fragile"
    instance_types = ()

    def recover(self, error):
        return "device-side assert" not in str(error)

@hookimpl
def modelyard_register_hardware():
    return [Fragile]

@hookimpl
def modelyard_select_hardware(resources):
    return "fragile"
"""
"""A plugin with hardware that is lost as a GPU is: for a process, and not for the next one."""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """Have servers run their models on hardware that can be lost."""
    site = tmp_path / "site"
    info = site / "fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "fragile.py").write_text(FRAGILE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\nfragile = fragile\n")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)


@pytest.mark.usefixtures("fragile")
def test_a_worker_that_loses_its_device_is_replaced(server):
    losing = """
    global lost
    lost = lost or asked.get("number") == 13
    if lost:
        raise RuntimeError("CUDA error: device-side assert triggered")
"""
    source = MODEL.replace('    time.sleep(asked.get("sleep", 0))', losing) + "\nlost = False\n"
    server.start(source, workers=1).ready(1)
    (first,) = server.workers
    assert server.ask()[1]["pid"] == first
    status, answer = server.ask(number=13)
    assert (status, answer["code"]) == (500, "model_error")
    statuses = []

    def answered():
        with contextlib.suppress(OSError):  # It was too late for this connection.
            status, answer = server.ask()
            statuses.append(status)
            return status == 200 and answer

    assert until(answered)["pid"] != first
    # Who comes before it is gone is told to come again: nothing more is begun on the lost device.
    assert set(statuses) <= {200, 503}
    assert server.log.count("request failed") == 1
    assert not is_running(first)


def test_a_model_that_holds_the_interpreter_is_replaced(server):
    server.start(
        MODEL.replace('time.sleep(asked.get("sleep", 0))', 'if asked.get("hang"): "a" * 10**6; _hold()')
        + """
def _hold():
    import re
    re.match("(a*)*b", "a" * 64)  # For years, without a look at anything else.
""",
        request_timeout=1,
    ).ready()
    with pytest.raises((OSError, http.client.HTTPException)):
        server.ask(hang=True)
    server.ready(3)
    assert server.ask()[0] == 200
    assert "_hold" in server.log


def test_a_worker_that_keeps_dying_is_replaced_ever_less_often(server):
    server.start(
        MODEL.replace("return NAME", "os.path.exists('crash') and os._exit(9); return NAME"), workers=2
    ).ready()
    (server.folder / "model" / "crash").touch()
    os.kill(server.workers[0], signal.SIGKILL)
    server.until_logged("ended with exit code 9 while it loaded the model", 3)
    (server.folder / "model" / "crash").unlink()
    assert server.ask()[0] == 200
    server.ready(3)
    deaths = [_seconds(line) for line in server.log.splitlines() if "exit code 9" in line]
    assert (deaths[2] - deaths[0]) % 86400 > 1.4  # 0.5 and 1 s


def _seconds(line):
    hours, minutes, seconds = line.split()[1].replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


# -- a model that cannot be loaded -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "reason", "deaths"),
    [
        ("raise ValueError('no weights')", r"model_fn raised ValueError: no weights", 1),
        ("import sys; sys.exit('not today')", r"model_fn raised SystemExit: not today", 1),
        ("os._exit(7)", r"the worker ended with exit code 7 while it loaded the model", 3),
        (
            "import ctypes; ctypes.string_at(0)",
            r"the worker was killed by SIGSEGV while it loaded the model",
            3,
        ),
        ("time.sleep(300)", r"the model was not loaded within 1 s", 1),
    ],
    ids=["raises", "exits", "ends its process", "crashes", "hangs"],
)
def test_the_server_ends_with_the_reason(server, statement, reason, deaths):
    patience = 1 if "not loaded within" in reason else 60
    server.start(MODEL.replace("return NAME", statement), workers=1, startup_timeout=patience)
    assert re.search(reason, server.failed())
    assert server.log.count("worker started") == deaths


def test_pings_say_that_the_model_is_being_loaded(server):
    gate = server.folder / "gate"
    wait = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    server.start(MODEL.replace("return NAME", f"{wait}\n    return NAME"))
    assert server.ping() == 503
    gate.touch()
    server.ready()
    assert server.ping() == 200


def test_a_loading_worker_is_asked_nothing_while_another_is_ready(server):
    first = server.folder / "first"
    wait = f"""
    try:
        os.mkdir({str(first)!r})
    except FileExistsError:
        time.sleep(300)
    return NAME
"""
    server.start(MODEL.replace("    return NAME", wait), constants=SIBLINGS).ready(1)
    pids = set()
    for number in range(30):
        status, answer = server.ask(number=number)
        assert status == 200
        pids.add(answer["pid"])
    assert len(pids) == 1
    assert server.end() == (0, "ended\n")


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_loses_nothing(server, sig):
    server.start().ready()
    with Load(server, clients=8, sleep=0.01) as load:
        load.more()
        assert server.end(sig) == (0, "ended\n")
    assert load.lost == []
    assert load.statuses == {200}


def test_a_connection_that_nobody_uses_is_closed_in_good_order(server):
    server.start(constants={}).ready()
    with contextlib.closing(server.connect()) as idle:
        assert server.ask(idle)[0] == 200
        assert server.end() == (0, "ended\n")
        assert idle.sock.recv(1) == b""


@contextlib.contextmanager
def _asking(server, sleep):
    """Have a client ask for what takes so many seconds; give its outcomes once the model is at it."""
    outcomes = []
    begun = server.folder / "begun"

    def ask():
        try:
            outcomes.append(server.ask(sleep=sleep, begun=str(begun))[0])
        except (OSError, http.client.HTTPException) as error:
            outcomes.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        until(begun.exists)
        yield outcomes
    finally:
        asking.join(PATIENCE)


def test_a_request_that_is_being_answered_has_its_time(server):
    server.start(workers=1).ready(1)
    with _asking(server, sleep=1.5) as outcomes:
        assert server.end() == (0, "ended\n")
    assert outcomes == [200]


def test_the_time_to_drain_is_bounded(server):
    server.start(workers=1, drain_timeout=0.5, request_timeout=60).ready(1)
    with _asking(server, sleep=30) as outcomes:
        began = time.monotonic()
        assert server.end()[0] == 0
        assert time.monotonic() - began < SOON
    assert outcomes == [503]


def test_a_second_stop_is_at_once(server):
    server.start(workers=1, drain_timeout=60, request_timeout=60).ready(1)
    with _asking(server, sleep=30):
        server.process.send_signal(signal.SIGINT)
        until(lambda: _refuses(server))
        began = time.monotonic()
        assert server.end(signal.SIGINT)[0] == 0
        assert time.monotonic() - began < SOON


def _refuses(server):
    with contextlib.closing(server.connect()) as connection:
        try:
            connection.connect()
        except ConnectionRefusedError:
            return True
    return False


@pytest.mark.parametrize("state", ["ready", "loading"])
def test_nothing_outlives_the_parent(server, state):
    loading = MODEL.replace("return NAME", "time.sleep(300)")
    server.start(MODEL if state == "ready" else loading)
    if state == "ready":
        server.ready()
    else:
        assert server.ping() == 503
    until(lambda: len(server.workers) == 2)
    workers = server.workers
    server.process.kill()
    server.process.wait(PATIENCE)
    until(lambda: not any(map(is_running, workers)) and _refuses(server), SOON)


# -- reload ----------------------------------------------------------------------------------------


def test_a_reload_fails_no_request(server):
    server.start().ready()
    server.write(MODEL.replace("old", "new"), "new")
    before = server.workers
    with Load(server) as load:
        load.more()
        server.process.send_signal(signal.SIGHUP)
        server.until_logged("worker ended", 2)
        load.more()
    assert load.lost == []
    assert load.statuses == {200}
    models = [answer["model"] for _, _, answer in load.answers]
    assert (models[0], models[-1]) == ("old", "new")
    assert len(server.workers) == 2
    assert not set(before) & set(server.workers)
    # What dies now is replaced by the new model.
    os.kill(server.workers[0], signal.SIGKILL)
    server.ready(5)
    assert {server.ask()[1]["model"] for _ in range(10)} == {"new"}


LATE = """
    try:
        os.mkdir(model_dir + "/first")
    except FileExistsError:
        while not os.path.exists(model_dir + "/gate"):
            time.sleep(0.01)
        {}
    return "new"
"""
"""A model whose first worker is ready at once, and whose second one does something else at the gate."""


def _reload_until_one_is_ready(server, load, then="pass"):
    server.write(MODEL.replace("    return NAME", LATE.format(then)), "new")
    load.more()
    server.process.send_signal(signal.SIGHUP)
    server.ready(3)
    load.more(200)
    assert load.models() == {"old"}


def test_a_reload_serves_the_new_model_when_all_of_its_workers_are_ready(server):
    early = []

    def ask():
        while server.ask()[1]["model"] == "old":
            pass
        early.extend(() if "the new model is served" in server.log else ("new",))

    server.start().ready()
    before = server.workers
    with Load(server) as load:
        _reload_until_one_is_ready(server, load)
        asking = threading.Thread(target=ask)
        asking.start()
        (server.folder / "new" / "gate").touch()
        asking.join(PATIENCE)
        server.until_logged("worker ended", 2)
        load.more()
    assert not early
    assert load.lost == []
    assert load.statuses == {200}
    assert load.models() == {"old", "new"}
    assert not set(before) & set(server.workers)


def test_nobody_sees_a_new_model_of_which_one_worker_fails(server):
    server.start().ready()
    before = server.workers
    with Load(server) as load:
        _reload_until_one_is_ready(server, load, then="1 / 0")
        (server.folder / "new" / "gate").touch()
        server.until_logged("the old one is served on")
        until(lambda: set(server.workers) == set(before))
        load.more()
    assert load.lost == []
    assert load.statuses == {200}
    assert load.models() == {"old"}


def test_workers_of_a_model_that_is_given_up_leave_what_waits_to_the_old_one(server):
    server.start(request_timeout=20).ready()
    before = server.workers
    with Load(server) as load:
        _reload_until_one_is_ready(server, load, then="1 / 0")
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(server.ask()))
    asking.start()
    until(lambda: _waiting(server))
    (server.folder / "new" / "gate").touch()
    until(lambda: set(server.workers) == set(before))
    for pid in before:
        os.kill(pid, signal.SIGCONT)
    asking.join(PATIENCE)
    assert [(status, answer["model"]) for status, answer in answers] == [(200, "old")]


def _waiting(server):
    """Return how many connections no worker has taken."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (waiting,) = (row[4] for row in rows if row[1].endswith(f":{server.port:04X}") and row[3] == "0A")
    return int(waiting.partition(":")[2], 16)


def test_a_worker_that_dies_during_a_reload_is_replaced_by_the_old_model(server):
    server.start(workers=2).ready()
    with Load(server, clients=4) as load:
        _reload_until_one_is_ready(server, load)
        os.kill(server.workers[0], signal.SIGKILL)
        server.ready(4)
        load.more(200)
        assert load.models() == {"old"}
        (server.folder / "new" / "gate").touch()
        until(lambda: "new" in load.models())
    assert load.statuses == {200}
    assert len(load.lost) <= 4  # What the killed one held.


def test_a_stop_during_a_reload_loses_nothing_and_shows_nothing_new(server):
    server.start(constants={**GRACE, "processes.arbiter._WITHDRAW_SECONDS": PATIENCE}).ready()
    with Load(server) as load:
        _reload_until_one_is_ready(server, load)
        assert server.end() == (0, "ended\n")
    assert load.lost == []
    assert load.statuses == {200}
    assert load.models() == {"old"}


@pytest.mark.parametrize(
    ("source", "reason"),
    [(None, "cannot be had"), (MODEL.replace("return NAME", "1 / 0"), "ZeroDivisionError")],
    ids=["missing", "broken"],
)
def test_a_reload_that_fails_keeps_the_old_model(server, source, reason):
    server.start().ready()
    if source:
        server.write(source, "new")
    before = server.workers
    with Load(server) as load:
        load.more()
        server.process.send_signal(signal.SIGHUP)
        server.until_logged("the old one is served on")
        load.more()
    assert load.lost == []
    assert load.statuses == {200}
    assert reason in server.log
    until(lambda: server.workers == before)
    os.kill(before[0], signal.SIGKILL)
    server.until_logged("worker ready", 3)
    assert {server.ask()[1]["model"] for _ in range(10)} == {"old"}
