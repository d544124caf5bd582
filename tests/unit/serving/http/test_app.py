"""The ASGI application by itself."""

import asyncio
import itertools
import json
import logging
import socket
import struct
import threading

import pytest
from tests.unit.serving.raw_http import Server, post, until

from modelyard.core.codecs import CodecTable
from modelyard.core.http import Response
from modelyard.serving.engine import Engine, State
from modelyard.serving.http.app import Application
from modelyard.serving.model.handler import LoadedModel
from modelyard.serving.settings import Limits, ServerSettings

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


class Uncounted:
    def observe(self, status, seconds):
        pass

    def state(self, *, ready, queued):
        pass

    def flush(self):
        pass


@pytest.fixture
def send():
    """Send one request to an application; return its answer, or None if there was none."""

    def make(method, path, *parts, handler=echo, headers=(), load=None, gone_after=None, **options):
        messages = [
            part if isinstance(part, dict) else {"type": "http.request", "body": part, "more_body": True}
            for part in parts
        ]
        if messages and messages[-1]["type"] == "http.request":
            messages[-1]["more_body"] = False
        make.unread = messages or [{"type": "http.request"}]
        sent = []

        async def receive():
            if make.unread:
                return make.unread.pop(0)
            while gone_after is None or len(sent) < gone_after:
                await asyncio.sleep(0.001)
            return GONE

        async def take(message):
            sent.append(message)

        raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}

        async def main():
            loaded = LoadedModel(handler, CodecTable({}))
            engine = Engine(load or (lambda: loaded), ServerSettings())
            application = Application(engine, Uncounted(), **{"max_body": 1000, **options})
            engine.start()
            while load is None and engine.state is not State.READY:
                await asyncio.sleep(0.001)
            try:
                await asyncio.wait_for(application(scope, receive, take), PATIENCE)
            finally:
                engine.stop()
                engine.join(PATIENCE)

        asyncio.run(main())
        return Answer(sent) if sent else None

    return make


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(send, method):
    answer = send(method, "/ping")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize(
    "path",
    ["/", "/ping/", "/invocations/foo", "//ping", "", "/PING", "/models", "/endpoints/a/invocations/x"],
)
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
    assert send("GET", path, headers=[("x-request-id", "my-id")]).headers["x-request-id"] == "my-id"


@pytest.mark.parametrize("odd", ["ünusual", "two words", "x" * 129, ""])
def test_an_id_that_is_none_is_replaced(send, odd):
    assert len(send("GET", "/ping", headers=[("x-request-id", odd)]).headers["x-request-id"]) == 16


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
    application = Application(Engine(lambda: None, ServerSettings()), Uncounted(), max_body=1)
    asyncio.run(application({"type": kind}, None, None))


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("chunks", [None, [b"more"]])
def test_an_answer_that_has_no_body_says_nothing_of_one(send, status, chunks):
    response = Response(b"not sent", "text/csv", status, {"x-count": "5"}, chunks and iter(chunks))
    answer = send("POST", "/invocations", b"", handler=answering(response))
    assert (answer.status, answer.headers["x-count"]) == (status, "5")
    assert "content-length" not in answer.headers
    assert answer.body == b"".join(chunks or ())


# -- readiness ---------------------------------------------------------------------------------


def test_ping_says_why_it_is_not_ready(send):
    release = threading.Event()

    def load():
        release.wait(PATIENCE)
        return LoadedModel(echo, CodecTable({}))

    threading.Timer(0.2, release.set).start()
    answer = send("GET", "/ping", load=load)
    assert (answer.status, answer.json["code"]) == (503, "not_ready")
    assert answer.json["error"] == "the model is being loaded"


def test_ping_is_about_the_endpoint_and_not_this_worker_alone(send):
    release = threading.Event()

    def load():
        release.wait(PATIENCE)
        return LoadedModel(echo, CodecTable({}))

    threading.Timer(0.2, release.set).start()
    assert send("GET", "/ping", load=load, is_ready=lambda: True).status == 200


# -- pages -------------------------------------------------------------------------------------


def test_pages_are_looked_at(send):
    pages = {"/about": lambda headers: Response(headers["accept"].encode(), "text/plain")}
    answer = send("GET", "/about", headers=[("accept", "text/html")], pages=pages)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"text/html", "text/plain")
    assert send("POST", "/about", b"", pages=pages).headers["allow"] == "GET, HEAD"
    assert "/about" in send("GET", "/nowhere", pages=pages).json["error"]


# -- as SageMaker's runtime --------------------------------------------------------------------


def test_the_path_of_sagemakers_runtime(send):
    answer = send("POST", "/endpoints/my-model/invocations", b"1,2", headers=[("content-type", "text/csv")])
    assert (answer.status, answer.json[:2]) == (200, ["1,2", "text/csv"])
    assert answer.headers["x-amzn-invoked-production-variant"] == "AllTraffic"


def test_an_endpoint_that_has_a_name_is_no_other(send):
    path = "/endpoints/other/invocations"
    assert send("POST", path, b"", name="mine").status == 404
    assert send("POST", path, b"", name="other").status == 200
    assert send("GET", path).status == 405


@pytest.mark.parametrize("name", ["-a", "a--b", "a_b", "..", "a" * 64, "%2e%2e", "a/b"])
def test_what_is_no_endpoints_name_is_no_page(send, name):
    assert send("POST", f"/endpoints/{name}/invocations", b"").status == 404


def test_an_error_is_told_as_the_runtime_tells_it(send):
    failing = answering(Response(b'{"error": "no"}', status=422))
    answer = send("POST", "/endpoints/a/invocations", b"", handler=failing)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (422, "ModelError")


# -- answers in pieces -------------------------------------------------------------------------


def pieces():
    yield b"a"
    yield b""
    yield b"b"


def test_an_answer_is_sent_piece_by_piece(send):
    answer = send("POST", "/invocations", b"", handler=lambda _: Response(b"", "text/plain", chunks=pieces()))
    assert [message.get("body") for message in answer.messages[1:]] == [b"a", b"b", b""]
    assert [message.get("more_body", False) for message in answer.messages[1:]] == [True, True, False]
    assert "content-length" not in answer.headers


def test_a_client_that_leaves_ends_the_stream(send):
    made = []

    def endless():
        try:
            for number in itertools.count():
                made.append(number)
                yield b"x"
        finally:
            made.append("closed")

    send("POST", "/invocations", b"", handler=lambda _: Response(b"", chunks=endless()), gone_after=3)
    assert made[-1] == "closed"


def test_a_stream_that_breaks_has_no_end(send, caplog):
    def breaking():
        yield b"a"
        raise OSError("secret")

    answer = send("POST", "/invocations", b"", handler=lambda _: Response(b"", chunks=breaking()))
    assert answer.messages[-1]["more_body"]
    assert "the stream broke off" in caplog.text


# -- on a connection ---------------------------------------------------------------------------

BOTH = pytest.mark.parametrize(
    "path", [b"/invocations", b"/endpoints/a/invocations"], ids=["express", "task"]
)


class Endpoint(Server):
    """A server with an engine behind it."""

    def __init__(self, handler):
        self.engine = Engine(lambda: LoadedModel(handler, CodecTable({})), ServerSettings())
        application = Application(self.engine, Uncounted(), max_body=10**6)
        super().__init__(Limits(), application=application, express=application.express)
        self._loop.call_soon_threadsafe(self.engine.start)
        until(lambda: self.engine.state is State.READY)

    def open_gate(self):
        pass

    def end(self):
        super().end()
        self.engine.stop()
        assert self.engine.join(PATIENCE)


@pytest.fixture
def serve():
    """Serve a handler."""
    servers = []

    def make(handler):
        servers.append(Endpoint(handler))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@BOTH
@pytest.mark.parametrize(
    "response",
    [
        Response(b"abc", "text/csv"),
        Response(b"abc", "text/csv", 201),
        Response(b"abc", "text/csv", headers={"x-count": "5"}),
        Response(bytearray(b"abc"), "text/csv"),
    ],
)
def test_a_response_on_the_wire(serve, path, response):
    (answer,) = serve(answering(response)).ask(post(b"", b"X-Request-Id: id-1", path=path))
    assert (answer.status, answer.body) == (response.status, b"abc")
    wanted = {"content-type": "text/csv", "content-length": "3", "x-request-id": "id-1", **response.headers}
    assert wanted.items() <= answer.headers.items()


@BOTH
@pytest.mark.parametrize(
    "content_type", ["text/csv\r\nx-injected: yes", "snowman/\u2603", None, ["text/csv"]]
)
def test_a_type_that_is_none_is_a_500(serve, path, content_type):
    (answer,) = serve(answering(Response(b"x", content_type))).ask(post(b"", path=path))
    assert answer.status == 500
    assert "x-injected" not in answer.headers


@BOTH
@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_with_its_head(serve, path, status):
    server = serve(answering(Response(b"not sent", status=status)))
    with server.client() as client:
        for _ in range(2):
            client.send(post(b"", path=path))
            answer = client.read(head_only=True)
            assert answer.status == status
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)


@BOTH
@pytest.mark.parametrize("asked", [b"id-1", b""], ids=["the client's", "our own"])
def test_a_stream_that_fails_before_it_began_is_a_500_with_the_id_of_the_log(serve, caplog, path, asked):
    def failing():
        yield b""
        raise OSError("secret")

    server = serve(lambda _: Response(b"", chunks=failing()))
    (answer,) = server.ask(post(b"", b"X-Request-Id: " + asked, path=path))
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.headers["x-request-id"] == (asked.decode() or answer.headers["x-request-id"])
    assert f"the stream broke off request_id={answer.headers['x-request-id']!r}" in caplog.text


@BOTH
def test_a_stream_is_let_go_on_the_models_thread_although_nobody_saw_it_begin(serve, path):
    called, go_on, closed_on = threading.Event(), threading.Event(), []

    def pieces():
        try:
            yield b"a"
            yield b"b"
        finally:
            closed_on.append(threading.current_thread().name)

    def handler(request):
        called.set()
        assert go_on.wait(PATIENCE)
        chunks = pieces()
        next(chunks)
        return Response(b"", chunks=chunks)

    server = serve(handler)
    with server.client() as client:
        client.send(post(b"x" * 100_000, path=path))
        assert called.wait(PATIENCE)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: server.connections == 0)
    assert server.budget.held == 100_000
    go_on.set()
    until(lambda: closed_on)
    assert closed_on == ["model"]
    until(lambda: server.budget.held == 0)


@BOTH
def test_a_body_takes_no_room_once_it_is_answered(serve, path):
    held = []

    def handler(request):
        held.append(server.budget.held)
        return Response(b"")

    server = serve(handler)
    with server.client() as client:
        for _ in range(3):
            client.send(post(b"x" * 100_000, path=path))
            client.read()
    assert held == [100_000] * 3
    until(lambda: server.budget.held == 0)
