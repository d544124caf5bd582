"""From an exception to an answer."""

import json
from collections.abc import Callable

import attrs

from modelyard.core.contracts import Hardware, RecoveringHardware
from modelyard.core.errors import (
    DecodeError,
    EncodeError,
    NotAcceptableError,
    PluginError,
    UnsupportedMediaTypeError,
)
from modelyard.core.http import Handler, Request, Response
from modelyard.core.log import get_logger
from modelyard.serving.waiting.interruption import Interrupted

_CLIENT_ERRORS = (
    (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
    (NotAcceptableError, 406, "not_acceptable"),
    (EncodeError, 406, "not_encodable"),
    (DecodeError, 400, "malformed_body"),
)

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
"""How torch says it, on GPUs and on the CPU, in a RuntimeError; the last one is of NVIDIA's libraries."""

_log = get_logger(__name__)


_SPEAKING = frozenset(
    (
        "modelyard",
        "modelyard_shim",
        "sagemaker_containers",
        "sagemaker_inference",
        "starlette",
        "fastapi",
        "ts",
    )
)
"""Packages whose exceptions with a status are meant for the client of whoever raises them."""

Defines = Callable[[type], bool]
"""Tells whether a class is of the user's code."""


@attrs.frozen
class Source:
    """Whose code a request runs through: ``who``, for people, and the ``code`` of an error of theirs."""

    who: str
    code: str = "plugin_error"


MODEL = Source("the model", "model_error")
MIDDLEWARE = Source("a plugin's middleware")


class FailedError(Exception):
    """Raised from an error that is not its surroundings' but the `source`'s."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.who)
        self.source = source


def _nothing(_cls: type) -> bool:
    return False


class DeviceWatch:
    """Looks at the device after a failed request, where its hardware can tell whether it still works.

    ``on_loss``: called once, when it does not; ``is_lost``: whether that has happened.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        self._hardware: RecoveringHardware | None = (
            hardware if isinstance(hardware, RecoveringHardware) else None
        )
        self.on_loss: Callable[[], object] = lambda: None
        self.is_lost = False

    def failed(self, error: BaseException) -> None:
        """Take notice of what a request has raised."""
        # Of one that took too long nothing is known: to ask the device would be to wait for it.
        if self._hardware is None or self.is_lost or isinstance(error, Interrupted):
            return
        try:
            self.is_lost = not self._hardware.recover(error)
        except Exception:  # noqa: BLE001 - a plugin's; what is asked next will show it
            _log.error("the hardware cannot tell whether it still works", exc_info=True)
        if self.is_lost:
            self.on_loss()


def answering(
    handler: Handler,
    defines: Defines = _nothing,
    watch: DeviceWatch | None = None,
    source: Source = MODEL,
) -> Handler:
    """Return a handler that answers instead of raising; the traceback goes to the log alone.

    `defines`: tells the user's own types of error, which may choose their status; `watch`: told of the
    errors that are not the client's; `source`: to whom an error is put down that does not say.
    """

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        # The endpoint outlives whatever the user's code raises: a call of `exit` is one failed request.
        except FailedError as failure:
            return told(failure.__cause__ or failure, failure.source, request.request_id)
        except (Exception, SystemExit, KeyboardInterrupt, Interrupted) as error:  # noqa: BLE001 - answered
            return told(error, source, request.request_id)

    # No variable of `answer` holds the error: its frames, and what they hold, go with the request.
    def told(error: BaseException, source: Source, request_id: str) -> Response:
        response = response_to(error, request_id, defines, source)
        if watch and response.status >= 500:
            watch.failed(error)
        return response

    return answer


def response_to(
    error: BaseException, request_id: str, defines: Defines = _nothing, source: Source = MODEL
) -> Response:
    """Return the answer to a request that raised `error`, which is logged where it is not the client's."""
    for kind, status, code in _CLIENT_ERRORS:
        if isinstance(error, kind):
            return error_response(status, code, str(error), request_id)
    if status := _own_status(error, defines):
        if status >= 500:
            _log.error("request failed", request_id=request_id, exc_info=error)
        return error_response(status, "refused" if status < 500 else source.code, _line(error), request_id)
    _log.error("request failed", request_id=request_id, exc_info=error)
    if isinstance(error, Interrupted):
        return error_response(504, "timeout", f"{source.who} took too long", request_id)
    if _is_out_of_memory(error):
        said = f"{source.who} ran out of memory; send less at once"
        return error_response(507, "out_of_memory", said, request_id)
    if isinstance(error, PluginError):  # What it says is for who installs plugins.
        said = "a plugin that this takes cannot be used; the endpoint's log says why"
        return error_response(500, MIDDLEWARE.code, said, request_id)
    said = f"{source.who} raised {type(error).__name__}; the endpoint's log has the traceback"
    return error_response(500, source.code, said, request_id)


def _own_status(error: BaseException, defines: Defines) -> int:
    """Return the status that the user's own type of error asks for, or 0.

    `InferenceError` has one, and so have the toolkit's ``BaseInferenceToolkitError``, the HTTP
    exceptions of web frameworks, and TorchServe's ``PredictionException`` (``error_code``). The errors of
    other clients have one too, but what they say is nothing for this one.
    """
    status = getattr(error, "status_code", getattr(error, "error_code", None))
    if type(status) is not int or not 400 <= status <= 599:
        return 0
    kinds = type(error).__mro__
    speaks = any(cls.__module__.partition(".")[0] in _SPEAKING or defines(cls) for cls in kinds)
    return status if speaks else 0


def _line(error: BaseException) -> str:
    """Return what the user says in an error, on one line."""
    said = getattr(error, "message", None) or getattr(error, "detail", None) or str(error)
    return " ".join(str(said).split())[:1000]


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)


def error_response(
    status: int, code: str, message: str, request_id: str, *, retry_after: int | None = None
) -> Response:
    """Return an error as JSON: ``{"error": ..., "code": ..., "request_id": ...}``.

    `retry_after`: seconds after which it makes sense to try again, for an error that passes.
    """
    body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Response(body, "application/json", status, headers)
