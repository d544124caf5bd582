"""The ASGI application by itself, and the in-endpoint program with a real server and real clients."""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelyard.core.http import Response
from modelyard.serving.app import Application

PATIENCE = 20.0


def echo(request):
    said = [request.body.decode("latin-1"), request.content_type, request.accept, request.request_id]
    return Response(json.dumps(said).encode())


def answering(response):
    return lambda request: response


class Answer:
    def __init__(self, messages):
        self.messages = messages
        self.status = messages[0]["status"]
        self.headers = {key.decode(): value.decode("latin-1") for key, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def send():
    """Send one request to an application; return its answer, or None if there was none."""
    executor = ThreadPoolExecutor(1)

    def make(method, path, *parts, handler=echo, headers=(), **options):
        application = Application(handler, executor, **options)
        messages = [
            part if isinstance(part, dict) else {"type": "http.request", "body": part, "more_body": True}
            for part in parts
        ]
        if messages and messages[-1]["type"] == "http.request":
            messages[-1]["more_body"] = False
        make.unread = messages or [{"type": "http.request"}]
        sent = []

        async def receive():
            return make.unread.pop(0)

        async def take(message):
            sent.append(message)

        raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        asyncio.run(application(scope, receive, take))
        return Answer(sent) if sent else None

    yield make
    executor.shutdown()


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(send, method):
    answer = send(method, "/ping")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize("path", ["/", "/ping/", "/invocations/foo", "//ping", "", "/PING", "/metrics"])
def test_there_is_nothing_else(send, path):
    answer = send("GET", path)
    assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/ping", "GET, HEAD"),
        ("DELETE", "/ping", "GET, HEAD"),
        ("GET", "/invocations", "POST"),
        ("HEAD", "/invocations", "POST"),
        ("PUT", "/invocations", "POST"),
        ("OPTIONS", "/invocations", "POST"),
        ("post", "/invocations", "POST"),
    ],
)
def test_other_methods_are_refused_with_those_that_are_allowed(send, method, path, allow):
    answer = send(method, path)
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


def test_an_invocation(send):
    headers = [("content-type", "text/csv"), ("accept", "text/html"), ("x-request-id", "abc")]
    answer = send("POST", "/invocations", b"1,2", headers=headers)
    assert answer.status == 200
    assert answer.json == ["1,2", "text/csv", "text/html", "abc"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["x-request-id"] == "abc"


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([b""], ""),
        ([b"a", b"", b"b", b"c"], "abc"),
        ([{"type": "http.request"}], ""),
        ([{"type": "http.request", "more_body": True}, b"x"], "x"),
    ],
)
def test_a_body_may_come_in_parts(send, parts, body):
    assert send("POST", "/invocations", *parts).json[0] == body


@pytest.mark.parametrize("path", ["/ping", "/nowhere", "/invocations"])
def test_every_answer_has_the_requests_id(send, path):
    assert send("GET", path, headers=[("x-request-id", "ünusual id")]).headers["x-request-id"] == "ünusual id"


def test_a_request_without_an_id_is_given_one(send):
    answers = [send("POST", "/invocations", b"") for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids == [answer.json[3] for answer in answers]
    assert ids[0] != ids[1]
    assert len(ids[0]) == 16


def test_a_body_that_is_announced_too_large_is_not_read(send):
    answer = send("POST", "/invocations", b"x" * 11, headers=[("content-length", "11")], max_body=10)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert len(send.unread) == 1


def test_a_body_that_becomes_too_large_is_not_read_to_its_end(send):
    answer = send("POST", "/invocations", b"x" * 6, b"x" * 5, b"x" * 5, max_body=10)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert len(send.unread) == 1


@pytest.mark.parametrize("headers", [[("content-length", "10")], []])
def test_a_body_of_just_the_limit_is_taken(send, headers):
    assert send("POST", "/invocations", b"x" * 10, headers=headers, max_body=10).status == 200


@pytest.mark.parametrize("length", ["", "-5", "1e3", "²", "0x10", "99 ", "nonsense"])
def test_a_content_length_that_is_none_is_not_trusted(send, length):
    headers = [("content-length", length)]
    assert send("POST", "/invocations", b"x", headers=headers, max_body=10).status == 200


@pytest.mark.parametrize("parts", [[GONE], [{"type": "http.request", "body": b"a", "more_body": True}, GONE]])
def test_a_client_that_has_gone_is_not_answered_and_the_model_not_called(send, parts):
    called = []
    assert send("POST", "/invocations", *parts, handler=called.append) is None
    assert called == []


def test_a_header_that_is_repeated_is_a_list(send):
    headers = [("accept", "text/html"), ("accept", "application/json"), ("x-odd", ""), ("x-odd", "ÿ")]
    seen = []

    def handler(request):
        seen.append(request)
        return Response(b"")

    send("POST", "/invocations", b"", headers=headers, handler=handler)
    assert seen[0].accept == "text/html, application/json"
    assert seen[0].headers["x-odd"] == ", ÿ"


def test_the_handler_runs_on_the_models_thread(send):
    def handler(request):
        return Response(threading.current_thread().name.encode())

    names = {send("POST", "/invocations", b"", handler=handler).body for _ in range(3)}
    assert len(names) == 1
    assert names != {threading.current_thread().name.encode()}


def test_the_models_headers_are_sent(send):
    response = Response(b"x", "text/csv", 201, {"X-Count": 5, "x-text": "é"})
    answer = send("POST", "/invocations", b"", handler=answering(response))
    assert answer.status == 201
    assert answer.headers["x-count"] == "5"
    assert answer.headers["x-text"] == "é"


@pytest.mark.parametrize(
    "name", ["content-length", "Content-Length", "Transfer-Encoding", "X-Request-ID", "Content-Type"]
)
def test_the_models_headers_do_not_replace_those_that_frame_the_answer(send, name):
    response = Response(b"x", "text/csv", 200, {name: "wrong"})
    answer = send(
        "POST", "/invocations", b"", handler=answering(response), headers=[("x-request-id", "right")]
    )
    assert "wrong" not in answer.headers.values()
    assert len(answer.messages[0]["headers"]) == 3


@pytest.mark.parametrize(
    "response",
    [
        None,
        "text",
        Response("text"),
        Response(None),
        Response(b"x", None),
        Response(b"x", "text/csv\r\nx-injected: yes"),
        Response(b"x", "snowman/\u2603"),
        Response(b"x", status=None),
        Response(b"x", status=999),
        Response(b"x", status=0),
        Response(b"x", headers={"x-a": "b\r\nx-injected: yes"}),
        Response(b"x", headers={"x-a\nb": "c"}),
        Response(b"x", headers={"x-a": "\u2603"}),
        Response(b"x", headers={5: "c"}),
        Response(b"x", headers=None),
    ],
)
def test_a_response_that_cannot_be_sent_is_a_500(send, caplog, response):
    with caplog.at_level(logging.ERROR, "modelyard"):
        answer = send(
            "POST", "/invocations", b"", handler=answering(response), headers=[("x-request-id", "id-1")]
        )
    assert (answer.status, answer.json["code"], answer.json["request_id"]) == (500, "model_error", "id-1")
    assert "x-injected" not in answer.headers
    assert "response cannot be sent request_id='id-1'\nTraceback" in caplog.text


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_not_http_is_left_alone(kind):
    asyncio.run(Application(echo, None)({"type": kind}, None, None))


# -- the program -------------------------------------------------------------------------------

ECHO = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return body, content_type
"""


class Server:
    """The in-endpoint program over a model folder."""

    def __init__(self, base, **environ):
        self.base = base
        self.log = base / "log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SAGEMAKER_")}
        told = {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": "0"}
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
        return int(self.wait_for(r"model loaded, serving host='127.0.0.1' port=(\d+)"))

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


def test_a_real_server(serve):
    server = serve(SAGEMAKER_MAX_PAYLOAD_IN_MB="1")
    status, headers, body = server.ask("GET", "/ping", headers={"X-Request-Id": "abc"})
    assert (status, body, headers["x-request-id"]) == (200, b"", "abc")
    assert "server" not in headers

    assert server.ask("HEAD", "/ping")[0] == 200
    assert server.ask("GET", "/ping?a=b")[0] == 200
    assert server.ask("GET", "/nowhere")[0] == 404
    status, headers, _ = server.ask("GET", "/invocations")
    assert (status, headers["allow"]) == (405, "POST")

    status, headers, body = server.ask("POST", "/invocations", b"\x00\xff", {"Content-Type": "image/png"})
    assert (status, headers["content-type"], body) == (200, "image/png", b"\x00\xff")

    status, headers, body = server.ask("POST", "/invocations", b"x" * 2**20, {"Content-Type": "image/png"})
    assert (status, len(body)) == (200, 2**20)

    in_chunks = iter([b"ab", b"c"])
    assert server.ask("POST", "/invocations", in_chunks, {"Content-Type": "image/png"})[2] == b"abc"

    server.popen.terminate()
    assert server.wait() == 0, server.log.read_text()


def test_a_body_over_the_limit_is_answered(serve):
    server = serve(SAGEMAKER_MAX_PAYLOAD_IN_MB="1")
    answer = server.say(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    chunk = b"%x\r\n%s\r\n" % (2**20 + 1, b"x" * (2**20 + 1))
    answer = server.say(
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.ask("GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(serve, request_):
    assert serve().say(request_).startswith(b"HTTP/1.1 400 ")


def test_a_socket_that_is_passed_on(serve):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = serve(MODELYARD_LISTEN_FD=str(listening.fileno()))
        assert server.port == listening.getsockname()[1]
    assert server.ask("GET", "/ping")[0] == 200


def test_clients_of_a_socket_that_is_passed_on_wait_for_the_model(serve):
    script = f"import time\ntime.sleep(0.5)\n{ECHO}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serve(script, MODELYARD_LISTEN_FD=str(listening.fileno()))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200


SLOW = """
import os, time
def model_fn(model_dir): return model_dir
def transform_fn(model, body, content_type, accept):
    print("in flight", flush=True)
    while not os.path.exists(model + "/go"):
        time.sleep(0.01)
    return "done", "text/plain"
"""


def test_ping_answers_while_the_model_is_busy_and_sigterm_waits_for_it(serve):
    server = serve(SLOW)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, "POST", "/invocations", b"")
        server.wait_for("in flight")
        assert server.ask("GET", "/ping")[0] == 200
        server.popen.terminate()
        time.sleep(0.3)
        (server.base / "model" / "go").touch()
        status, _, body = asked.result(PATIENCE)
    assert (status, body) == (200, b"done")
    assert server.wait() == 0, server.log.read_text()


def test_a_client_that_leaves_does_not_disturb_the_next(serve):
    server = serve(SLOW)
    for head in (b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab", b"POST /inv"):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(head)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        server.wait_for("in flight")
    (server.base / "model" / "go").touch()
    assert server.ask("POST", "/invocations", b"")[2] == b"done"
    assert server.log.read_text().count("in flight") == 2


def test_a_model_that_calls_exit_does_not_end_the_endpoint(serve):
    script = """
import sys
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): sys.exit(1)
"""
    server = serve(script)
    for _ in range(2):
        status, _, body = server.ask("POST", "/invocations", b"")
        assert (status, json.loads(body)["code"]) == (500, "model_error")


@pytest.mark.parametrize("output", [True, False])
def test_a_model_that_cannot_be_loaded_ends_the_program(serve, output):
    server = serve("def model_fn(model_dir): raise ValueError('no weights')", output=output)
    assert server.wait() == 1
    said = "model_fn raised ValueError: no weights (inference.py, line 1, in model_fn)"
    assert said in server.log.read_text()
    assert "Traceback" in server.log.read_text()
    failure = server.base / "output" / "failure"
    assert failure.exists() == output
    assert not output or failure.read_text() == said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SAGEMAKER_PROGRAM": "infrence.py"}, "infrence.py is neither in code/ nor"),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "much"}, "ValueError: invalid literal"),
        ({"SAGEMAKER_BIND_TO_PORT": "http"}, "ValueError: invalid literal"),
        ({"SAGEMAKER_BASE_DIR": "/nowhere"}, None),
    ],
)
def test_what_else_keeps_it_from_serving_is_recorded(serve, environ, said):
    server = serve(**environ)
    assert server.wait() == 1
    if said:
        assert (server.base / "output" / "failure").read_text().startswith(said)
    else:
        assert "/nowhere/model" in server.log.read_text()


def test_a_port_that_is_taken(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve(SAGEMAKER_BIND_TO_PORT=str(taken.getsockname()[1]))
        assert server.wait() == 1
    assert "in use" in (server.base / "output" / "failure").read_text()


def test_the_reason_is_cut_to_1024_bytes(serve):
    server = serve("def model_fn(model_dir): raise ValueError('ü' * 2000 + chr(0xd800))")
    assert server.wait() == 1
    assert 1020 < len((server.base / "output" / "failure").read_bytes()) <= 1024


def test_the_default_accept_comes_from_the_environment(serve):
    script = "def model_fn(d): return None\ndef transform_fn(m, b, c, accept): return accept"
    assert (
        serve(script, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv").ask("POST", "/invocations")[2]
        == b"text/csv"
    )
    assert (
        serve(script, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="").ask("POST", "/invocations")[2]
        == b"application/json"
    )


def test_the_model_is_loaded_and_called_on_one_thread(serve):
    script = """
import threading
def model_fn(model_dir): return threading.get_ident()
def transform_fn(model, body, content_type, accept): return str(model == threading.get_ident())
"""
    server = serve(script)
    assert {server.ask("POST", "/invocations", b"")[2] for _ in range(3)} == {b"True"}


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_server_whose_guard_has_gone_ends(serve):
    assert serve(MODELYARD_GUARD_PID=str(2**22 + 1)).wait() == -signal.SIGTERM
