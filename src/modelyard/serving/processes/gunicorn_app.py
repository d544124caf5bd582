"""gunicorn as this server uses it: configured by a value, silent about itself, logging as we do."""

import logging
import math
import os
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from modelyard.core.log import get_logger
from modelyard.serving.processes.board import Board
from modelyard.serving.processes.server import Served
from modelyard.serving.processes.worker import Worker
from modelyard.serving.settings import ServerSettings

Make = Callable[[int, int, Board], Served]
"""Returns a worker's application: from its index, the number of workers, and the board.

Called in the worker, and to return at once: the application's engine loads the model.
"""

_MEMORY = "/dev/shm"  # noqa: S108 - for a file without a name, where a container may have no other place

_log = get_logger("modelyard.serving.processes.arbiter")


class GunicornApp(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The configuration of gunicorn's arbiter; no file, variable or command line of its own counts."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults, some of which come from variables."""
        config = {
            "bind": "127.0.0.1:0",  # Never used: the socket is there already.
            "workers": self.settings.workers,
            "worker_class": Worker,
            "logger_class": Log,
            # The workers themselves keep to the time, and then need a moment; these are whole seconds.
            "graceful_timeout": math.ceil(self.settings.drain_timeout) + 2,
            "forwarded_allow_ips": "",
            "worker_tmp_dir": _MEMORY if os.access(_MEMORY, os.W_OK) else None,
            "proc_name": "modelyard",
            "control_socket_disable": True,
        }
        for name, value in config.items():
            if name in self.cfg.settings:  # The control socket came with gunicorn 25.
                self.cfg.set(name, value)

    def load(self) -> None:
        """Do nothing: the worker makes its application."""


class Log:
    """What gunicorn calls a logger: its warnings and errors go where ours go, what it tells does not."""

    access_log_enabled = False

    def __init__(self, cfg: Any) -> None:
        self.setup(cfg)
        # uvicorn's worker class takes its handlers from these.
        self.error_log = self.access_log = logging.getLogger("modelyard")

    def setup(self, cfg: Any) -> None:
        """Take notice of a configuration."""
        self.cfg = cfg

    def debug(self, message: str, *arguments: Any, **_: Any) -> None:
        """Log what gunicorn does, which is of no interest."""

    info = debug

    def warning(self, message: str, *arguments: Any, **_: Any) -> None:
        """Log what it puts up with."""
        _log.warning(_filled(message, arguments))

    def error(self, message: str, *arguments: Any, exc_info: Any = None, **_: Any) -> None:
        """Log what goes wrong."""
        _log.error(_filled(message, arguments), exc_info=exc_info)

    critical = error

    def exception(self, message: str, *arguments: Any, **_: Any) -> None:
        """Log what goes wrong, with the traceback."""
        _log.error(_filled(message, arguments), exc_info=True)

    def reopen_files(self) -> None:
        """Do nothing: there are no files."""

    close_on_exec = reopen_files


def _filled(message: str, arguments: tuple[Any, ...]) -> str:
    return message % arguments if arguments else message
