"""The command line around endpoints as a user types it: real processes, real models, nothing but Python."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.integration.conftest import INFERENCE, line_with, until

COMMAND = (sys.executable, "-m", "modelyard")
PATIENCE = 60.0
ANSWER = b"[6.0, 9.0]"


@pytest.fixture
def modelyard(project, modelyard_home):
    """Run a command to its end; return what it says, on stderr where it is to fail."""

    def run(*arguments, status=0, stdin=b""):
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=project,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == status, (done.stdout + done.stderr).decode()
        return (done.stderr if status else done.stdout).decode()

    return run


@pytest.fixture
def model(project):
    """A folder with a model that multiplies by 3, and its code."""
    folder = project / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(INFERENCE)
    retrain(folder, 3.0)
    (project / "rows.json").write_text("[2, 3]")
    return folder


def retrain(folder, factor):
    (folder / "weights.json").write_text(json.dumps({"factor": factor}))


def pack(folder):
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, ".")
    return archive


# -- endpoints ---------------------------------------------------------------------------------


@pytest.fixture
def endpoint(project, model, modelyard_home, client):
    """The name of an endpoint that goes on without the program that deployed it."""
    deploying = client("""
        from modelyard import Model
        Model("model").deploy(endpoint_name="triple")
    """)
    assert deploying.wait(PATIENCE) == 0
    return "triple"


def test_look_at_an_endpoint_ask_it_and_delete_it(modelyard, endpoint, model):
    header, row = modelyard("endpoints").splitlines()
    assert header.split() == ["NAME", "STATUS", "STARTED", "AGE", "URL", "MODEL"]
    assert row.split()[:2] == ["triple", "InService"]
    assert row.split()[-1] == str(model)
    url = json.loads(modelyard("endpoints", "show", "triple", "--json"))["url"]
    assert f"try it at         {url}/docs\n" in modelyard("endpoints", "show", "triple")

    assert json.loads(modelyard("predict", "triple", "rows.json")) == [6.0, 9.0]
    sent = modelyard("predict", url, "-", "--content-type", "application/json", stdin=b"[1]")
    assert json.loads(sent) == [3.0]
    failed = modelyard("predict", "triple", "-", "--content-type", "text/csv", status=1, stdin=b"a,b")
    first, raised, where = failed.splitlines()
    assert first.startswith("modelyard: endpoint 'triple' answered 500: the model raised JSONDecodeError")
    assert raised.startswith("json.decoder.JSONDecodeError: ")
    log, request_id = re.fullmatch(r"The endpoint's log is (.*) \(this was request (\S+)\)", where).groups()
    assert request_id in modelyard("endpoints", "logs", "triple")
    assert log.endswith("/log.txt")

    assert modelyard("delete-endpoint", "triple") == "endpoint triple: deleting\nendpoint triple: deleted\n"
    assert modelyard("endpoints").startswith("there are no live endpoints; ")
    assert modelyard("endpoints", "--all").splitlines()[1].split()[:2] == ["triple", "Deleted"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


def test_an_endpoint_loads_a_changed_model_and_keeps_one_that_can_be_loaded(
    modelyard, endpoint, modelyard_home
):
    (folder,) = (modelyard_home / "endpoints").glob("triple.*")
    retrain(folder / "model", 5.0)
    assert modelyard("reload", "triple").startswith("endpoint triple: loading its model anew; ")
    until(lambda: json.loads(modelyard("predict", "triple", "rows.json")) == [10.0, 15.0])
    (folder / "model" / "weights.json").write_text("no weights")
    modelyard("reload", "triple")
    until(lambda: "the old one is served on" in modelyard("endpoints", "logs", "triple"))
    assert json.loads(modelyard("predict", "triple", "rows.json")) == [10.0, 15.0]


def test_a_model_that_cannot_be_loaded_is_told_where_it_is_looked_for(modelyard, model, client):
    (model / "weights.json").write_text("no weights")
    deploying = client("""
        from modelyard import Model
        Model("model").deploy(endpoint_name="broken")
    """)
    assert deploying.wait(PATIENCE) == 1
    row, reason = modelyard("endpoints", "--status", "failed").splitlines()[1:]
    assert row.split()[:2] == ["broken", "Failed"]
    assert "JSONDecodeError" in reason
    said = modelyard("predict", "broken", "rows.json", status=1)
    assert "JSONDecodeError" in said
    assert said.splitlines()[-1].startswith("Its log is ")


# -- serve -------------------------------------------------------------------------------------


@pytest.fixture
def serve(project, modelyard_home, tmp_path):
    """Start ``modelyard serve``, its temporary folders in ``scratch``; return it and its address."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started = []

    def start(*arguments, **options):
        process = subprocess.Popen(
            [*COMMAND, "serve", *arguments, "--port", "0", "--workers", "1"],
            cwd=project,
            env={**os.environ, "TMPDIR": str(scratch)},
            **{"stdout": subprocess.PIPE, "text": True, **options},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address(server):
    return re.search(r"http://127\.0\.0\.1:\d+", line_with(server, "serving")).group()


def is_open(url):
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))).close()
        return True
    return False


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_an_archive_until_it_is_told_to_stop(modelyard, serve, model, tmp_path, stop):
    archive = pack(model)
    server = serve(archive.name)
    url = address(server)
    assert json.loads(modelyard("predict", url, "rows.json")) == [6.0, 9.0]
    server.send_signal(stop)
    assert server.wait(PATIENCE) == 0
    assert not is_open(url)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_hangup_loads_the_archive_anew(modelyard, serve, model):
    archive = pack(model)
    server = serve(archive.name)
    url = address(server)
    retrain(model, 5.0)
    pack(model)
    server.send_signal(signal.SIGHUP)
    until(lambda: json.loads(modelyard("predict", url, "rows.json")) == [10.0, 15.0])


def test_the_files_of_a_model_go_with_its_last_worker(modelyard, serve, model, tmp_path):
    def unpacked():
        # By `os.walk`: a glob of Python 3.11 fails where a folder goes meanwhile.
        walked = os.walk(tmp_path / "scratch")
        return [Path(folder, "weights.json") for folder, _, names in walked if "weights.json" in names]

    def is_alone(factor):
        with contextlib.suppress(FileNotFoundError, ValueError):  # Gone, or not yet written.
            return [json.loads(file.read_text()) for file in unpacked()] == [{"factor": factor}]

    archive = pack(model)
    log = tmp_path / "log"
    with log.open("wb") as file:
        server = serve(archive.name, stderr=file)
    url = address(server)
    for factor in (5.0, 7.0):
        retrain(model, factor)
        pack(model)
        server.send_signal(signal.SIGHUP)
        until(lambda factor=factor: is_alone(factor))
        assert json.loads(modelyard("predict", url, "rows.json")) == [2 * factor, 3 * factor]
    # What is given up goes, and what is served stays, however often.
    for given_up, content in enumerate(("no weights", "none at all"), 1):
        (model / "weights.json").write_text(content)
        pack(model)
        server.send_signal(signal.SIGHUP)
        until(lambda given_up=given_up: log.read_text().count("the old one is served on") == given_up)
        until(lambda: len(unpacked()) == 1)
        assert json.loads(modelyard("predict", url, "rows.json")) == [14.0, 21.0]
    archive.write_bytes(b"no archive")
    server.send_signal(signal.SIGHUP)
    until(lambda: log.read_text().count("the old one is served on") == 3)
    assert json.loads(modelyard("predict", url, "rows.json")) == [14.0, 21.0]
    (own,) = (tmp_path / "scratch").glob("modelyard-serve-*")
    until(lambda: len(list(own.iterdir())) == 1)
    server.terminate()
    assert server.wait(PATIENCE) == 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_folder_is_served_where_it_lies_with_its_program(modelyard, serve, model):
    (model / "code" / "inference.py").rename(model / "code" / "other.py")
    with (model / "code" / "other.py").open("a") as script:
        script.write("\nimport pathlib; pathlib.Path(__file__).with_name('seen').touch()\n")
    server = serve("model", "--program", "other.py")
    assert json.loads(modelyard("predict", address(server), "rows.json")) == [6.0, 9.0]
    assert (model / "code" / "seen").exists()


def test_what_the_code_asks_pip_for_is_installed_and_gone_with_the_server(modelyard, serve, model, tmp_path):
    (model / "code" / "requirements.txt").write_text("attrs\n")
    server = serve("model")
    assert json.loads(modelyard("predict", address(server), "rows.json")) == [6.0, 9.0]
    server.terminate()
    assert server.wait(PATIENCE) == 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_model_that_cannot_be_loaded_ends_the_command(serve, model, tmp_path):
    (model / "weights.json").write_text("no weights")
    server = serve("model", stderr=subprocess.PIPE)
    out, err = server.communicate(timeout=PATIENCE)
    assert server.returncode == 1
    assert out == "loading the model of model\n"
    assert re.search("^modelyard: .*JSONDecodeError", err, re.MULTILINE)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_server_ends_with_a_command_that_is_killed(serve, model):
    server = serve("model")
    url = address(server)
    server.kill()
    server.wait(PATIENCE)
    until(lambda: not is_open(url))


def test_a_terminal_that_is_closed_ends_the_server(modelyard, serve, model):
    ours, theirs = pty.openpty()
    server = serve("model", stdin=theirs)
    os.close(theirs)
    url = address(server)
    retrain(model, 5.0)
    server.send_signal(signal.SIGHUP)
    until(lambda: json.loads(modelyard("predict", url, "rows.json")) == [10.0, 15.0])
    os.close(ours)
    server.send_signal(signal.SIGHUP)
    assert server.wait(PATIENCE) == 0
    assert not is_open(url)
