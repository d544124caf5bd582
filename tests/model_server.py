"""The in-endpoint program over a model folder, for tests: a fixture that serves scripts."""

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time

import pytest

PATIENCE = 60.0

ECHO = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return body, content_type
"""


class Server:
    """The in-endpoint program over a model folder."""

    def __init__(self, base, **environ):
        self.base = base
        self.log = base / "log"
        others = ("SAGEMAKER_", "MODELYARD_SERVE_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        told = {
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": "0",
            "MODELYARD_SERVE_WORKERS": "1",
        }
        fd = environ.get("MODELYARD_LISTEN_FD")
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "modelyard.serving"],
                env=kept | told | environ,
                stdout=log,
                stderr=log,
                pass_fds=[int(fd)] if fd else [],
            )

    def wait(self):
        return self.popen.wait(PATIENCE)

    def wait_for(self, pattern):
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.log.read_text())):
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.popen.poll() is None, self.log.read_text()
            time.sleep(0.01)
        return found[1] if found.groups() else found[0]

    @property
    def port(self):
        return int(self.wait_for(r"listening host='127.0.0.1' port=(\d+)"))

    def ready(self):
        """Wait until every worker is ready."""
        workers = int(self.wait_for(r"listening .* workers=(\d+)"))
        self.wait_for("(?s)" + ".*".join(["worker ready"] * workers))
        return self

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def say(self, text):
        """Send raw bytes, and return everything that is answered until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(text)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def serve(tmp_path):
    """Serve a script; what it starts is ended with the test."""
    servers = []

    def make(script=ECHO, *, output=True, **environ):
        base = tmp_path / f"ml-{len(servers)}"
        (base / "model" / "code").mkdir(parents=True)
        (base / "model" / "code" / "inference.py").write_text(script)
        if output:
            (base / "output").mkdir()
        servers.append(Server(base, **environ))
        return servers[-1]

    yield make
    for server in servers:
        if server.popen.poll() is None:
            server.popen.kill()
            server.wait()
