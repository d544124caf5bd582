"""What an endpoint's handler takes and gives: one request, one response."""

from collections.abc import Callable, Iterator, Mapping

import attrs


@attrs.define(slots=True)
class Request:
    """One invocation.

    ``body``: as received; ``content_type`` and ``accept``: the headers' text, empty if absent;
    ``headers``: every header by lower-case name; ``request_id``: for the log and the client.
    """

    body: bytes
    content_type: str = ""
    accept: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    request_id: str = ""


@attrs.define(slots=True)
class Response:
    """One answer.

    ``content_type``: that of the body as it was produced; ``chunks``: what follows the body, piece by
    piece as it is made, for an answer that is streamed.
    """

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    chunks: Iterator[bytes] | None = None


Handler = Callable[[Request], Response]
"""What a request passes through. Middleware (`modelyard_wrap_handler`) is a handler around one."""
