"""One request and its answer: what the ASGI application is called with."""

import asyncio
import secrets
from collections.abc import Awaitable, Coroutine, Iterable, MutableMapping
from typing import Any, Protocol, cast

from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected

from modelyard.core.log import get_logger
from modelyard.serving.http.budget import Share
from modelyard.serving.http.framing import CHUNKED, RefusedError
from modelyard.serving.http.reader import Head

_UNTIL_CLOSE = -2
"""The length of a body that ends with its connection: HTTP/1.0 has no chunks."""

_JOINED = 64 * 1024
"""A body up to this size is copied behind its head, so that both are one write."""

Message = MutableMapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]

_log = get_logger(__name__)


class Connection(Protocol):
    """What an exchange wants of the connection that it is on."""

    flow: FlowControl
    tasks: set[asyncio.Task[None]]

    def scope_of(self, head: Head) -> HTTPScope:
        """Return what ASGI calls the scope of a request."""

    def common_head(self) -> bytes:
        """Return the header lines that every answer has."""

    def is_ending(self) -> bool:
        """Tell whether no other request is to follow the one that is being answered."""

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""

    def answered(self, exchange: "Exchange") -> None:
        """Go on to the next request."""

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""


class Exchange:
    """A request that is complete, and the answer to it.

    The application's first ``receive()`` gives it the whole body; the next one returns when the client
    is gone or the answer complete. The answer's head waits for the first piece of its body, so that the
    usual answer is one write. ``send()`` raises `ClientDisconnected`, an `OSError`, once the client is
    gone. ``keep_alive``: whether another request may follow on the connection; ``request_id``: under
    which the application logs and answers the request, where it says so, be it in its scope's ``state``.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_connection",
        "_ended",
        "_left",
        "_share",
        "_silent",
        "_start",
        "_state",
        "complete",
        "disconnected",
        "head",
        "keep_alive",
        "request_id",
        "task",
    )

    def __init__(self, connection: Connection, head: Head, body: bytes, share: Share | None = None) -> None:
        self.head = head
        self.keep_alive = head.keep_alive
        self.request_id = ""
        self.complete = False
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._body: bytes | None = body
        self._ended: asyncio.Event | None = None
        self._start: Message | None = None
        self._begun = False
        self._left = 0
        self._share = share
        self._silent = head.method == "HEAD"
        self._state: dict[str, Any] | None = None

    def take(self) -> bytes:
        """Return the request's body, in the place of the first `receive`."""
        body, self._body = self._body, None
        return body or b""

    def let_go(self) -> None:
        """Give back what the request's body took; it is answered, or will not be."""
        if self._share is not None:
            self._share.give_back()

    def answer(self, status: int, headers: Headers | bytes, body: bytes) -> None:
        """Send a whole answer. `headers`: ASGI's, or their lines as they are sent, without a length."""
        try:
            if not self.disconnected:
                self._write(status, headers, body, more=False)
        except Exception:  # noqa: BLE001 - as below
            self._log()
            self._fail()
        finally:
            self.let_go()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have a coroutine answer, in a task."""
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self._connection.tasks.add(self.task)

    def run(self, app: ASGI3Application) -> None:
        """Have the application answer, in a task."""
        scope = self._connection.scope_of(self.head)
        self._state = scope.get("state")
        work = app(scope, cast(Any, self.receive), cast(Any, self.send))
        self.begin(cast("Coroutine[Any, Any, None]", work))

    async def _run(self, work: Awaitable[None]) -> None:
        """Wait for the application, and see to it that there is an answer."""
        try:
            await work
        except ClientDisconnected:
            pass
        # The server outlives whatever its application raises; a task that is cancelled answers, too.
        except BaseException:  # noqa: BLE001
            self._log()
        try:
            if not self.complete and not self.disconnected:
                self._fail()
        finally:
            self.let_go()
            if self.task is not None:
                self._connection.tasks.discard(self.task)

    def end(self) -> None:
        """Take note that the client is gone."""
        self.disconnected = not self.complete
        if self._ended is not None:
            self._ended.set()

    async def receive(self) -> Message:
        """Return the request's body at first, then wait for its end (ASGI)."""
        if self._body is not None and not self.disconnected:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not (self.complete or self.disconnected):
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the answer's start, then the pieces of its body (ASGI)."""
        flow = self._connection.flow
        if flow.write_paused:
            await flow.drain()
        if self.disconnected:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self.complete:
            start, more = self._start, message.get("more_body", False)
            self._write(start["status"], start.get("headers", ()), message.get("body", b""), more=more)
        else:
            raise RuntimeError(f"{kind} is not what comes next in an answer")

    def _write(self, status: int, headers: Headers | bytes, body: bytes, *, more: bool) -> None:
        head = b"" if self._begun else self._head(status, headers, None if more else len(body))
        if self._silent:
            body = b""
        elif self._left >= 0:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer's body is not as long as its Content-Length")
        elif self._left == CHUNKED:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._begun = True
        if len(body) <= _JOINED:
            self._connection.write(head + body)
        else:
            self._connection.write(head)
            self._connection.write(body)
        if not more:
            self._complete()

    def _head(self, status: int, headers: Headers | bytes, length: int | None) -> bytes:
        """Return the answer's head. `length`: of the body, where it is known."""
        lines, declared = (headers, None) if isinstance(headers, bytes) else self._lines(headers)
        self._silent = self._silent or status in {204, 304}
        framing = b""
        if declared is not None:
            self._left = declared
        elif self._silent:
            self._left = 0
        elif length is not None:
            self._left, framing = length, b"content-length: %d\r\n" % length
        elif self.head.version == "1.0":
            self._left, self.keep_alive = _UNTIL_CLOSE, False
        else:
            self._left, framing = CHUNKED, b"transfer-encoding: chunked\r\n"
        common = self._connection.common_head()
        return b"".join((STATUS_LINE[status], common, lines, framing, self._persistence(), b"\r\n"))

    def _lines(self, headers: Headers) -> tuple[bytes, int | None]:
        """Return the application's headers as they are sent, and the Content-Length among them."""
        lines = []
        declared = None
        for name, value in headers:
            key = name.lower()
            if key == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
            elif key != b"transfer-encoding":
                if key == b"content-length":
                    declared = int(value)
                lines.append(b"%b: %b\r\n" % (key, value))
        block = b"".join(lines)
        # A line end within a name or a value would let it pass for a header, or for a whole answer.
        if not block.count(b"\n") == block.count(b"\r") == len(lines) or b"\0" in block:
            raise RuntimeError("a header of the answer has a control character")
        return block, declared

    def _persistence(self) -> bytes:
        self.keep_alive = self.keep_alive and not self._connection.is_ending()
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.head.version == "1.0" else b""

    def _complete(self) -> None:
        self.complete = True
        if self._ended is not None:
            self._ended.set()
        self._connection.answered(self)

    def _fail(self) -> None:
        """Answer in the place of an application that did not, or not to the end."""
        if self._begun:
            self._connection.cut()
            return
        self.keep_alive = False
        failed = RefusedError(500, "internal_error", "the server failed; its log says why")
        self._connection.write(failed.answer(self._connection.common_head(), self._id()))
        self._complete()

    def _log(self) -> None:
        """Log the exception that is being handled."""
        _log.error("the application failed", request_id=self._id(), exc_info=True)

    def _id(self) -> str:
        if not self.request_id:
            self.request_id = (self._state or {}).get("request_id") or secrets.token_hex(8)
        return self.request_id
