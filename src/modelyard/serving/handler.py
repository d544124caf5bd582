"""From a request to a response: everything that can be looked up is looked up here, once."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import ArrayCodec, Hardware
from modelyard.core.errors import (
    DecodeError,
    EncodeError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
    UserCodeError,
)
from modelyard.core.http import Handler, Request, Response
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.media_types import parse_accept
from modelyard.serving import user_functions
from modelyard.serving.context import Context, ServingProperties
from modelyard.serving.user_functions import Function

JSON = "application/json"
_TEXT = (JSON, "text/csv")

_log = get_logger(__name__)


def build_handler(
    model_dir: Path,
    plugins: PluginManager,
    hardware: Hardware,
    *,
    program: str | None = None,
    default_accept: str = JSON,
) -> Handler:
    """Load the model of `model_dir` and return the handler of its endpoint.

    `program`: the inference script, ``inference.py`` if there is one; `default_accept`: what a
    client gets that does not say. Raises `UserCodeError` where the model cannot be loaded.
    """
    root = _unwrapped(model_dir).absolute()
    os.chdir(root)
    with _blamed("the inference script", root):
        functions = user_functions.load(root, program)
    properties = ServingProperties(str(root))
    if functions.model_fn:
        with _blamed("model_fn", root):
            model = functions.model_fn(str(root), Context(properties))
    else:
        model = hardware.load(root)
    plugins.model_loaded(model, root)
    codecs = CodecTable.of(plugins.codecs, default_accept=default_accept)
    if functions.transform_fn:
        steps: Callable[[Request, Context], Response] = _transform(functions.transform_fn, model, codecs)
    else:
        if not functions.predict_fn:
            model = hardware.place(model)
        steps = _steps(
            functions.input_fn or _default_input(codecs, hardware),
            functions.predict_fn or (lambda value, model, _: hardware.predict(model, value)),
            functions.output_fn,
            model,
            codecs,
            hardware,
        )
    innermost = _answering(lambda request: steps(request, Context(properties, request)))
    return _answering(plugins.wrap_handler(innermost))


# -- the steps ---------------------------------------------------------------------------------


def _default_input(codecs: CodecTable, hardware: Hardware) -> Function:
    """Return ``input_fn`` over the codecs: text formats become float32, others keep their dtype."""

    def input_fn(body: bytes | str, content_type: str, _context: Context) -> object:
        codec = codecs.reading(content_type)
        raw = body.encode() if isinstance(body, str) else body
        return hardware.place(codec.decode_array(raw) if isinstance(codec, ArrayCodec) else codec.decode(raw))

    return input_fn


def _steps(
    input_fn: Function,
    predict_fn: Function,
    output_fn: Function | None,
    model: object,
    codecs: CodecTable,
    hardware: Hardware,
) -> Callable[[Request, Context], Response]:
    def encode(prediction: object, request: Request, context: Context) -> Response:
        if output_fn is not None:
            accept = _asked(request, codecs)
            return _response(output_fn(prediction, accept, context), accept, context, codecs)
        media_type, codec = codecs.writing(_asked(request, codecs))
        return _with_context(Response(codec.encode(hardware.fetch(prediction)), media_type), context)

    def steps(request: Request, context: Context) -> Response:
        content_type = request.content_type
        value = input_fn(_body(request, content_type), content_type, context)
        return encode(predict_fn(value, model, context), request, context)

    return steps


def _transform(
    transform_fn: Function, model: object, codecs: CodecTable
) -> Callable[[Request, Context], Response]:
    def steps(request: Request, context: Context) -> Response:
        content_type, accept = request.content_type, _asked(request, codecs)
        result = transform_fn(model, _body(request, content_type), content_type, accept, context)
        return _response(result, accept, context, codecs)

    return steps


def _body(request: Request, content_type: str) -> bytes | str:
    """Return the body as a user's function expects it: text for JSON and CSV, bytes otherwise."""
    if content_type not in _TEXT:
        return request.body
    try:
        return request.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the body is not UTF-8: {error}") from error


def _asked(request: Request, codecs: CodecTable) -> str:
    """Return what the client accepts: the default where it does not say or does not care."""
    accept = request.accept.strip()
    return codecs.default_accept if accept in ("", "*/*") else accept


def _response(result: Any, accept: str, context: Context, codecs: CodecTable) -> Response:
    """Return what a user's function gave: a body, or a body and its content type."""
    body, content_type = (result[0], result[1]) if isinstance(result, tuple) else (result, None)
    if content_type is None:
        wanted = parse_accept(accept)
        named = [range_.essence for range_ in wanted if range_.quality and "*" not in range_.essence]
        content_type = named[0] if named else codecs.default_accept
    return _with_context(Response(_as_bytes(body, codecs), content_type), context)


def _as_bytes(body: object, codecs: CodecTable) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return body.encode("utf-8") if isinstance(body, str) else codecs.writing(JSON)[1].encode(body)


def _with_context(response: Response, context: Context) -> Response:
    """Apply what the user's functions set on the context."""
    headers = dict(context.get_response_headers(0))
    response.content_type = headers.pop("content-type", response.content_type)
    response.status = context.get_response_status(0)[0]
    response.headers = headers
    return response


# -- errors ------------------------------------------------------------------------------------

_CLIENT_ERRORS = (
    (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
    (NotAcceptableError, 406, "not_acceptable"),
    (EncodeError, 406, "not_encodable"),
    (DecodeError, 400, "malformed_body"),
)


def _answering(handler: Handler) -> Handler:
    """Return a handler that answers instead of raising; the traceback goes to the log alone."""

    def answering(request: Request) -> Response:
        try:
            return handler(request)
        # The endpoint outlives whatever the user's code raises: a call of `exit` is one failed request.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - answered, and logged where it is ours
            for kind, status, code in _CLIENT_ERRORS:
                if isinstance(error, kind):
                    return error_response(status, code, str(error), request.request_id)
            _log.error("request failed", request_id=request.request_id, exc_info=True)
            said = f"the model raised {type(error).__name__}; the endpoint's log has the traceback"
            return error_response(500, "model_error", said, request.request_id)

    return answering


def error_response(status: int, code: str, message: str, request_id: str) -> Response:
    """Return an error as JSON: ``{"error": ..., "code": ..., "request_id": ...}``."""
    import json

    body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
    return Response(body, JSON, status)


class _blamed:  # noqa: N801 - reads as a statement
    """Turns any exception into a `UserCodeError` that says which line of the user's raised it."""

    def __init__(self, what: str, root: Path) -> None:
        self._what = what
        self._root = root

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (UserCodeError, KeyboardInterrupt)):
            return
        frames = traceback.extract_tb(error.__traceback__)
        users = [frame for frame in frames if Path(frame.filename).is_relative_to(self._root)]
        where = [f" ({Path(f.filename).name}, line {f.lineno}, in {f.name})" for f in users[-1:]]
        said = f"{self._what} raised {type(error).__name__}: {error}{''.join(where)}"
        raise UserCodeError(said) from error


def _unwrapped(model_dir: Path) -> Path:
    """Return the model's folder: the only folder in it, where an archive was made from its parent."""
    entries = list(model_dir.iterdir())
    single = len(entries) == 1 and entries[0].is_dir() and entries[0].name != "code"
    return entries[0] if single else model_dir
