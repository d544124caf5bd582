"""What a request's head says of its framing, and the requests that are refused for theirs.

llhttp, the parser under uvicorn, refuses most of what is malformed. Here is what it lets through and
two parsers in a row could read differently, so that one request could be hidden in another.
"""

import functools
import re
import secrets
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelyard.serving.errors import error_response

HEADERS = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""The headers that `body_length` looks at, none of which may be repeated."""

CHUNKED = -1
"""The length of a body that comes in chunks."""

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+;=%]*|\[[0-9A-Fa-fv:.]+\])(?::[0-9]*)?")


class RefusedError(Exception):
    """A request that cannot be served; its connection ends with the answer to it.

    `retry_after`: seconds after which it makes sense to try again, for a refusal that passes.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    def answer(self, head: bytes, request_id: str = "") -> bytes:
        """Return the answer. `head`: the header lines that every answer has."""
        request_id = request_id or secrets.token_hex(8)
        response = error_response(self.status, self.code, str(self), request_id, retry_after=self.retry_after)
        headers = {
            "content-type": response.content_type,
            "content-length": len(response.body),
            "x-request-id": request_id,
            **response.headers,
            "connection": "close",
        }
        own = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return b"".join((STATUS_LINE[self.status], head, own.encode("ascii"), b"\r\n", response.body))


def malformed(message: str) -> RefusedError:
    """Return the refusal of what is no HTTP, or ambiguous."""
    return RefusedError(400, "malformed_request", message)


def body_length(version: str, headers: Mapping[bytes, bytes]) -> int:
    """Return how long the body is, or `CHUNKED`. `headers`: those of `HEADERS` that there are.

    Raises `RefusedError` where that cannot be told beyond doubt, or what is expected cannot be done.
    """
    if version not in {"1.1", "1.0"}:
        raise malformed("this server speaks HTTP/1.1 and HTTP/1.0")
    host = headers.get(b"host")
    if host is None:
        if version == "1.1":
            raise malformed("the Host header is missing")
    elif not _is_host(host):
        raise malformed("the Host header is not a host's name")
    if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
        raise RefusedError(417, "expectation_failed", "the only expectation that is met is 100-continue")
    return _length(version, headers)


def _length(version: str, headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length")
    if b"transfer-encoding" not in headers:
        return 0 if length is None else int(length)
    if length is not None:
        raise malformed("Content-Length and Transfer-Encoding contradict each other")
    if version == "1.0":
        raise malformed("HTTP/1.0 has no Transfer-Encoding")
    if headers[b"transfer-encoding"].lower() != b"chunked":
        raise malformed("the only Transfer-Encoding that is understood is chunked")
    return CHUNKED


@functools.lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.rstrip(b" \t")) is not None


# Few paths are asked for, again and again: parsing them each time costs as much as all else here.
@functools.lru_cache(maxsize=32)
def split_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Return a request target's path, its path as it was sent, and its query.

    Raises `RefusedError` for one that is none.
    """
    try:
        # Its parts may be None, which the stubs do not say.
        url: Any = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as error:
        raise malformed("the request's target is not a path") from error
    if url.fragment is not None or url.userinfo is not None:
        raise malformed("the request's target is not a path alone")
    raw_path = url.path or b"/"
    return urllib.parse.unquote(raw_path.decode("ascii")), raw_path, url.query or b""


def by_name(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by name, the values of one that is repeated as the list that they are."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) == len(raw):
        return headers
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(texts) for name, texts in values.items()}
