"""A proxy in front of a service, which can be told to do what networks and services do on bad days."""

import http.client
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import attrs

_PATIENCE = 30.0


@attrs.frozen
class Seen:
    """A request. ``query``: by name, the first value of each; ``headers``: by lower-case name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    size: int


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


Fault = Callable[["Handler", Callable[[], Answer]], None]
"""Does something with a request; the second argument passes it on and returns the answer."""


@attrs.define
class Rule:
    """What happens to requests of which `applies` is true: ``times`` of them, after the first ``after``."""

    applies: Callable[[Seen], bool]
    fault: Fault
    times: int
    after: int = 0

    def takes(self, seen: Seen) -> bool:
        if not self.times or not self.applies(seen):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a service and notes them in ``seen``; used as a context manager."""

    daemon_threads = True
    request_queue_size = 128  # As many as come at once, however late this process gets its turn.

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[Seen] = []
        self.ended = threading.Event()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def when(self, applies: Callable[[Seen], bool], fault: Fault, *, times: int = 1, after: int = 0) -> None:
        """Have a fault happen to requests."""
        self._rules.append(Rule(applies, fault, times, after))

    def count(self, method: str, **query: str) -> int:
        """Return how many requests of a method have come, with these names in their query."""
        return sum(seen.method == method and set(query) <= set(seen.query) for seen in self.seen)

    def noted(self, seen: Seen) -> Fault:
        with self._lock:
            self.seen.append(seen)
            return next((rule.fault for rule in self._rules if rule.takes(seen)), whole)

    def handle_error(self, request, client_address):
        """Say nothing: clients that hang up are what the tests are about."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.server.noted(Seen(self.command, parts.path, query, headers, len(body)))
        fault(self, lambda: self._passed_on(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 - the names that the base class calls

    def _passed_on(self, body):
        connection = http.client.HTTPConnection(self.server.upstream, timeout=_PATIENCE)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def answer(self, answer: Answer, *, body: bytes | None = None) -> None:
        """Send an answer, with its own length even where another body is sent."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"connection", "transfer-encoding", "content-length", "server", "date"}:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length", str(len(answer.body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if body is None else body)
        self.wfile.flush()

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *args):
        """Say nothing."""


# -- what can happen to a request --------------------------------------------------------------


def whole(handler, passed_on):
    """Pass the request and its answer on."""
    handler.answer(passed_on())


def dropped(handler, passed_on):
    """Hang up instead of passing the request on."""
    handler.hang_up()


def answer_lost(handler, passed_on):
    """Pass the request on, and hang up instead of answering."""
    passed_on()
    handler.hang_up()


def refused(status, code, message="", headers=None):
    """Answer with an error of the service."""

    def fault(handler, passed_on):
        text = f"<Error><Code>{code}</Code><Message>{message or code}</Message></Error>"
        handler.answer(Answer(status, {"Content-Type": "application/xml", **(headers or {})}, text.encode()))

    return fault


def cut(at):
    """Send so many bytes of the body, and hang up."""

    def fault(handler, passed_on):
        answer = passed_on()
        handler.answer(answer, body=answer.body[:at])
        handler.hang_up()

    return fault


def stalled(at):
    """Send so many bytes of the body, and then nothing, until the test is over."""

    def fault(handler, passed_on):
        answer = passed_on()
        handler.answer(answer, body=answer.body[:at])
        handler.server.ended.wait(_PATIENCE)
        handler.hang_up()

    return fault


def damaged(at):
    """Change one byte of the body."""

    def fault(handler, passed_on):
        answer = passed_on()
        body = bytearray(answer.body)
        body[at] ^= 1
        handler.answer(answer, body=bytes(body))

    return fault


def listing(most):
    """Have the service list so many keys at once."""

    def fault(handler, passed_on):
        handler.path += f"&max-keys={most}"
        handler.answer(passed_on())

    return fault
