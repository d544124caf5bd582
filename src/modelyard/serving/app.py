"""The ASGI application: ``GET /ping`` and ``POST /invocations``, and nothing else."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any

from modelyard.core.http import Handler, Request, Response
from modelyard.serving.handler import error_response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DEFAULT_MAX_BODY = 100 * 1024 * 1024


class _BodyTooLargeError(Exception):
    """The body is past the limit; what is left of it is not read."""


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
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        request_id = headers.get("x-request-id") or secrets.token_hex(8)
        response = await self._respond(scope["method"], scope["path"], headers, request_id, receive)
        if response is not None:
            await _send(send, response, request_id)

    async def _respond(
        self, method: str, path: str, headers: dict[str, str], request_id: str, receive: Receive
    ) -> Response | None:
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

    async def _invoke(self, headers: dict[str, str], request_id: str, receive: Receive) -> Response | None:
        try:
            body = await self._body(headers, receive)
        except _BodyTooLargeError:
            said = f"the body is larger than {self._max_body} bytes"
            return error_response(413, "body_too_large", said, request_id)
        if body is None:
            return None
        request = Request(body, headers.get("content-type", ""), headers.get("accept", ""), headers, request_id)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._handler, request)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes | None:
        """Return the body, or None if the client has gone. Raises `_BodyTooLargeError`."""
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_body:
            raise _BodyTooLargeError
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                raise _BodyTooLargeError
            if not message.get("more_body"):
                return b"".join(parts)


async def _send(send: Send, response: Response, request_id: str) -> None:
    headers = {
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        "x-request-id": request_id,
        **({"connection": "close"} if response.status == 413 else {}),
        **response.headers,
    }
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    await send({"type": "http.response.body", "body": response.body})
