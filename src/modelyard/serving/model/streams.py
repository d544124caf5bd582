"""Answers that are sent piece by piece, as a generator of the user's makes them."""

from collections.abc import Callable, Iterator
from typing import Any

from modelyard.core.errors import NotAcceptableError
from modelyard.core.media_types import negotiate

EVENTS = "text/event-stream"
LINES = "application/jsonlines"

Write = Callable[[Any], bytes]


def negotiated(accept: str) -> str:
    """Return the media type in which a client gets predictions one by one.

    JSON lines are what a client gets that asks for JSON. Raises `NotAcceptableError`.
    """
    offers = {LINES: LINES, EVENTS: EVENTS, "application/x-ndjson": "application/x-ndjson"}
    chosen = negotiate(accept, (*offers, "application/json"))
    if chosen is None:
        raise NotAcceptableError(
            f"this model answers piece by piece, which cannot be done as {accept!r}; "
            f"possible: {', '.join(offers)}"
        )
    return offers.get(chosen, LINES)


def pieces(items: Iterator[Any], content_type: str, write: Write, *, lines: bool) -> Iterator[bytes]:
    """Yield what is sent for each item.

    `write`: an item's own bytes; `lines`: whether each is a line. In an event stream an item is an
    event, but bytes are sent as they are there too: they may be events already.
    """
    events = content_type.partition(";")[0].strip().lower() == EVENTS
    for item in items:
        if events:
            yield item if isinstance(item, bytes) else _event(write(item))
        else:
            yield write(item) + b"\n" if lines else write(item)


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the same pieces, the first of them made already: what fails there is an answer of its own."""
    first = next(pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_of_them()


def _event(data: bytes) -> bytes:
    """Return a server-sent event (WHATWG HTML, section 9.2.6)."""
    return b"".join(b"data: " + line + b"\n" for line in data.splitlines() or [b""]) + b"\n"
