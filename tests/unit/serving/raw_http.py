"""A server with the guarded protocol over a small application, and what a raw client needs."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import uvicorn

from modelyard.serving.http.protocol import guarded

PATIENCE = 20.0

HOST = b"Host: a\r\n"
PING = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body, *headers, path=b"/echo", version=b"1.1"):
    """Return a request with a body of known length."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"Host: a", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces, path=b"/echo"):
    """Return a request whose body comes in these pieces."""
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Application:
    """Answers each request with its body; some paths do something else.

    ``calls``: the scope and the messages of each request so far.
    """

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.started = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.outcomes = []

    async def __call__(self, scope, receive, send):
        message = await receive()
        self.calls.append((scope, message))
        self.started.release()
        try:
            await self._answer(scope["path"], message.get("body", b""), receive, send)
        except BaseException as error:
            self.outcomes.append(error)
            raise
        finally:
            self.ended.release()

    async def _answer(self, path, body, receive, send):
        if special := getattr(self, "_answer_" + path[1:].replace("-", "_"), None):
            await special(body, receive, send)
        else:
            await _send(send, path, body)

    async def _answer_wait(self, body, receive, send):
        await self.gate.wait()
        await _send(send, "/wait", body)

    async def _answer_until_gone(self, body, receive, send):
        self.outcomes.append((await receive())["type"])

    async def _answer_raises(self, body, receive, send):
        raise ValueError("/a/secret/path")

    async def _answer_nothing(self, body, receive, send):
        pass

    async def _answer_splits(self, body, receive, send):
        await _send(send, "/splits", body, (b"x-bad", b"a\r\n\r\nHTTP/1.1 200 OK"))

    async def _answer_lies(self, body, receive, send):
        await _send(send, "/lies", body, (b"content-length", b"3"))

    async def _answer_closes(self, body, receive, send):
        await _send(send, "/closes", body, (b"connection", b"close"))

    async def _answer_204(self, body, receive, send):
        await _send(send, "/204", body, status=204)

    async def _answer_large(self, body, receive, send):
        await _send(send, "/large", b"x" * int(body))

    async def _answer_stream(self, body, receive, send):
        await _begin(send, "/stream")
        for piece in (body[:1], b"", body[1:]):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _answer_breaks_off(self, body, receive, send):
        await _begin(send, "/breaks-off")
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ValueError("in the middle")

    async def _answer_forever(self, body, receive, send):
        await _begin(send, "/forever")
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0)


async def _begin(send, path, *headers, status=200):
    headers = [(b"content-type", b"text/plain"), (b"x-path", path.encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send, path, body, *headers, status=200):
    await _begin(send, path, *headers, status=status)
    await send({"type": "http.response.body", "body": body})


class Server:
    """A running server."""

    def __init__(self, limits, loop="uvloop", application=None, express=None, **options):
        self.application = application or Application()
        config = uvicorn.Config(
            self.application,
            http=guarded(limits, express),
            ws="none",
            loop=loop,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            **options,
        )
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = self._socket.getsockname()
        self.uvicorn = uvicorn.Server(config)
        self._loop = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self.uvicorn.started)

    def _run(self):
        self._loop = self.uvicorn.config.get_loop_factory()()
        try:
            self._loop.run_until_complete(self.uvicorn.serve([self._socket]))
        finally:
            self._loop.close()

    @property
    def connections(self):
        return len(self.uvicorn.server_state.connections)

    @property
    def requests(self):
        return [
            (scope["method"], scope["path"], message["body"]) for scope, message in self.application.calls
        ]

    @property
    def budget(self):
        return self.uvicorn.config.http_protocol_class.budget

    def open_gate(self):
        self._loop.call_soon_threadsafe(self.application.gate.set)

    def stop(self):
        """Begin a graceful stop."""
        self.uvicorn.should_exit = True

    def stop_ticking(self):
        """Have uvicorn leave alone the headers that all answers have."""

        async def on_tick(counter):
            return self.uvicorn.should_exit

        self.uvicorn.on_tick = on_tick

    def join(self):
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()

    def end(self):
        self.stop()
        if self._thread.is_alive():
            self.open_gate()
        if not self.join():
            self.uvicorn.force_exit = True
            assert self.join()

    @contextlib.contextmanager
    def client(self):
        with socket.create_connection(self.address, PATIENCE) as sock:
            yield Client(sock)

    @contextlib.contextmanager
    def at_once(self, data):
        """Give a client that has sent this when the server first sees its connection."""
        entered, go_on = threading.Event(), threading.Event()

        def stand_still():
            entered.set()
            go_on.wait(PATIENCE)

        self._loop.call_soon_threadsafe(stand_still)
        assert entered.wait(PATIENCE)
        try:
            with self.client() as client:
                client.send(data)
                go_on.set()
                yield client
        finally:
            go_on.set()

    def ask(self, *data):
        """Send this to the server, close our side, and return the answers until it closes its own."""
        with self.client() as client:
            client.send(*data)
            client.shut()
            return client.rest()


class Client:
    """A raw connection."""

    def __init__(self, sock):
        self.sock = sock
        self.unread = b""

    def send(self, *data):
        for piece in data:
            self.sock.sendall(piece)

    def shut(self):
        self.sock.shutdown(socket.SHUT_WR)

    def read(self, *, head_only=False):
        """Return the next answer; None where the server has closed the connection."""
        while b"\r\n\r\n" not in self.unread:
            if not self._more():
                assert not self.unread, self.unread
                return None
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        answer = Answer(head)
        if answer.status >= 200 and not head_only:
            answer.body = self._body(answer.headers)
        return answer

    def rest(self):
        """Return the answers until the server closes the connection."""
        return list(iter(self.read, None))

    def is_closed(self):
        """Wait until the server has closed the connection, without a word."""
        return not self.unread and not self._more()

    def _more(self):
        data = self.sock.recv(1 << 20)
        self.unread += data
        return bool(data)

    def _body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        if "content-length" not in headers:
            while self._more():
                pass
            return self._exactly(len(self.unread))
        return self._exactly(int(headers["content-length"]))

    def _chunk(self):
        while b"\r\n" not in self.unread:
            assert self._more(), "the connection ended in the middle of an answer"
        size, _, self.unread = self.unread.partition(b"\r\n")
        chunk = self._exactly(int(size, 16))
        assert self._exactly(2) == b"\r\n"
        return chunk

    def _exactly(self, size):
        parts = [self.unread]
        missing = size - len(self.unread)
        while missing > 0:
            data = self.sock.recv(1 << 20)
            assert data, "the connection ended in the middle of an answer"
            parts.append(data)
            missing -= len(data)
        whole = b"".join(parts)
        self.unread = whole[size:]
        return whole[:size]


class Answer:
    def __init__(self, head):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = dict(pairs)
        assert len(pairs) == len(self.headers), head
        self.body = b""

    @property
    def code(self):
        """The code of an error, which has the shape that all errors have."""
        said = json.loads(self.body)
        assert set(said) == {"error", "code", "request_id"}
        assert said["error"]
        assert said["request_id"] == self.headers["x-request-id"]
        assert self.headers["content-type"] == "application/json"
        assert self.headers["connection"] == "close"
        return said["code"]

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


def until(condition):
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)
