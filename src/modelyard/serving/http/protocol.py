"""HTTP on one connection: uvicorn's, with limits and without ambiguity.

uvicorn calls the application when a request's head is there, waits for ever for what a client does not
send, and reads as many requests ahead as come. Here the application is called when the request is
complete, whatever a client may take its time for has an end, and what two parsers could read
differently is refused.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from modelyard.serving.http.budget import Budget, Share
from modelyard.serving.http.exchange import Exchange
from modelyard.serving.http.framing import RefusedError
from modelyard.serving.http.reader import Head, RequestReader, Stage
from modelyard.serving.http.watch import Phase, Watch, unacknowledged
from modelyard.serving.settings import Limits

GRACE = 0.5
"""Seconds in which an idle connection may still send a request when the server stops."""

_RECEIVING = {Stage.HEAD: Phase.HEAD, Stage.BODY: Phase.BODY}


Express = Callable[[Exchange], bool]
"""Takes an exchange to answer it without a task of its own, or returns False."""


class GuardedProtocol(HttpToolsProtocol):
    """Speaks HTTP/1.1 and HTTP/1.0 with one client.

    Requests are answered in the order in which they came, one at a time. One that is refused is answered
    in its turn, and nothing behind it is looked at. See `guarded` for a class with other limits.
    """

    limits: ClassVar[Limits] = Limits()
    budget: ClassVar[Budget] = Budget(limits.max_buffered)
    """Of all connections together."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._reader = RequestReader(
            self.limits, self.budget, self._request_begins, self._request_is_complete
        )
        self._active: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._last_words = b""
        self._deaf = False  # What still comes is not looked at.
        self._lingering = False
        self._half_closed = False
        self._draining = False
        self._written = 0
        self._common: tuple[list[tuple[bytes, bytes]], bytes, bool] = ([], b"", False)
        self._watch: Watch | None = None

    # What the transport and the server call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._watch = Watch(self, self.limits, self.loop)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._deaf:
            return
        reader = self._reader
        try:
            reader.feed(data)
        except RefusedError as refused:
            if not self._deaf:
                self._refuse(refused)
        if reader.expects:
            self._invite()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Close, unless the client has closed but its own side and waits for answers."""
        self._half_closed = True
        if self._reader.stage is not Stage.NONE:
            self._refuse(RefusedError(400, "incomplete_request", "the request ended before it was complete"))
        return self.scheme == "http" and (self._active is not None or bool(self._waiting))

    def resume_writing(self) -> None:
        """Go on with what had to wait for the client."""
        self.flow.resume_writing()
        if self._active is None and self._waiting:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; a request that is being answered learns of it."""
        self.connections.discard(self)
        if self._watch is not None:
            self._watch.stop()
        self._forget()
        if self._active is not None:
            self._active.end()
        if self.flow is not None:
            self.flow.resume_writing()

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for an answer."""
        return self._active is not None

    def shutdown(self) -> None:
        """Close once everything that the client began to ask for is answered."""
        if not self._draining:
            self._draining = True
            self._close_if_quiet_soon()

    # What the reader calls.

    def _request_begins(self) -> None:
        if self._deaf:
            raise RefusedError(400, "not_looked_at", "the answer to the request before this one was the last")
        if len(self._waiting) >= self.limits.max_pipelined:
            said = "too many requests before the first was answered"
            raise RefusedError(429, "too_many_pipelined", said, retry_after=1)

    def _request_is_complete(self, head: Head, body: bytes, share: Share | None) -> None:
        exchange = Exchange(self, head, body, share)
        self._deaf = not head.keep_alive
        if self._active is None and not self._waiting and not self.flow.write_paused:
            self._start(exchange)
        else:
            self._waiting.append(exchange)
            self.flow.pause_reading()

    # What an exchange calls.

    def scope_of(self, head: Head) -> HTTPScope:
        """Return what ASGI calls the scope of a request."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": head.method,
            "root_path": self.root_path,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers.copy(),
            "state": self.app_state.copy(),
        }

    def common_head(self) -> bytes:
        """Return the header lines that every answer has."""
        headers = self.server_state.default_headers
        if headers != self._common[0]:
            others = [header for header in headers if header[0] != b"connection"]
            lines = b"".join(b"%b: %b\r\n" % header for header in others)
            self._common = headers.copy(), lines, len(others) < len(headers)
        return self._common[1]

    def is_ending(self) -> bool:
        """Tell whether no other request is to follow the one that is being answered."""
        if self._waiting or self._last_words or self._reader.stage is not Stage.NONE:
            return False
        return self._draining or self._half_closed or self._common[2]

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._written += len(data)
        self.transport.write(data)

    def answered(self, exchange: Exchange) -> None:
        """Go on to the next request."""
        self.server_state.total_requests += 1
        self._active = None
        if exchange.keep_alive:
            self._advance()
        else:
            self._linger()

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self._forget()
        self.transport.close()

    # What the watch calls.

    def progress(self) -> tuple[Phase, int]:
        """Return what the connection waits for, and a number that is another one if there is progress."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            # The kernel asks for more only when a good part of its megabytes is gone.
            held = unacknowledged(self.transport.get_extra_info("socket"))
            return Phase.SENDING, self._written - unsent - held
        return self._phase(), self._reader.begun

    def expire(self, phase: Phase) -> None:
        """End the connection, with an answer if there is something to answer."""
        if phase is Phase.HEAD:
            self._refuse(RefusedError(408, "header_timeout", "the request's headers took too long"))
        elif phase is Phase.BODY:
            self._refuse(RefusedError(408, "body_timeout", "the request's body took too long"))
        elif phase is Phase.SENDING:
            self.transport.abort()
        else:
            self.transport.close()

    def _phase(self) -> Phase:
        if self._lingering:
            return Phase.LINGER
        if not self._deaf and not self.flow.read_paused and self._reader.stage in _RECEIVING:
            return _RECEIVING[self._reader.stage]
        if self._active is not None or self._waiting:
            return Phase.BUSY
        return Phase.IDLE if self._reader.begun else Phase.OPEN

    # What comes after what.

    def takes(self, exchange: Exchange) -> bool:
        """Answer an exchange without a task of its own; tell whether that is so."""
        return False

    def _start(self, exchange: Exchange) -> None:
        self._active = exchange
        if not self.takes(exchange):
            exchange.run(self.app)

    def _advance(self) -> None:
        """Do what is next, now that nothing is being answered."""
        if self._waiting and self.flow.write_paused:
            return
        if self._waiting:
            self._start(self._waiting.popleft())
            if not self._waiting and not self._deaf:
                self.flow.resume_reading()
        elif self._last_words:
            self.write(self._last_words)
            self._linger()
        elif self._half_closed:
            self.transport.close()
        else:
            if self._reader.expects:
                self._invite()
            if self._draining:
                self._close_if_quiet_soon()

    def _invite(self) -> None:
        """Tell the client to send the body that it asked about, unless another answer is due first."""
        if self._active is None and not self._waiting:
            self._reader.expects = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, refused: RefusedError) -> None:
        """Answer in its turn what cannot be served, and look at nothing that comes after it."""
        self._deaf = True
        self._reader.forget()
        self._last_words = refused.answer(self.common_head())
        if self._active is None:
            self._advance()
        else:
            self.flow.pause_reading()

    def _forget(self) -> None:
        """Drop what has come and will have no answer, and look at nothing that still comes."""
        self._deaf = True
        self._reader.forget()
        for exchange in self._waiting:
            exchange.let_go()
        self._waiting.clear()

    def _linger(self) -> None:
        """Close in good order: to close while the client sends would take the answer from it."""
        self._lingering = True
        self._forget()
        if self._half_closed or not self.transport.can_write_eof():
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            if self._draining:
                self.loop.call_later(GRACE, self.transport.close)

    def _close_if_quiet_soon(self) -> None:
        self.loop.call_later(GRACE, self._close_if_quiet)

    def _close_if_quiet(self) -> None:
        if self._phase() in {Phase.OPEN, Phase.IDLE}:
            self.transport.close()


def guarded(limits: Limits, express: Express | None = None) -> type[GuardedProtocol]:
    """Return the protocol with these limits, for ``uvicorn.Config(http=...)``.

    `express`: asked first for each request; what it does not take goes to the application.
    """
    own: dict[str, Any] = {"limits": limits, "budget": Budget(limits.max_buffered)}
    if express:
        own["takes"] = staticmethod(express)
    return type("GuardedProtocol", (GuardedProtocol,), own)
