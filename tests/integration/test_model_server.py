"""The in-endpoint program with real clients."""

import contextlib
import http.client
import json
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.model_server import ECHO, PATIENCE


def test_a_real_server(serve):
    server = serve(SAGEMAKER_MAX_PAYLOAD_IN_MB="1").ready()
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
    assert server.ready().ask("GET", "/ping")[0] == 200


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
    assert server.ready().ask("GET", "/ping")[0] == 200


def test_clients_of_a_socket_that_is_passed_on_wait_for_the_model(serve):
    script = f"import time\ntime.sleep(0.5)\n{ECHO}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serve(script, MODELYARD_LISTEN_FD=str(listening.fileno()))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", b"early", {"Content-Type": "text/plain"})
        assert connection.getresponse().read() == b"early"


def test_ping_says_what_it_waits_for(serve):
    script = f"""
import os, time
while not os.path.exists("go"): time.sleep(0.01)
{ECHO}"""
    server = serve(script)
    status, _, body = server.ask("GET", "/ping")
    assert (status, json.loads(body)["error"]) == (503, "the model is being loaded")
    (server.base / "model" / "go").touch()
    assert server.ready().ask("GET", "/ping")[0] == 200


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
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "much"}, "SAGEMAKER_MAX_PAYLOAD_IN_MB must be a whole number"),
        ({"SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT must be a whole number"),
        ({"MODELYARD_SERVE_DRAIN_TIMEOUT": "inf"}, "MODELYARD_SERVE_DRAIN_TIMEOUT must be at most"),
        ({"MODELYARD_SERVE_STRICT": "9"}, "MODELYARD_SERVE_STRICT must be 2.0.25"),
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
    assert "is taken: use port 0" in (server.base / "output" / "failure").read_text()


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
