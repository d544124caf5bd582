"""The requests of one connection, read out of its bytes."""

import enum
from collections.abc import Callable
from functools import cached_property

import attrs
import httptools

from modelyard.serving.http.budget import UNCOUNTED, Budget, Share
from modelyard.serving.http.framing import (
    CHUNKED,
    HEADERS,
    RefusedError,
    body_length,
    by_name,
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


@attrs.frozen(eq=False)
class Head:
    """What a request says before its body, and others of its connection may say again word by word.

    ``headers``: by lower-case names, in their order.
    """

    version: str
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool

    @cached_property
    def by_name(self) -> dict[str, str]:
        """The headers as text; see `framing.by_name`."""
        return by_name(self.headers)


Complete = Callable[[Head, bytes, Share | None], None]
"""Takes a request, its body, and what has to be given back when it is answered."""


class RequestReader:
    """Reads one request after the other, each with its whole body.

    `budget`: of all readers, for their bodies; `begin`: called at the first byte of each request, may
    raise `RefusedError`; `complete`: called with each when it is. ``begun``: requests so far; ``done``:
    whether the client says that no other follows; ``expects``: whether it waits for leave to send the
    body.
    """

    def __init__(self, limits: Limits, budget: Budget, begin: Callable[[], None], complete: Complete) -> None:
        self.stage = Stage.NONE
        self.begun = 0
        self.done = False
        self.expects = False
        self._limits = limits
        self._budget = budget
        self._begin = begin
        self._complete = complete
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: Head
        self._share: Share | None = None
        self._head_read = 0  # At least as many bytes as the head has, and a bound for a chunk's.
        self._length = 0
        self._received = 0
        self._missing = 0  # Bytes of the body that do not pass through the parser.
        self._upgrade = False
        self._plain = False  # Whether the last head says what it would say again.
        self._same = b""  # Its bytes, where it does.
        self._pieces: list[bytes] = []
        self._blocks: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read what the client sent. Raises `RefusedError`, after which nothing more can be read."""
        if self._missing:
            data = self._take(data)
        while data and not self.done:
            same = self._same and self.stage is Stage.NONE and data.startswith(self._same)
            data = self._repeat(data) if same else self._parse(data)

    def forget(self) -> None:
        """Drop what has come of a request that is not complete."""
        self.stage = Stage.NONE
        self.expects = False
        self._missing = 0
        self._pieces.clear()
        self._blocks.clear()
        if self._share is not None:
            self._share.give_back()
            self._share = None

    # What the parser calls. What is raised here ends its `feed_data`.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begin()
        self.begun += 1
        self.stage = Stage.HEAD
        self._target = b""
        self._headers = []
        self._received = 0

    def on_url(self, target: bytes) -> None:
        """Take a piece of the request's target."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide whether the request may go on."""
        parser, limits, headers = self._parser, self._limits, self._headers
        if self._head_read > limits.max_header and self._head_size() > limits.max_header:
            raise self._head_too_large()
        first = dict(headers)
        if len(first) < len(headers):
            _check_repeated(headers)
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        self._length = length = body_length(version, first)
        if length > limits.max_body:
            raise self._body_too_large()
        self._upgrade = parser.should_upgrade()
        if self._upgrade and (method == "CONNECT" or length == CHUNKED):
            raise malformed("this server makes no tunnels and no upgrades")
        self._head = Head(version, method, *split_target(self._target), headers, parser.should_keep_alive())
        # Those behind a chunked body must not pass for the request's.
        self._headers = []
        if length > UNCOUNTED:
            self._hold(length)
        self.expects = b"expect" in first and version == "1.1"
        self._plain = self._head.keep_alive and not (self._upgrade or length == CHUNKED or b"expect" in first)
        self.stage = Stage.BODY

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.expects = False
        self._received += len(body)
        if self._received > self._limits.max_body:
            raise self._body_too_large()
        if self._received > UNCOUNTED:
            self._hold(self._received)
        self._keep(body)

    def on_message_complete(self) -> None:
        """Hand the request on."""
        if self._upgrade and self._length:
            return  # The parser takes it to have no body; `_parse` knows better.
        self.stage = Stage.NONE
        head = self._head
        self.done = not head.keep_alive
        pieces, self._pieces = self._pieces, []
        if self._blocks:
            pieces = [*self._blocks, *pieces]
            self._blocks = []
        share, self._share = self._share, None
        self._complete(head, pieces[0] if len(pieces) == 1 else b"".join(pieces), share)

    def _parse(self, data: bytes) -> bytes:
        """Have the parser read; return what it has not looked at."""
        stage, begun, received = self.stage, self.begun, self._received
        self._same = b""
        fresh = stage is Stage.NONE
        if fresh:
            self._head_read = len(data)
            begun += 1
        else:
            self._head_read += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.done:
                raise _refusal(error) from error
        stage = self.stage
        if stage is Stage.HEAD:
            # What the same read holds of requests before this one is not of its head.
            self._bound(advanced=self.begun > begun)
        elif stage is Stage.BODY and self._length == CHUNKED:
            self._bound(advanced=self.begun > begun or self._received != received)
        elif stage is Stage.BODY:
            self._pass_by_parser()
        if fresh and self.begun == begun and stage is not Stage.HEAD:
            self._learn(data)
        return b""

    def _learn(self, data: bytes) -> None:
        """Remember the head at the start of `data`, if that it comes again means what it means now.

        Most clients say the same word by word in each request of a connection, and to read it again costs
        more than all else that is done for a small one.
        """
        end = data.find(b"\r\n\r\n") + 4
        if (
            self._plain
            # So that the empty line which is found is the one that ends the head.
            and data[:1].isalpha()
            and data.count(b"\n", 0, end) == data.count(b"\r\n", 0, end)
        ):
            self._same = data[:end]

    def _repeat(self, data: bytes) -> bytes:
        """Read a request whose head is the last one's; return what is behind it."""
        self._begin()
        self.begun += 1
        length, start = self._length, len(self._same)
        if length > UNCOUNTED:
            self._hold(length)
        self.stage = Stage.BODY
        self._missing = length
        return self._take(data[start:])

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
            self._keep(data)
            return b""
        self._keep(data if len(data) == missing else data[:missing])
        self._missing = 0
        self.on_message_complete()
        return data[missing:]

    def _pass_by_parser(self) -> None:
        """Have the rest of the body taken as it comes; the parser, which waits for it, is of no more use."""
        self._missing = self._length - self._received
        self._parser = httptools.HttpRequestParser(self)

    def _keep(self, piece: bytes) -> None:
        pieces = self._pieces
        pieces.append(piece)
        if len(pieces) == _PIECES:
            self._blocks.append(b"".join(pieces))
            pieces.clear()

    def _hold(self, size: int) -> None:
        """Have a share of the budget for so much of this body."""
        if self._share is None:
            self._share = Share(self._budget)
        self._share.grow(size)

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Serve a request as if it did not ask for another protocol, which HTTP allows."""
        self._parser = httptools.HttpRequestParser(self)
        self._upgrade = False
        if self.stage is Stage.NONE:
            return rest
        self._missing = self._length
        return self._take(rest) if rest else rest

    def _head_size(self) -> int:
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _head_too_large(self) -> RefusedError:
        said = f"the request's headers are larger than {self._limits.max_header} bytes"
        return RefusedError(431, "headers_too_large", said)

    def _body_too_large(self) -> RefusedError:
        said = f"the body is larger than {self._limits.max_body} bytes"
        return RefusedError(413, "body_too_large", said)


def _check_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    for header in HEADERS:
        if sum(name == header for name, _ in headers) > 1:
            raise malformed(f"the header {header.decode()} is repeated")


def _refusal(error: httptools.HttpParserError) -> RefusedError:
    cause = error.__context__
    if isinstance(cause, RefusedError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        return malformed("the request is malformed")
    return malformed(f"the request is malformed: {error}")
