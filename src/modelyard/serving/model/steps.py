"""The steps of a request: the user's functions where they are defined, the defaults where not.

All of it is composed once, when the model is loaded; a request is a chain of plain calls.
"""

from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, TypeVar

import attrs

from modelyard.core.codecs import CodecTable
from modelyard.core.contracts import ArrayCodec, BatchingHardware, Codec, Hardware
from modelyard.core.errors import (
    CodecError,
    DecodeError,
    EncodeError,
    UnsupportedMediaTypeError,
    UserCodeError,
)
from modelyard.core.http import Request, Response
from modelyard.core.log import get_logger
from modelyard.core.media_types import parse_accept, parse_media_type
from modelyard.serving.errors import FailedError, Source
from modelyard.serving.model import streams
from modelyard.serving.model.batching import Batcher, Listed, Predict, PredictMany, Stacker
from modelyard.serving.model.context import Context
from modelyard.serving.model.user_functions import Function, UserFunctions

A = TypeVar("A")
B = TypeVar("B")
Steps = Callable[[Request, Context], Response]

JSON = "application/json"
_TEXT = (JSON, "text/csv")

_log = get_logger(__name__)


@attrs.frozen
class Defaults:
    """What the steps that the user leaves out are made of.

    ``device``: the index of the device that inputs are placed on; ``strict``: the answer's type is what
    the client asked for, word by word, as with SageMaker's toolkit.
    """

    codecs: CodecTable
    hardware: Hardware
    device: int = 0
    strict: bool = False


def compose(functions: UserFunctions, model: Any, predict: Predict, defaults: Defaults) -> Steps:
    """Return what a request passes through, from its body to the response's."""
    codecs = defaults.codecs
    answer = _Answers(codecs, strict=defaults.strict)
    if functions.transform_fn:
        return _transform(functions.transform_fn, model, codecs, answer)
    read = (
        _users_input(functions.input_fn, codecs)
        if functions.input_fn
        else _default_input(defaults, for_model=functions.leaves_the_model_to_us)
    )
    write = (
        _users_output(functions.output_fn, codecs, answer)
        if functions.output_fn
        else _default_output(codecs, defaults.hardware, answer)
    )
    return lambda request, context: write(predict(read(request, context), context), request, context)


def predict_of(functions: UserFunctions, model: Any, hardware: Hardware) -> Predict:
    """Return what predicts for one request."""
    if predict_fn := functions.predict_fn:
        return lambda value, context: predict_fn(value, model, context)
    if functions.batch_predict_fn:
        return Listed(functions.batch_predict_fn, model).one
    return lambda value, _: hardware.predict(model, value)


def batcher_of(
    functions: UserFunctions, model: Any, hardware: Hardware, size: int, delay: float
) -> Batcher | None:
    """Return what predicts for several requests at once; None where nothing can, which is logged."""
    if size == 1:
        return None
    predict = predict_of(functions, model, hardware)
    many: PredictMany
    if functions.transform_fn:
        _log.warning("transform_fn answers one request at a time: batch_size is not used")
        return None
    if functions.batch_predict_fn:
        many = Listed(functions.batch_predict_fn, model)
    elif functions.predict_is_async:
        _log.warning("an async predict_fn answers one request at a time: batch_size is not used")
        return None
    elif isinstance(hardware, BatchingHardware):
        many = Stacker(predict, hardware)
    else:
        _log.warning("this hardware does not stack inputs: batch_size is not used", hardware=hardware.name)
        return None
    return Batcher(predict, many, size=size, delay=delay)


def _transform(transform_fn: Function, model: Any, codecs: CodecTable, answer: "_Answers") -> Steps:
    def steps(request: Request, context: Context) -> Response:
        accept = _asked(request, codecs)
        result = transform_fn(model, _users_body(request, codecs), request.content_type, accept, context)
        return answer.of(result, accept, context)

    return steps


# -- input -------------------------------------------------------------------------------------


def _users_input(input_fn: Function, codecs: CodecTable) -> Callable[[Request, Context], Any]:
    return lambda request, context: input_fn(_users_body(request, codecs), request.content_type, context)


def _default_input(defaults: Defaults, *, for_model: bool) -> Callable[[Request, Context], Any]:
    """Return ``input_fn`` over the codecs: text formats become float32, others keep their dtype.

    `for_model`: whether the model itself is given it, which takes numbers.
    """
    codecs, hardware, device = defaults.codecs, defaults.hardware, defaults.device
    decoders = {id(codec): _decoder(codec) for codec in codecs.usable()}

    def read(request: Request, _context: Context) -> object:
        codec = codecs.reading(request.content_type)
        body = codecs.utf8(request.content_type, request.body)
        value = _by(codec, decoders[id(codec)], body)
        if for_model and isinstance(value, (str, bytes)):
            raise UnsupportedMediaTypeError(f"this model takes numbers, which {codec.name} has not")
        return hardware.place(value, device)

    return read


def _by(codec: Codec, method: Callable[[A], B], value: A) -> B:
    """Return what a codec's method makes of a value. What it must not raise is put down to the codec."""
    try:
        return method(value)
    except CodecError:
        raise
    except Exception as error:
        raise FailedError(Source(f"the codec {codec.name!r}")) from error


def _decoder(codec: Codec) -> Callable[[bytes], object]:
    return codec.decode_array if isinstance(codec, ArrayCodec) else codec.decode


def _users_body(request: Request, codecs: CodecTable) -> bytes | str:
    """Return the body as a user's function expects it: text for JSON and CSV, bytes otherwise."""
    media_type = parse_media_type(request.content_type)
    if media_type is None or media_type.essence not in _TEXT:
        return request.body
    try:
        return codecs.utf8(request.content_type, request.body).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the body is not UTF-8: {error}") from error


# -- output ------------------------------------------------------------------------------------


def _default_output(
    codecs: CodecTable, hardware: Hardware, answer: "_Answers"
) -> Callable[[Any, Request, Context], Response]:
    """Return ``output_fn`` over the codecs; what a generator predicts is written item by item."""

    def write(prediction: object, request: Request, context: Context) -> Response:
        accept = _asked(request, codecs)
        if isinstance(prediction, GeneratorType):
            return answer.stream((hardware.fetch(item) for item in prediction), accept, context, lines=True)
        media_type, codec = codecs.writing(accept)
        body = _by(codec, codec.encode, hardware.fetch(prediction))
        return answer.encoded(body, media_type, accept, context)

    return write


def _users_output(
    output_fn: Function, codecs: CodecTable, answer: "_Answers"
) -> Callable[[Any, Request, Context], Response]:
    def write(prediction: object, request: Request, context: Context) -> Response:
        accept = _asked(request, codecs)
        return answer.of(output_fn(prediction, accept, context), accept, context)

    return write


def _asked(request: Request, codecs: CodecTable) -> str:
    """Return what the client accepts: the default where it does not say or does not care."""
    accept = request.accept.strip()
    return codecs.default_accept if accept in ("", "*/*") else accept


class _Answers:
    """From what a function gave to a response, with what was set on the context."""

    def __init__(self, codecs: CodecTable, *, strict: bool) -> None:
        self._codecs = codecs
        self._strict = strict

    def of(self, result: Any, accept: str, context: Context) -> Response:
        """Return what a user's function gave: a body, or a body and its content type."""
        body, content_type = (result[0], result[1]) if isinstance(result, tuple) else (result, None)
        if hasattr(result, "status_code"):  # The response of the older containers, a tuple with attributes.
            context.set_response_status(result.status_code)
            for name, value in result.headers.items():
                context.set_response_header(0, name, value)
        if content_type is None:
            content_type = accept if self._strict else self._named(accept)
        if isinstance(body, GeneratorType):
            return self.stream(body, accept, context, content_type=content_type)
        return _as_set(Response(self._bytes(body), content_type), context)

    def encoded(self, body: bytes, media_type: str, accept: str, context: Context) -> Response:
        """Return what a codec has written."""
        return _as_set(Response(body, accept if self._strict else media_type), context)

    def stream(
        self,
        items: Iterator[Any],
        accept: str,
        context: Context,
        *,
        content_type: str = "",
        lines: bool = False,
    ) -> Response:
        """Return a body that is made piece by piece; its first piece is made here, where it may fail."""
        if lines:
            content_type = streams.negotiated(accept)
        write = self._json if lines else self._bytes
        pieces = streams.pieces(items, content_type, write, lines=lines)
        return _as_set(Response(b"", content_type, chunks=streams.begun(pieces)), context)

    def _named(self, accept: str) -> str:
        """Return the media type that the client wants most and names."""
        named = [
            media.essence for media in parse_accept(accept) if media.quality and "*" not in media.essence
        ]
        return named[0] if named else self._codecs.default_accept

    def _bytes(self, body: object) -> bytes:
        """Return the body of a user's function: bytes as they are, text as UTF-8, anything else as JSON."""
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        if isinstance(body, str):
            return body.encode("utf-8")
        return self._json(body)

    def _json(self, body: object) -> bytes:
        try:
            return self._codecs.writing(JSON)[1].encode(body)
        except EncodeError as error:  # The client has asked for nothing that it could not have.
            raise UserCodeError(f"what the script returned is no response: {error}") from error


def _as_set(response: Response, context: Context) -> Response:
    """Apply what the user's functions set on the context."""
    set_ = context.request_processor[0]
    if headers := set_.get_response_headers():
        own = dict(headers)
        response.content_type = own.pop("content-type", response.content_type)
        response.headers = own
    response.status = set_.get_response_status_code()
    return response
