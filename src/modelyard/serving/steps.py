"""The steps of a request: the user's functions where they are defined, the defaults where not.

All of it is composed once, when the model is loaded; a request is a chain of plain calls.
"""

from collections.abc import Callable
from typing import Any

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import ArrayCodec, Codec, Hardware
from modelyard.core.errors import DecodeError, EncodeError, UserCodeError
from modelyard.core.http import Request, Response
from modelyard.core.media_types import parse_accept, parse_media_type
from modelyard.serving.context import Context
from modelyard.serving.user_functions import Function, UserFunctions

Steps = Callable[[Request, Context], Response]

JSON = "application/json"
_TEXT = (JSON, "text/csv")


def compose(functions: UserFunctions, model: Any, codecs: CodecTable, hardware: Hardware) -> Steps:
    """Return what a request passes through, from its body to the response's."""
    if functions.transform_fn:
        return _transform(functions.transform_fn, model, codecs)
    read = _users_input(functions.input_fn) if functions.input_fn else _default_input(codecs, hardware)
    predict = functions.predict_fn or (lambda value, model, _: hardware.predict(model, value))
    write = (
        _users_output(functions.output_fn, codecs)
        if functions.output_fn
        else _default_output(codecs, hardware)
    )
    return lambda request, context: write(predict(read(request, context), model, context), request, context)


def _transform(transform_fn: Function, model: Any, codecs: CodecTable) -> Steps:
    def steps(request: Request, context: Context) -> Response:
        accept = _asked(request, codecs)
        result = transform_fn(model, _users_body(request), request.content_type, accept, context)
        return _users_response(result, accept, context, codecs)

    return steps


# -- input -------------------------------------------------------------------------------------


def _users_input(input_fn: Function) -> Callable[[Request, Context], Any]:
    return lambda request, context: input_fn(_users_body(request), request.content_type, context)


def _default_input(codecs: CodecTable, hardware: Hardware) -> Callable[[Request, Context], Any]:
    """Return ``input_fn`` over the codecs: text formats become float32, others keep their dtype."""
    decoders = {id(codec): _decoder(codec) for codec in codecs.usable()}

    def read(request: Request, _context: Context) -> object:
        return hardware.place(decoders[id(codecs.reading(request.content_type))](request.body))

    return read


def _decoder(codec: Codec) -> Callable[[bytes], object]:
    return codec.decode_array if isinstance(codec, ArrayCodec) else codec.decode


def _users_body(request: Request) -> bytes | str:
    """Return the body as a user's function expects it: text for JSON and CSV, bytes otherwise."""
    media_type = parse_media_type(request.content_type)
    if media_type is None or media_type.essence not in _TEXT:
        return request.body
    try:
        return request.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the body is not UTF-8: {error}") from error


# -- output ------------------------------------------------------------------------------------


def _default_output(codecs: CodecTable, hardware: Hardware) -> Callable[[Any, Request, Context], Response]:
    """Return ``output_fn`` over the codecs."""

    def write(prediction: object, request: Request, context: Context) -> Response:
        media_type, codec = codecs.writing(_asked(request, codecs))
        return _as_set(Response(codec.encode(hardware.fetch(prediction)), media_type), context)

    return write


def _users_output(output_fn: Function, codecs: CodecTable) -> Callable[[Any, Request, Context], Response]:
    def write(prediction: object, request: Request, context: Context) -> Response:
        accept = _asked(request, codecs)
        return _users_response(output_fn(prediction, accept, context), accept, context, codecs)

    return write


def _asked(request: Request, codecs: CodecTable) -> str:
    """Return what the client accepts: the default where it does not say or does not care."""
    accept = request.accept.strip()
    return codecs.default_accept if accept in ("", "*/*") else accept


def _users_response(result: Any, accept: str, context: Context, codecs: CodecTable) -> Response:
    """Return what a user's function gave: a body, or a body and its content type."""
    body, content_type = (result[0], result[1]) if isinstance(result, tuple) else (result, None)
    if content_type is None:
        named = [
            media.essence for media in parse_accept(accept) if media.quality and "*" not in media.essence
        ]
        content_type = named[0] if named else codecs.default_accept
    return _as_set(Response(_as_bytes(body, codecs), content_type), context)


def _as_bytes(body: object, codecs: CodecTable) -> bytes:
    """Return the body of a user's function: bytes as they are, text as UTF-8, anything else as JSON."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, str):
        return body.encode("utf-8")
    try:
        return codecs.writing(JSON)[1].encode(body)
    except EncodeError as error:  # The client has asked for nothing that it could not have.
        raise UserCodeError(f"what the script returned is no response: {error}") from error


def _as_set(response: Response, context: Context) -> Response:
    """Apply what the user's functions set on the context."""
    headers = dict(context.get_response_headers(0))
    response.content_type = headers.pop("content-type", response.content_type)
    response.status = context.get_response_status(0)[0]
    response.headers = headers
    return response
