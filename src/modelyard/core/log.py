"""Logging: quiet in a library, lines in a program.

modelyard logs through the standard library's logger ``modelyard``, which has no handler until the
application gives it one. The programs (the in-job and the in-endpoint program, the command line)
call `configure`, the only place where structlog is set up: importing modelyard prints nothing.

logging and structlog are imported when something is logged: together they would take a third of the
time that a job needs to start.
"""

import sys
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

if TYPE_CHECKING:
    import logging

LEVEL = "INFO"

_program: Callable[["logging.Logger"], None] | None = None


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
    """Becomes a structlog logger when something is logged."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import logging

        import structlog

        _set_up(logging.getLogger("modelyard"))
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
    return cast("Logger", _LazyLogger(name))


def configure(stream: TextIO | None = None, level: str | int = LEVEL) -> None:
    """Send modelyard's log lines to `stream` (stderr unless given). For a program's main only."""
    global _program  # noqa: PLW0603 - there is one program, and this is its one setting

    def set_up(logger: "logging.Logger") -> None:
        import logging

        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False

    _program = set_up


def _set_up(logger: "logging.Logger") -> None:
    """Do what `configure` was told, once; in a library see that nothing is printed."""
    global _program
    if _program is not None:
        setting, _program = _program, None
        setting(logger)
    elif not logger.handlers:
        import logging

        logger.addHandler(logging.NullHandler())
