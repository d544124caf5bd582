"""The console script ``serve``, as a container starts it."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.integration.conftest import until
from tests.integration.test_pid_one import NAMESPACE, _first_process, _permitted  # noqa: F401 - a fixture
from tests.model_server import ECHO, PATIENCE

SERVE = "import sys; from modelyard.serving.__main__ import in_container; sys.exit(in_container())"


@pytest.fixture
def start(tmp_path):
    """Start the program over a model that echoes; its log is a file."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(ECHO)
    started = []

    def starting(*within, **environ):
        others = ("SAGEMAKER_", "MODELYARD_SERVE_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        told = {
            "SAGEMAKER_BASE_DIR": str(tmp_path),
            "SAGEMAKER_BIND_TO_PORT": "0",
            "MODELYARD_SERVE_WORKERS": "2",
        }
        with (tmp_path / "log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [*within, sys.executable, "-c", SERVE], env=kept | told | environ, stdout=log, stderr=log
                )
            )
        return started[-1]

    yield starting
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def listening(tmp_path):
    """Wait until the server says where it listens."""
    return lambda: until(
        lambda: re.search(r"listening host='(.*?)' port=(\d+)", (tmp_path / "log").read_text()), PATIENCE
    ).groups()


def test_the_console_script_is_the_program():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"]["serve"] == "modelyard.serving.__main__:in_container"


def test_it_listens_on_all_interfaces(start, listening):
    server = start()
    assert listening()[0] == "0.0.0.0"
    server.terminate()
    assert server.wait(PATIENCE) == 0


def test_an_address_that_is_given_wins(start, listening):
    server = start(MODELYARD_SERVE_HOST="127.0.0.1")
    assert listening()[0] == "127.0.0.1"
    server.terminate()
    assert server.wait(PATIENCE) == 0


@pytest.mark.usefixtures("_permitted")
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_as_the_first_process_it_serves_replaces_a_worker_and_stops(start, listening, tmp_path, sig):
    server = start(*NAMESPACE)
    _, port = listening()
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
    until(lambda: (tmp_path / "log").read_text().count("worker ready") == 2)
    first = _first_process(server)
    victim, other = _children(first)
    os.kill(victim, signal.SIGKILL)
    until(lambda: (tmp_path / "log").read_text().count("worker ready") == 3)
    assert victim not in _children(first)
    assert other in _children(first)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", b"abc", {"Content-Type": "text/plain"})
        assert connection.getresponse().read() == b"abc"
    os.kill(first, sig)
    assert server.wait(PATIENCE) == 0, (tmp_path / "log").read_text()


@pytest.mark.usefixtures("_permitted")
def test_as_the_first_process_it_reaps_what_the_models_code_leaves_behind(start, listening, tmp_path):
    (tmp_path / "model" / "code" / "inference.py").write_text(
        f"{ECHO}\nimport subprocess, sys\n"
        "subprocess.run([sys.executable, '-S', '-c', 'import os; os.fork() or os._exit(0)'])\n"
    )
    server = start(*NAMESPACE, MODELYARD_SERVE_WORKERS="1")
    listening()
    until(lambda: "worker ready" in (tmp_path / "log").read_text())
    first = _first_process(server)
    until(lambda: len(_children(first)) == 1)
    os.kill(first, signal.SIGTERM)
    assert server.wait(PATIENCE) == 0


@pytest.mark.usefixtures("_permitted")
def test_as_the_first_process_it_ends_with_a_model_that_cannot_be_loaded(start, tmp_path):
    (tmp_path / "model" / "code" / "inference.py").write_text("def model_fn(model_dir): 1 / 0\n")
    assert start(*NAMESPACE).wait(PATIENCE) == 1
    assert "modelyard: model_fn raised ZeroDivisionError" in (tmp_path / "log").read_text()


def _children(pid):
    """Return the pids, outside, of the processes below one of the namespace, zombies among them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
