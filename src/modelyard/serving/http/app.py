"""The ASGI application: from a path to who answers it, and from there to the wire."""

import asyncio
import functools
import itertools
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

from modelyard.core.http import Request, Response
from modelyard.core.log import get_logger
from modelyard.serving.engine import Engine, State
from modelyard.serving.errors import error_response
from modelyard.serving.http import eventstream
from modelyard.serving.http.exchange import Exchange, Message
from modelyard.serving.http.framing import by_name
from modelyard.serving.pages.metrics import Metrics

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Page = Callable[[Mapping[str, str]], Response]
"""From the headers of a GET to its answer; with a status of 400 and above the body is its reason."""

_log = get_logger(__name__)

# A header with one of these would end early, and what follows be taken for headers of ours.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({"connection", "content-length", "date", "transfer-encoding", "x-request-id"})
"""Headers that the server answers for."""
_OF_CLIENTS = re.compile(r"[\x21-\x7e]{1,128}")
"""What is taken for the id of a request where the client gives one."""
_ENDPOINT = re.compile(r"/endpoints/([A-Za-z0-9](?:-?[A-Za-z0-9]){0,62})/invocations(-response-stream)?")
"""The paths of boto3's client ``sagemaker-runtime``."""
_VARIANT = ("x-amzn-invoked-production-variant", "AllTraffic")
_OPTION = {"GET": "GET, HEAD", "POST": "POST"}


class _BodyTooLargeError(Exception):
    """The body is past the limit; what is left of it is not read."""


class _ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Application:
    """Serves one engine, and what there is to know about it.

    `metrics`: told how the engine is; `max_body`: bytes of a request's body, more is a 413; `pages`: what
    else is answered to GET, by its path; `name`: the endpoint's, any will do where it has none;
    `is_ready`: whether the endpoint can be asked, also where this engine cannot be. ``is_ending``: set
    when the server is to stop.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        *,
        max_body: int,
        pages: dict[str, Page] | None = None,
        name: str = "",
        is_ready: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine = engine
        self.is_ending = False
        self._metrics = metrics
        self._max_body = max_body
        self._name = name
        self._is_ready = is_ready
        self._pages = {"/ping": self._ping, **(pages or {})}
        self._id_prefix, self._id_numbers = secrets.token_hex(4), itertools.count()

    def tick(self, now: float) -> None:
        """Look after what waits, and count; to be called several times a second."""
        self.engine.tick(now)
        self._metrics.state(ready=self.engine.state is State.READY, queued=self.engine.in_flight)
        self._metrics.flush()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        headers = by_name(scope["headers"])
        request_id = self._id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        path, method = scope["path"], scope["method"]
        try:
            if path == "/invocations" and method == "POST":
                response = await self._invoke(headers, request_id, receive)
            elif found := _ENDPOINT.fullmatch(path):
                response = await self._as_sagemaker(found, method, headers, request_id, receive)
            else:
                response = self._look(path, method, headers, request_id)
            await self._answer(receive, send, response, request_id)
        except _ClientGoneError:
            pass

    def express(self, exchange: Exchange) -> bool:
        """Take the usual request: it goes to the engine, and its answer to the wire, without a task."""
        head = exchange.head
        if head.path != "/invocations" or head.method != "POST":
            return False
        headers = head.by_name.copy()
        if "content-encoding" in headers:
            return False
        exchange.request_id = request_id = self._id_of(headers)
        request = Request(
            exchange.take(), headers.get("content-type", ""), headers.get("accept", ""), headers, request_id
        )
        self.engine.submit(request, partial(self._express_answer, exchange))
        return True

    def _express_answer(self, exchange: Exchange, response: Response) -> None:
        request_id = exchange.request_id
        if lines := _usual_lines(response, request_id):
            exchange.answer(200, lines, response.body)
            return
        response, start, body = _sendable(response, request_id)
        if response.chunks is None:
            exchange.answer(start["status"], start["headers"], body["body"])
        else:
            stream = self._stream(exchange.receive, exchange.send, start, response.chunks, request_id)
            exchange.begin(stream)

    def _id_of(self, headers: Mapping[str, str]) -> str:
        asked = headers.get("x-request-id")
        if asked and _OF_CLIENTS.fullmatch(asked):
            return asked
        return f"{self._id_prefix}{next(self._id_numbers):08x}"

    # -- who answers ---------------------------------------------------------------------------

    async def _invoke(self, headers: dict[str, str], request_id: str, receive: Receive) -> Response:
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() not in ("identity", ""):
            said = f"the content coding {encoding!r} is not supported: send the body as it is"
            return error_response(415, "unsupported_content_coding", said, request_id)
        try:
            body = await self._body(headers, receive)
        except _BodyTooLargeError:
            said = f"the body is larger than {self._max_body} bytes"
            return error_response(413, "body_too_large", said, request_id)
        return await self.engine.handle(
            Request(body, headers.get("content-type", ""), headers.get("accept", ""), headers, request_id)
        )

    async def _as_sagemaker(
        self, found: re.Match[str], method: str, headers: dict[str, str], request_id: str, receive: Receive
    ) -> Response:
        """Answer as the service does, which stands in front of the container: boto3 reads this."""
        if method != "POST":
            return _refused(found[0], "POST", request_id)
        if self._name and found[1] != self._name:
            return error_response(404, "not_found", f"there is no endpoint {found[1]!r} here", request_id)
        headers["accept"] = headers.get("x-amzn-sagemaker-accept", headers.get("accept", ""))
        response = await self._invoke(headers, request_id, receive)
        if response.status >= 400:
            return _model_error(response)
        response.headers = dict([_VARIANT], **response.headers)
        if found[2]:
            _frame(response)
        return response

    def _look(self, path: str, method: str, headers: dict[str, str], request_id: str) -> Response:
        page = self._pages.get(path)
        if page is None and path != "/invocations":
            known = ", ".join(("/invocations", *self._pages))
            return error_response(404, "not_found", f"there is no such page; there are {known}", request_id)
        if page is None or method not in ("GET", "HEAD"):
            return _refused(path, "POST" if page is None else "GET", request_id)
        response = page(headers)
        if response.status >= 400:
            return error_response(response.status, "not_ready", response.body.decode(), request_id)
        return response

    def _ping(self, _headers: Mapping[str, str]) -> Response:
        if self.is_ending:
            return Response(b"the server is being stopped", status=503)
        if self.engine.state is State.READY or self._is_ready():
            return Response(b"", "text/plain")
        return Response(self.engine.excuse.encode(), status=503)

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
                return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- to the wire ---------------------------------------------------------------------------

    async def _answer(self, receive: Receive, send: Send, response: Response, request_id: str) -> None:
        response, start, body = _sendable(response, request_id)
        if response.chunks is None:
            await send(start)
            await send(body)
        else:
            await self._stream(receive, send, start, response.chunks, request_id)

    async def _stream(
        self, receive: Receive, send: Send, start: Message, chunks: Iterator[bytes], request_id: str
    ) -> None:
        """Send the pieces as they are made. What breaks off has no end, so that the client can tell."""
        gone = asyncio.ensure_future(receive())
        try:
            await send(start)
            while not gone.done():
                try:
                    chunk = await self.engine.next_chunk(chunks)
                except Exception:  # noqa: BLE001 - the user's generator may raise anything
                    _log.error("the stream broke off", request_id=request_id, exc_info=True)
                    return
                if chunk is None:
                    await send({"type": "http.response.body", "body": b""})
                    return
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            gone.cancel()
            self.engine.close(chunks)


def _sendable(response: Response, request_id: str) -> tuple[Response, Message, Message]:
    """Return a response and its messages; an error's where it is none that can be sent."""
    try:
        return response, *_messages(response, request_id)
    except Exception:  # noqa: BLE001 - a handler may return anything
        _log.error("response cannot be sent", request_id=request_id, exc_info=True)
        said = "the model's response cannot be sent; the endpoint's log says why"
        response = error_response(500, "model_error", said, request_id)
        return response, *_messages(response, request_id)


def _frame(response: Response) -> None:
    """Turn a response into the event stream that carries it."""
    response.headers = {**response.headers, "x-amzn-sagemaker-content-type": response.content_type}
    response.content_type = eventstream.MEDIA_TYPE
    pieces = iter((response.body,)) if response.chunks is None else response.chunks
    response.body, response.chunks = b"", eventstream.framed(pieces)


def _model_error(response: Response) -> Response:
    """Return an error as the service tells it: what the container has answered, with a name for it."""
    said = response.body.decode("utf-8", "replace")
    try:
        body = dict(json.loads(said))
    except (ValueError, TypeError):  # The model's own answer, of whatever kind.
        body = {}
    body |= {
        "message": body.get("error", said),
        "OriginalStatusCode": response.status,
        "OriginalMessage": said,
    }
    headers = {**response.headers, "x-amzn-errortype": "ModelError"}
    return Response(json.dumps(body).encode(), "application/json", response.status, headers)


def _refused(path: str, allowed: str, request_id: str) -> Response:
    said = f"{path} takes {_OPTION[allowed].replace(', ', ' and ')}"
    refused = error_response(405, "method_not_allowed", said, request_id)
    refused.headers = {"allow": _OPTION[allowed]}
    return refused


def _usual_lines(response: Response, request_id: str) -> bytes:
    """Return the header lines of a response that has but a body and its type; nothing for another."""
    if (
        type(response) is Response
        and response.status == 200
        and response.headers == {}
        and response.chunks is None
        and type(response.body) is bytes
    ):
        try:
            return _type_line(response.content_type) + b"x-request-id: %b\r\n" % request_id.encode("latin-1")
        except Exception:  # noqa: BLE001 - what it is will be said where all of a response is looked at
            return b""
    return b""


@functools.lru_cache(maxsize=64)
def _type_line(content_type: str) -> bytes:
    return b"content-type: %b\r\n" % _header(content_type)


def _messages(response: Response, request_id: str) -> tuple[Message, Message]:
    """Return a response as ASGI has it. Raises what Python raises for one that HTTP cannot carry."""
    body = response.body if type(response.body) is bytes else memoryview(response.body).tobytes()
    if type(response.status) is not int or not 200 <= response.status <= 599:
        raise ValueError(f"{response.status!r} is no status of an answer")
    has_body = response.status not in {204, 304}
    headers = [
        (b"content-type", _header(response.content_type)),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    if response.chunks is None and has_body:
        headers.append((b"content-length", b"%d" % len(body)))
    for key, value in response.headers.items():
        if (name := key.lower()) not in _FRAMING and name != "content-type":
            headers.append((_header(name), _header(str(value))))
    if response.status == 413:
        headers.append((b"connection", b"close"))
    return (
        {"type": "http.response.start", "status": response.status, "headers": headers},
        {"type": "http.response.body", "body": body if has_body else b""},
    )


def _header(text: str) -> bytes:
    raw = text.encode("latin-1")
    if _CONTROL.search(raw):
        raise ValueError(f"a header has a control character: {raw!r}")
    return raw
