"""A worker process: gunicorn's worker class around one model, from the fork to the exit."""

import atexit
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from typing import Any, NoReturn

from uvicorn_worker import UvicornWorker

from modelyard.core.errors import said
from modelyard.core.log import get_logger
from modelyard.core.processes import die_with_parent
from modelyard.serving.http.protocol import guarded
from modelyard.serving.processes.board import Board, Slot
from modelyard.serving.processes.resources import keep_freed_memory, limit_memory, share_cores
from modelyard.serving.processes.server import HUNG, LOAD_FAILED, Served, Server

_CRASHED = 70
_END_SECONDS = 0.5

_log = get_logger(__name__)


class Worker(UvicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves what the gunicorn application makes for this worker.

    The arbiter sets ``index`` (among the workers that serve one model), ``slot`` (on ``board``) and
    ``make`` before it forks; ``generation``, ``spawned_at``, ``ready_at``, ``retired_at``, ``aborted_at`` and
    ``blame`` are the arbiter's notes about it.
    """

    CONFIG_KWARGS = {  # noqa: RUF012 - what uvicorn's worker class declares
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "workers": 1,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
    }

    index: int
    board: Board
    slot: Slot
    make: Any
    generation: int
    spawned_at: float
    ready_at: float | None = None
    retired_at: float | None = None
    aborted_at: float | None = None
    blame = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # Its warnings are about what clients send.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._code = _CRASHED

    def notify(self) -> None:
        """Show that the event loop runs."""
        self.slot.beat()

    def init_process(self) -> NoReturn:
        """Serve; the process ends here, and never goes back to what the arbiter's caller has to do."""
        try:
            # What the arbiter's process wants done at its end is not for this one.
            atexit._clear()  # noqa: SLF001 - as the standard library's multiprocessing does
            die_with_parent(signal.SIGKILL, self.ppid)
            share_cores(self.app.settings.workers)
            keep_freed_memory()
            limit_memory(self.app.settings.worker_memory)
            super().init_process()
        except SystemExit as exit_:
            self._code = exit_.code if isinstance(exit_.code, int) else _CRASHED
        except BaseException:  # noqa: BLE001 - logged; nothing of it may reach the frames of the arbiter
            _log.error("the worker failed", exc_info=True)
        finally:
            _end(self._code)

    def init_signals(self) -> None:
        """Take gunicorn's signals as uvicorn's worker class does; a hang-up is the arbiter's affair."""
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # SIGABRT among them: what every thread did is in the log when the arbiter loses its patience.
        faulthandler.enable()

    def load_wsgi(self) -> None:
        """Make the application, whose engine loads the model once the event loop runs."""
        try:
            self.wsgi: Served = self.make(self.index, self.app.settings.workers, self.board)
        except Exception as error:
            _log.error("the model cannot be loaded", exc_info=True)
            self.slot.reason = said(error)
            raise SystemExit(LOAD_FAILED) from error

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self.config.http = guarded(self.app.settings.limits, self.wsgi.express)
        server = Server(self.config, self.board, self.slot, self._beat, self.app.settings.drain_timeout)
        await server.serve(sockets=self.sockets)
        self._code = server.code
        if server.code == HUNG:
            _log.error("the model hangs, and this is what it does", worker=self.index, pid=self.pid)
            faulthandler.dump_traceback()
        else:
            self.wsgi.engine.stop()
            self.wsgi.engine.join(_END_SECONDS)

    def _beat(self) -> None:
        self.notify()
        if os.getppid() != self.ppid:  # Where the kernel does not tell.
            os._exit(_CRASHED)


def _end(code: int) -> NoReturn:
    """End the process, whatever its threads do; the exit functions of the user's code have a moment."""
    watchdog = threading.Timer(_END_SECONDS, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - see `init_process`
    with contextlib.suppress(BaseException):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
