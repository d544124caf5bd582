"""From an exception to an answer, and to the line of the user's code that raised it."""

import contextlib
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

from modelyard.core.errors import (
    DecodeError,
    EncodeError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
    UserCodeError,
)
from modelyard.core.http import Handler, Request, Response
from modelyard.core.log import get_logger

_CLIENT_ERRORS = (
    (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
    (NotAcceptableError, 406, "not_acceptable"),
    (EncodeError, 406, "not_encodable"),
    (DecodeError, 400, "malformed_body"),
)

_log = get_logger(__name__)


def answering(handler: Handler) -> Handler:
    """Return a handler that answers instead of raising; the traceback goes to the log alone."""

    def answer(request: Request) -> Response:
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

    return answer


def error_response(status: int, code: str, message: str, request_id: str) -> Response:
    """Return an error as JSON: ``{"error": ..., "code": ..., "request_id": ...}``."""
    body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
    return Response(body, "application/json", status)


@contextlib.contextmanager
def blamed(what: str, root: Path) -> Iterator[None]:
    """Turn any exception of the block into a `UserCodeError` with the line below `root` that raised it."""
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        users = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
        where = [f" ({Path(f.filename).name}, line {f.lineno}, in {f.name})" for f in users[-1:]]
        raise UserCodeError(f"{what} raised {type(error).__name__}: {error}{''.join(where)}") from error
