"""The guard of an endpoint, with a server of which the tests say when it is ready."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from socket import create_server

import pytest
from tests.integration.conftest import is_running, until

from modelyard.core import values
from modelyard.core.errors import EndpointError, EndpointFailedError, InvalidPlanError, InvocationError
from modelyard.core.plans import EndpointPlan, EndpointStatus, ModelSource, ProviderRef
from modelyard.plugins.backends.local.endpoint_guard import EndpointSettings
from modelyard.plugins.backends.local.handles import LocalEndpointHandle
from modelyard.plugins.backends.local.records import Records

SERVER = """
import http.server, os, pathlib, signal, socket, subprocess, sys

base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
note = lambda name, text: (base / name).open("a").write(f"{text}\\n")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        note("pings", self.path)
        self.answer(200 if (base / "loaded").exists() else 503, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200 if (base / "loaded").exists() else 503  # Before the note, by which a test goes on.
        note("requests", body.decode())
        if attributes := self.headers["X-Amzn-SageMaker-Custom-Attributes"]:
            note("attributes", f'{attributes},{self.headers["X-Amzn-SageMaker-Inference-Id"]}')
        if body == b"bad":
            self.answer(415, b'{"error": "no codec"}')
        else:
            self.answer(status, b"answer")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", "abc123")
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGHUP, lambda *_: note("hangups", "hangup"))
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: note("terms", "term"))
if "fails" in sys.argv:
    (base / "output").mkdir()
    (base / "output" / "failure").write_text("the weights are of another model")
    sys.exit(1)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
note("workers", worker.pid)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(os.environ["MODELYARD_LISTEN_FD"]))
server.serve_forever(0.01)
"""


class Guarded:
    """An endpoint with its guard and its server. What the server has noted is read by `noted`."""

    def __init__(self, records, record, guard):
        self.folder, self._guard = record.folder, guard
        self.handle = LocalEndpointHandle(records, record, timeout=30.0)

    def status(self):
        return self.handle.describe().status

    def noted(self, name):
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def load(self):
        (self.folder / "loaded").touch()
        until(lambda: self.status() == EndpointStatus.IN_SERVICE)

    def ended(self):
        assert self._guard.wait(30) == 0
        return not any(is_running(int(pid)) for pid in self.noted("workers"))


@pytest.fixture
def start(tmp_path):
    """Start a guard with its server."""
    (tmp_path / "server.py").write_text(SERVER)
    guards = []

    def starting(*arguments, startup_timeout=30.0, grace=30.0):
        refs = [ProviderRef(name) for name in ("local", "cpu", "tarball")]
        plan = EndpointPlan("guarded", ModelSource("file:///model"), *refs)
        records = Records(tmp_path / "home")
        record, lease = records.add("endpoint", "guarded", "Creating", plan.to_json())
        with create_server(("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()
            records.annotate(record.id, host=host, port=port, stop_seconds=grace)
            settings = EndpointSettings(
                home=str(tmp_path / "home"),
                record_id=record.id,
                lease=lease,
                grace=grace,
                argv=(sys.executable, str(tmp_path / "server.py"), *arguments),
                base=str(record.folder),
                listen=listening.fileno(),
                startup_timeout=startup_timeout,
            )
            module = "modelyard.plugins.backends.local.endpoint_guard"
            guards.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", module, values.to_json(settings)],
                    pass_fds=settings.inherited,
                    start_new_session=True,
                )
            )
        os.close(lease)
        return Guarded(records, record, guards[-1])

    yield starting
    for guard in guards:
        guard.terminate()
        guard.wait(30)


def test_an_endpoint_is_in_service_when_its_server_says_so(start):
    endpoint = start()
    until(lambda: len(endpoint.noted("pings")) > 1)
    assert endpoint.status() == EndpointStatus.CREATING
    endpoint.load()
    assert set(endpoint.noted("pings")) == {"/ping"}
    assert endpoint.handle.invoke(b"1", content_type="a/b", accept="a/b").body == b"answer"


def test_a_request_that_is_refused_while_the_model_is_loaded_waits_for_it(start):
    endpoint = start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(endpoint.handle.invoke, b"early", content_type="a/b", accept="a/b")
        until(lambda: endpoint.noted("requests"))
        endpoint.load()
        assert answer.result(30).body == b"answer"
    assert endpoint.noted("requests") == ["early", "early"]


def test_an_endpoint_that_comes_into_service_before_anybody_looks_is_asked_again(start, monkeypatch):
    endpoint = start()
    posted = endpoint.handle._post

    def loaded_in_between(*arguments, **options):
        answer = posted(*arguments, **options)
        endpoint.load()
        return answer

    monkeypatch.setattr(endpoint.handle, "_post", loaded_in_between)
    assert endpoint.handle.invoke(b"early", content_type="a/b", accept="a/b").body == b"answer"
    assert endpoint.noted("requests") == ["early", "early"]


def test_what_sagemaker_passes_on_beside_the_body_is_passed_on(start):
    endpoint = start()
    endpoint.load()
    arguments = {"CustomAttributes": "trace=1", "InferenceId": "mine"}
    endpoint.handle.invoke(b"1", content_type="a/b", accept="a/b", arguments=arguments)
    pieces = endpoint.handle.invoke_stream(b"1", content_type="a/b", accept="a/b", arguments=arguments)
    assert b"".join(pieces) == b"answer"
    assert endpoint.noted("attributes") == ["trace=1,mine"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"TargetVariant": "a"}, "takes no TargetVariant: it is of this machine, and has one model"),
        ({"CustomAttributes": "a\r\nX-Other: b"}, "CustomAttributes is a text of printable ASCII, not 'a"),
        ({"CustomAttributes": "\u00e4"}, "CustomAttributes is a text of printable ASCII"),
        ({"InferenceId": 7}, "InferenceId is a text of printable ASCII, not 7"),
        ({"InferenceId": "x" * 1025}, "InferenceId has 1025 characters, and 1024 at most"),
    ],
)
def test_what_it_cannot_pass_on_is_refused(start, arguments, said):
    endpoint = start()
    with pytest.raises(InvalidPlanError, match=said):
        endpoint.handle.invoke(b"1", content_type="a/b", accept="a/b", arguments=arguments)
    assert not endpoint.noted("requests")


def test_a_server_in_service_that_refuses_is_believed(start):
    endpoint = start()
    endpoint.load()
    (endpoint.folder / "loaded").unlink()
    with pytest.raises(InvocationError, match="answered 503: answer"):
        endpoint.handle.invoke(b"late", content_type="a/b", accept="a/b")
    assert endpoint.noted("requests") == ["late"]


def test_an_error_names_the_log_and_the_request(start):
    endpoint = start()
    endpoint.load()
    with pytest.raises(InvocationError) as raised:
        endpoint.handle.invoke(b"bad", content_type="a/b", accept="a/b")
    assert str(raised.value) == (
        "endpoint 'guarded' answered 415: no codec\n"
        f"The endpoint's log is {endpoint.folder}/log.txt (this was request abc123)"
    )


def test_a_reload_is_a_hangup_of_the_server_that_is_in_service(start):
    endpoint = start()
    until(lambda: endpoint.noted("pings"))
    with pytest.raises(EndpointError, match="'guarded' is Creating, and has no model to load anew"):
        endpoint.handle.reload()
    endpoint.load()
    endpoint.handle.reload()
    until(lambda: endpoint.noted("hangups"))
    endpoint.handle.reload()
    until(lambda: endpoint.noted("hangups") == ["hangup"] * 2)
    assert endpoint.status() == EndpointStatus.IN_SERVICE


def test_a_server_that_is_never_ready_is_ended_with_its_workers(start):
    endpoint = start(startup_timeout=1.5)
    until(lambda: endpoint.status() == EndpointStatus.FAILED)
    assert endpoint.handle.describe().reason == "the model was not loaded within 1.5 s"
    assert endpoint.ended()
    with pytest.raises(EndpointFailedError, match="the model was not loaded"):
        endpoint.handle.invoke(b"1", content_type="a/b", accept="a/b")


def test_a_server_that_ends_by_itself_has_said_why(start):
    endpoint = start("fails")
    until(lambda: endpoint.status() == EndpointStatus.FAILED)
    assert endpoint.handle.describe().reason == "the weights are of another model"


@pytest.mark.parametrize("arguments", [(), ("stubborn",)], ids=["willing", "stubborn"])
def test_a_deleted_endpoint_leaves_no_worker(start, arguments):
    endpoint = start(*arguments, grace=0.1)
    endpoint.load()
    assert any(is_running(int(pid)) for pid in endpoint.noted("workers"))
    endpoint.handle.delete()
    assert endpoint.ended()
    assert len(endpoint.noted("terms")) == len(arguments)
