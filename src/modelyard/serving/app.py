"""The ASGI application: ``GET /ping`` and ``POST /invocations``, and nothing else."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import Executor
from typing import Any

from modelyard.core.http import Handler, Request, Response
from modelyard.core.log import get_logger
from modelyard.serving.errors import error_response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DEFAULT_MAX_BODY = 100 * 1024 * 1024


_log = get_logger(__name__)

# A header with one of these would end early, and what follows be taken for headers of ours.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class _BodyTooLargeError(Exception):
    """The body is past the limit; what is left of it is not read."""


class _ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Application:
    """Serves one handler, which runs on the thread of `executor` that also loaded the model.

    `max_body`: bytes of a request's body, more is a 413. An application is made once its model is
    loaded, so ``/ping`` is 200 from the first request on.
    """

    def __init__(self, handler: Handler, executor: Executor, *, max_body: int = DEFAULT_MAX_BODY) -> None:
        self._handler = handler
        self._executor = executor
        self._max_body = max_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        headers = _by_name(scope["headers"])
        request_id = headers.get("x-request-id") or secrets.token_hex(8)
        with contextlib.suppress(_ClientGoneError):
            response = await self._respond(scope["method"], scope["path"], headers, request_id, receive)
            await _send(send, response, request_id)

    async def _respond(
        self, method: str, path: str, headers: dict[str, str], request_id: str, receive: Receive
    ) -> Response:
        allowed = {"/ping": ("GET", "HEAD"), "/invocations": ("POST",)}.get(path)
        if allowed is None:
            return error_response(404, "not_found", "there are /ping and /invocations", request_id)
        if method not in allowed:
            said = f"{path} takes {' and '.join(allowed)}"
            refused = error_response(405, "method_not_allowed", said, request_id)
            refused.headers = {"allow": ", ".join(allowed)}
            return refused
        if path == "/ping":
            return Response(b"", "text/plain")
        return await self._invoke(headers, request_id, receive)

    async def _invoke(self, headers: dict[str, str], request_id: str, receive: Receive) -> Response:
        try:
            body = await self._body(headers, receive)
        except _BodyTooLargeError:
            said = f"the body is larger than {self._max_body} bytes"
            return error_response(413, "body_too_large", said, request_id)
        request = Request(
            body, headers.get("content-type", ""), headers.get("accept", ""), headers, request_id
        )
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._handler, request)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """Return the body. Raises `_BodyTooLargeError` and `_ClientGoneError`."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body:
            raise _BodyTooLargeError
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                raise _BodyTooLargeError
            if not message.get("more_body"):
                return b"".join(parts)


def _by_name(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by name, the values of one that is repeated as the list that they are."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _status(code: int) -> int:
    if not 200 <= code <= 599:
        raise ValueError(f"{code} is no status of an answer")
    return int(code)


async def _send(send: Send, response: Response, request_id: str) -> None:
    try:
        start, body = _messages(response, request_id)
    except Exception:  # noqa: BLE001 - a handler may return anything
        _log.error("response cannot be sent", request_id=request_id, exc_info=True)
        said = "the model's response cannot be sent; the endpoint's log says why"
        start, body = _messages(error_response(500, "model_error", said, request_id), request_id)
    await send(start)
    await send(body)


def _messages(response: Response, request_id: str) -> tuple[Message, Message]:
    """Return a response as ASGI has it. Raises what Python raises for one that HTTP cannot carry."""
    body = memoryview(response.body).tobytes()
    headers = {key.lower(): str(value) for key, value in response.headers.items()}
    headers.pop("transfer-encoding", None)
    headers |= {
        "content-type": response.content_type,
        "content-length": str(len(body)),
        "x-request-id": request_id,
    }
    if response.status == 413:
        headers["connection"] = "close"
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    if bad := next((part for pair in raw for part in pair if _CONTROL.search(part)), None):
        raise ValueError(f"a header has a control character: {bad!r}")
    return (
        {"type": "http.response.start", "status": _status(response.status), "headers": raw},
        {"type": "http.response.body", "body": body},
    )
