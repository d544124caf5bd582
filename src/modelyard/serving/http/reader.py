"""The requests of one connection, read out of its bytes."""

import enum
from collections.abc import Callable

import httptools

from modelyard.serving.http.framing import (
    CHUNKED,
    HEADERS,
    RefusedError,
    body_length,
    malformed,
    split_target,
)
from modelyard.serving.settings import Limits

_PIECES = 4096
"""So many pieces of a body are joined, or one in tiny chunks would take many times its size."""


class Stage(enum.Enum):
    """Which part of a request is being read."""

    NONE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class RequestReader:
    """Reads one request after the other, each with its whole body.

    `begin`: called at the first byte of each, may raise `RefusedError`; `complete`: called with each
    body, when the attributes describe its request. ``begun``: requests so far; ``done``: whether the
    client says that no other follows; ``expects``: whether it waits for leave to send the body.
    """

    def __init__(self, limits: Limits, begin: Callable[[], None], complete: Callable[[bytes], None]) -> None:
        self.stage = Stage.NONE
        self.begun = 0
        self.done = False
        self.expects = False
        self.version = ""
        self.method = ""
        self.path, self.raw_path, self.query = "", b"", b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.keep_alive = True
        self._limits = limits
        self._begin = begin
        self._complete = complete
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._framing: dict[bytes, bytes] = {}
        self._head_read = 0  # At least as many bytes as the head has, and a bound for a chunk's.
        self._length = 0
        self._received = 0
        self._missing = 0  # Bytes of the body that do not pass through the parser.
        self._upgrade = False
        self._pieces: list[bytes] = []
        self._blocks: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read what the client sent. Raises `RefusedError`, after which nothing more can be read."""
        if self._missing:
            data = self._take(data)
        while data and not self.done:
            data = self._parse(data)

    def forget(self) -> None:
        """Drop what has come of a request that is not complete."""
        self.stage = Stage.NONE
        self.expects = False
        self._missing = 0
        self._pieces.clear()
        self._blocks.clear()

    # What the parser calls. What is raised here ends its `feed_data`.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begin()
        self.begun += 1
        self.stage = Stage.HEAD
        self._target = b""
        self.headers = []
        self._framing = {}
        self._received = 0

    def on_url(self, target: bytes) -> None:
        """Take a piece of the request's target."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Those behind a chunked body are dropped: they must not pass for the request's."""
        if self.stage is not Stage.HEAD:
            return
        name = name.lower()
        if name in HEADERS:
            if name in self._framing:
                raise malformed(f"the header {name.decode()} is repeated")
            self._framing[name] = value
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide whether the request may go on."""
        parser, limits = self._parser, self._limits
        if self._head_read > limits.max_header and self._head_size() > limits.max_header:
            raise self._head_too_large()
        self.version = parser.get_http_version()
        self.method = parser.get_method().decode("ascii")
        self._length = body_length(self.version, self._framing)
        if self._length > limits.max_body:
            raise self._body_too_large()
        self._upgrade = parser.should_upgrade()
        if self._upgrade and (self.method == "CONNECT" or self._length == CHUNKED):
            raise malformed("this server makes no tunnels and no upgrades")
        self.path, self.raw_path, self.query = split_target(self._target)
        self.keep_alive = parser.should_keep_alive()
        self.expects = b"expect" in self._framing and self.version == "1.1"
        self.stage = Stage.BODY

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.expects = False
        self._received += len(body)
        if self._received > self._limits.max_body:
            raise self._body_too_large()
        self._pieces.append(body)
        if len(self._pieces) == _PIECES:
            self._blocks.append(b"".join(self._pieces))
            self._pieces.clear()

    def on_message_complete(self) -> None:
        """Hand the request on."""
        if self._upgrade and self._length:
            return  # The parser takes it to have no body; `_parse` knows better.
        self.stage = Stage.NONE
        self.done = not self.keep_alive
        pieces = self._pieces
        if self._blocks:
            pieces = [*self._blocks, *pieces]
            self._blocks = []
        self._pieces = []
        self._complete(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _parse(self, data: bytes) -> bytes:
        """Have the parser read; return what it has not looked at."""
        inside = self.stage is not Stage.NONE
        first, received = self.begun + (not inside), self._received
        self._head_read = len(data) + (self._head_read if inside else 0)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.done:
                raise _refusal(error) from error
        if self.stage is Stage.HEAD:
            # What the same read holds of requests before this one is not of its head.
            self._bound(advanced=self.begun > first)
        elif self.stage is Stage.BODY and self._length == CHUNKED:
            self._bound(advanced=self.begun > first or self._received != received)
        elif self.stage is Stage.BODY:
            self._missing = self._length - self._received
        return b""

    def _bound(self, *, advanced: bool) -> None:
        """Refuse a head without end, as that of a request, of a chunk or behind the last chunk may be."""
        if advanced:
            self._head_read = 0
        elif self._head_read > self._limits.max_header:
            raise self._head_too_large()

    def _take(self, data: bytes) -> bytes:
        """Take what is missing of a body whose length is known; return what is behind it.

        The parser would but copy it.
        """
        missing = self._missing
        self.expects = False
        if len(data) < missing:
            self._missing -= len(data)
            self._pieces.append(data)
            return b""
        self._pieces.append(data if len(data) == missing else data[:missing])
        self._missing = 0
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_complete()
        return data[missing:]

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Serve a request as if it did not ask for another protocol, which HTTP allows."""
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade = False
        if self.stage is Stage.NONE:
            return rest
        self._missing = self._length
        return self._take(rest) if rest else rest

    def _head_size(self) -> int:
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_too_large(self) -> RefusedError:
        said = f"the request's headers are larger than {self._limits.max_header} bytes"
        return RefusedError(431, "headers_too_large", said)

    def _body_too_large(self) -> RefusedError:
        said = f"the body is larger than {self._limits.max_body} bytes"
        return RefusedError(413, "body_too_large", said)


def _refusal(error: httptools.HttpParserError) -> RefusedError:
    cause = error.__context__
    if isinstance(cause, RefusedError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        return malformed("the request is malformed")
    return malformed(f"the request is malformed: {error}")
