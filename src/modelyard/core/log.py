"""Logging: quiet in a library, lines in a program.

modelyard logs through the standard library's logger ``modelyard``, which has no handler until the
application gives it one. The programs (the in-job and the in-endpoint program, the command line)
call `configure`, the only place where structlog is set up: importing modelyard prints nothing.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Protocol, TextIO, cast

logging.getLogger("modelyard").addHandler(logging.NullHandler())


class Logger(Protocol):
    """What modelyard calls on a logger: an event and its fields."""

    def debug(self, event: str, **fields: Any) -> None:
        """Log what helps to follow the code."""

    def info(self, event: str, **fields: Any) -> None:
        """Log a step that went as planned."""

    def warning(self, event: str, **fields: Any) -> None:
        """Log something that went wrong and was put up with."""

    def error(self, event: str, **fields: Any) -> None:
        """Log something that made a job, an endpoint or a request fail."""


class _LazyLogger:
    """Imports structlog when something is logged: it is a fifth of a launch's time budget."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import structlog

        bound = structlog.wrap_logger(
            logging.getLogger(self._name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.format_exc_info,
                _render,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        return getattr(bound, method)


def _render(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
    event = str(fields.pop("event"))
    trace = fields.pop("exception", None)
    line = " ".join([event, *(f"{key}={value!r}" for key, value in fields.items())])
    return f"{line}\n{trace}" if trace else line


def get_logger(name: str) -> Logger:
    """Return the logger of a module of modelyard."""
    return cast(Logger, _LazyLogger(name))


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send modelyard's log lines to `stream` (stderr unless given). For a program's main only."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    logger = logging.getLogger("modelyard")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
