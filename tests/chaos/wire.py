"""Bytes to a server and back: one request as bytes, every answer to it, and what is wrong with those."""

import contextlib
import json
import re
import select
import socket
import sys
import time
from pathlib import Path

import attrs

PATIENCE = 20.0
CLOSED = 0
"""In the place of a status: the connection was closed without an answer."""

_LINE = b"HTTP/1."
_LAST_PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %b\r\nConnection: close\r\n\r\n"
_OURS = {"error", "code", "request_id"}
_OF_BOTO3 = {"message", "OriginalStatusCode", "OriginalMessage"}
_LEAK = re.compile(
    rb'Traceback|File "|\.py\b|line \d+, in |site-packages|0x[0-9a-f]{8}'
    rb"|\b(?:modelyard|numpy|torch|orjson|uvicorn|httptools|asyncio|builtins|encodings)\.[a-z_]"
    rb"|/(?:usr|home|root|tmp|opt|var|work|proc|lib)/"
)


@attrs.frozen
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True


@attrs.frozen
class Outcome:
    """What came back for one request, and how its connection ended.

    ``answers``: to the request; ``usable``: whether the connection took another request afterwards;
    ``seconds``: until the first answer or the end; ``end``: "open", "closed", "reset" or "hung".
    """

    answers: tuple[Answer, ...]
    usable: bool
    seconds: float
    end: str

    @property
    def status(self):
        return self.answers[0].status if self.answers else CLOSED


def post(body=b"[1]", content_type="application/json", accept="application/json", *, path=b"/invocations",
         more=()):  # fmt: skip
    """Return a well-framed request as bytes. None for a header leaves it out; `more`: lines of headers."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(body)]
    for name, value in ((b"Content-Type", content_type), (b"Accept", accept)):
        if value is not None:
            lines.append(name + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join([*lines, *more, b"", body])


def exchange(port, request, *, ends=False, patience=PATIENCE, number=0):
    """Send a request, then a ping on the same connection if that is still open; return the `Outcome`.

    `request`: bytes, or several that are sent one by one; `ends`: the client says that nothing more
    comes. The ping has a request id by which its answer is told from those to the request.
    """
    began = time.monotonic()
    mark = f"after-{number}"
    with socket.create_connection(("127.0.0.1", port), patience) as connection:
        reader = _Reader(connection, began + patience, is_head=_head_of(request).startswith(b"HEAD "))
        reader.send(request)
        if ends:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        reader.read_one()
        seconds = time.monotonic() - began
        if not ends and reader.end == "open":
            reader.is_head = False
            reader.send(_LAST_PING % mark.encode())
        reader.read_all()
    usable = bool(reader.answers) and reader.answers[-1].headers.get("x-request-id") == mark
    answers = reader.answers[:-1] if usable else reader.answers
    return Outcome(tuple(answers), usable, seconds, reader.end)


def problems(outcome, want, *, answers=1, secrets=()):
    """Return what is wrong with an outcome, as a list of texts.

    `want`: the statuses that are right, `CLOSED` among them if no answer is; `answers`: how many there
    may be at most, of which the first has one of `want`; `secrets`: bytes that no answer may hold.
    """
    found = []
    if outcome.status not in want:
        said = outcome.answers[0].body[:200] if outcome.answers else b""
        found.append(f"status {outcome.status}, not {sorted(want)}: {said!r}")
    if len(outcome.answers) > answers:
        found.append(f"{len(outcome.answers)} answers to one request")
    if outcome.end in {"reset", "hung"}:
        number = len(outcome.answers)
        found.append(f"the connection was {outcome.end} after {number} answers, {outcome.seconds:.1f} s")
    for answer in outcome.answers:
        found += _faults(answer, want, secrets)
    return found


def _faults(answer, want, secrets):
    if not answer.complete:
        yield "the answer broke off"
    if answer.status >= 500 and answer.status not in want:
        yield f"a {answer.status}"
    if answer.status >= 400 and answer.body:
        yield from _misshapen(answer)
        if leak := _LEAK.search(answer.body):
            yield f"a leak, {leak[0]!r}: {answer.body[:300]!r}"
    for secret in secrets:
        if secret in answer.body:
            yield f"a leak, {secret!r}"


def _misshapen(answer):
    try:
        said = json.loads(answer.body)
    except ValueError:
        yield f"an error that is no JSON: {answer.body[:200]!r}"
        return
    # What boto3 reads of an error comes on top, and is marked as such.
    more = _OF_BOTO3 if "x-amzn-errortype" in answer.headers else set()
    if not isinstance(said, dict) or said.keys() != _OURS | more:
        yield f"an error of another shape: {answer.body[:200]!r}"
    elif not all(isinstance(said[name], str) and said[name] for name in _OURS):
        yield f"an error with an empty field: {answer.body[:200]!r}"
    elif said["request_id"] != answer.headers.get("x-request-id"):
        yield "an error without its request id in the headers"
    if answer.headers.get("content-type") != "application/json":
        yield f"an error as {answer.headers.get('content-type')}"


def local_secrets(*paths):
    """Return paths of this machine as no answer may hold them."""
    return tuple(str(path).encode() for path in (*paths, sys.prefix, Path.home()) if len(str(path)) > 2)


def _head_of(request):
    return request if isinstance(request, bytes) else next(iter(request), b"")


class _Reader:
    """The client's side of one connection."""

    def __init__(self, connection, deadline, *, is_head):
        self.answers = []
        self.end = "open"
        self.is_head = is_head
        self._connection = connection
        self._deadline = deadline
        self._buffer = bytearray()
        self._needed = 0  # bytes, before there is any use in looking

    def send(self, data):
        """Send everything, unless the server has answered or closed before."""
        for part in [data] if isinstance(data, bytes) else data:
            view = memoryview(part)
            while view:
                readable, writable, _ = select.select([self._connection], [self._connection], [], 1.0)
                if readable and not writable:
                    # A server that answers early may read no more: what it says is what counts.
                    return
                if time.monotonic() > self._deadline:
                    self.end = "hung"
                    return
                if writable:
                    try:
                        self._connection.settimeout(0.2)
                        view = view[self._connection.send(view[: 1 << 18]) :]
                    except TimeoutError:
                        continue
                    except OSError:  # Closed meanwhile: the answer may be there all the same.
                        return

    def read_one(self):
        """Read until there is an answer to look at, or the end."""
        while not self.answers and self._receive():
            self._parse()

    def read_all(self):
        """Read to the end of the connection."""
        while self._receive():
            self._parse()
        self._parse(at_end=True)

    def _receive(self):
        if self.end != "open":
            return False
        left = self._deadline - time.monotonic()
        if left <= 0 or not select.select([self._connection], [], [], left)[0]:
            self.end = "hung"
            return False
        try:
            data = self._connection.recv(1 << 18)
        except ConnectionError:
            self.end = "reset"
            return False
        if not data:
            self.end = "closed"
        self._buffer += data
        return bool(data)

    def _parse(self, *, at_end=False):
        while self._buffer and (at_end or len(self._buffer) >= self._needed):
            start = self._buffer.find(b"\r\n\r\n") + 4
            if start < 4:
                break
            status, headers = _parsed(bytes(self._buffer[: start - 4]))
            if 100 <= status < 200:
                del self._buffer[:start]
                continue
            silent = self.is_head or status in {204, 304}
            self._needed = 0 if silent else start + int(headers.get("content-length", 0))
            if len(self._buffer) < self._needed:
                break
            body, used = (b"", 0) if silent else _body(headers, bytes(self._buffer[start:]), at_end=at_end)
            if body is None:
                break
            self.answers.append(Answer(status, headers, body))
            del self._buffer[: start + used]
            self._needed = 0
        if at_end and self._buffer:
            status = int(self._buffer[9:12]) if self._buffer.startswith(_LINE) else -1
            self.answers.append(Answer(status, {}, bytes(self._buffer), complete=False))
            self._buffer.clear()


def _parsed(head):
    first, *lines = head.split(b"\r\n")
    status = int(first[9:12]) if first.startswith(_LINE) and first[9:12].isdigit() else -1
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return status, {name.lower(): value.strip() for name, _, value in pairs}


def _body(headers, rest, *, at_end):
    """Return an answer's body and how many bytes it took; None if it is not complete."""
    if "chunked" in headers.get("transfer-encoding", ""):
        return _unchunked(rest)
    if "content-length" in headers:
        length = int(headers["content-length"])
        return (rest[:length], length) if len(rest) >= length else (None, 0)
    return (rest, len(rest)) if at_end else (None, 0)


def _unchunked(rest):
    body, position = b"", 0
    while True:
        end = rest.find(b"\r\n", position)
        if end < 0:
            return None, 0
        size = int(rest[position:end], 16)
        position = end + 2 + size + 2
        if len(rest) < position:
            return None, 0
        if not size:
            return body, position
        body += rest[end + 2 : end + 2 + size]
