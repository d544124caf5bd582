"""The real model server in a process of its own, and what can be seen of it from outside."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from tests.processes import has_ended

PROGRAM = (sys.executable, "-m", "modelyard.serving")
PATIENCE = 30.0

ECHO = """
def model_fn(model_dir): return None
def predict_fn(value, model): return value
"""
"""The default input and output around nothing: what the codecs accept comes back."""

PID = """
import os
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return str(os.getpid()), "text/plain"
"""
"""Needs no torch, starts at once, and says which worker has answered."""


def until(condition, seconds=PATIENCE):
    """Return the first true value of `condition()`, None if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)


class Server:
    """``python -m modelyard.serving`` over the folder `base`, on a port of its own.

    The socket is made here and passed on, so that the port is known before there is a model.
    """

    def __init__(self, base, script=ECHO, *, workers=2, program=PROGRAM, **environ):
        self.base = base
        self.log = base / "log"
        code = base / "model" / "code"
        code.mkdir(parents=True)
        (base / "output").mkdir()
        (code / "inference.py").write_text(script)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SAGEMAKER_", "MODELYARD_")) and name != "OMP_NUM_THREADS"
        }
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening, self.log.open("wb") as log:
            self.port = listening.getsockname()[1]
            told = {
                "SAGEMAKER_BASE_DIR": str(base),
                "MODELYARD_LISTEN_FD": str(listening.fileno()),
                "MODELYARD_SERVE_WORKERS": str(workers),
            }
            self.popen = subprocess.Popen(
                program,
                env=kept | told | {name: str(value) for name, value in environ.items()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
            )
        self.wanted = workers

    # -- what it does ------------------------------------------------------------------------------

    def ready(self, workers=None):
        """Wait until every worker answers; return the server."""
        workers = self.wanted if workers is None else workers
        assert until(self._answers), self.said()
        assert until(lambda: self.said().count("worker ready") >= workers or self._ended()), self.said()
        assert not self._ended(), self.said()
        return self

    def _answers(self):
        assert not self._ended(), self.said()
        return self.ping() == 200

    def _ended(self):
        return self.popen.poll() is not None

    def ping(self, timeout=PATIENCE):
        """Return the status of ``GET /ping``; 0 if there is no answer."""
        try:
            return self.ask("GET", "/ping", timeout=timeout)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def ask(self, method="POST", path="/invocations", body=None, headers=None, timeout=PATIENCE):
        """Send one request on a connection of its own; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def connect(self, timeout=PATIENCE):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def said(self):
        """Return its log."""
        return self.log.read_text(errors="replace")

    # -- what it is --------------------------------------------------------------------------------

    def workers(self):
        """Return the pids of the processes under the first one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return sorted(p.pid for p in psutil.Process(self.popen.pid).children() if not has_ended(p))
        return []

    def tree(self):
        """Return the pids of all that belongs to it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.popen.pid)
            return [first.pid, *(p.pid for p in first.children(recursive=True))]
        return []

    def zombies(self):
        """Return the pids of children that nobody has waited for."""
        first = psutil.Process(self.popen.pid)
        return [p.pid for p in first.children(recursive=True) if has_ended(p)]

    def rss(self):
        """Return the bytes that each worker holds that no other process shares."""
        return {pid: _private_bytes(pid) for pid in self.workers()}

    def fds(self):
        """Return how many descriptors each worker has open."""
        return {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.workers()}

    def sockets(self):
        """Return how many of those are sockets."""
        return {pid: sum(map(_is_socket, Path(f"/proc/{pid}/fd").iterdir())) for pid in self.workers()}

    # -- its end -----------------------------------------------------------------------------------

    def stop(self, sig=signal.SIGTERM, timeout=PATIENCE):
        """Tell it to stop; return its exit code."""
        self.popen.send_signal(sig)
        return self.popen.wait(timeout)

    def end(self):
        """See that nothing of it is left, whatever state it is in."""
        tree = self.tree()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(3)
        for pid in tree:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if pid == self.popen.pid or is_running(pid):
                    os.kill(pid, signal.SIGKILL)
        self.popen.wait(PATIENCE)


def is_running(pid):
    """Tell whether a process lives and is not a zombie."""
    try:
        return not has_ended(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def _is_socket(descriptor):
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False


def _private_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = [
        line.split() for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    ]
    return sum(int(line[1]) * 1024 for line in lines)
