"""The server's parent process: keeps the workers alive, replaces them, ends them.

gunicorn's arbiter forks, reaps and takes signals. What is added is what a model needs: workers that
load for minutes and are ready only then, a reason for the caller when the model cannot be loaded,
back-off, and a reload that serves the old model until the new one is ready.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from gunicorn.arbiter import Arbiter as GunicornArbiter
from gunicorn.errors import HaltServer

from modelyard.core.errors import ModelyardError, said
from modelyard.core.log import get_logger
from modelyard.core.processes import signal_name
from modelyard.serving.processes.board import Board, Phase
from modelyard.serving.processes.gunicorn_app import GunicornApp, Make
from modelyard.serving.processes.respawn import BackOff
from modelyard.serving.processes.server import DEVICE_LOST, HUNG, LOAD_FAILED
from modelyard.serving.processes.worker import Worker
from modelyard.serving.settings import ServerSettings

_LOOK_SECONDS = 0.2
_SILENT_SECONDS = 0.5
"""Above the request time-out: how long a worker may show no life."""
_ABORT_SECONDS = 0.5
_ATTEMPTS = 2
"""How often a worker that dies while it loads the first model is tried again."""
_WITHDRAW_SECONDS = 3.0
"""With the time to drain less than the 30 s after which SageMaker kills."""
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_log = get_logger(__name__)


class LoadFailedError(ModelyardError):
    """The server has ended because its model could not be loaded; the message says why."""


def serve(
    make: Make,
    listening: socket.socket,
    settings: ServerSettings,
    *,
    renew: Callable[[int], Make] | None = None,
    forget: Callable[[int], None] | None = None,
    ended: Callable[[int], None] | None = None,
) -> None:
    """Serve on `listening` (taken over, and closed at the end) until SIGTERM or SIGINT.

    To be called in the main thread of a process without other threads, as it forks. `settings.workers`
    must be the number of workers. `renew`: called on SIGHUP with the number of the new model, returns
    what makes its workers' applications (without it, `make`); `forget`: told the number of each model
    that has no worker any more and will have none, the first one's is 0; `ended`: told the pid of each
    worker that has ended. Raises `LoadFailedError` if no worker could ever load the model.
    """
    for name in ("GUNICORN_PID", "GUNICORN_FD"):
        os.environ.pop(name, None)
    arbiter = Arbiter(make, listening, settings, renew, forget, ended)
    os.environ.pop("SERVER_SOFTWARE", None)
    try:
        arbiter.run()
    except SystemExit as exit_:
        if exit_.code:
            raise LoadFailedError(arbiter.failure or "the server's own process failed") from None


class Arbiter(GunicornArbiter):  # type: ignore[misc]  # gunicorn has no types
    """Looks after the workers of one server. ``failure``: why it ended by itself."""

    def __init__(
        self,
        make: Make,
        listening: socket.socket,
        settings: ServerSettings,
        renew: Callable[[int], Make] | None,
        forget: Callable[[int], None] | None,
        ended: Callable[[int], None] | None,
    ) -> None:
        self.settings = settings
        self.failure = ""
        # A reload has twice the workers for a while.
        self.board = Board(2 * settings.workers)
        self._makes = {0: make}
        self._renew = renew
        self._forget = forget
        self._ended = ended
        self._latest = self._generation = 0
        self._incoming: int | None = None
        self._spawning = 0
        self._reload_again = False
        self._back_off = BackOff()
        self._was_ready = False
        self._deaths = 0
        self._stopping = False
        self._looked = time.monotonic()
        app = GunicornApp(settings)
        app.cfg.set("pre_fork", self._prepare)
        super().__init__(app)
        listening.settimeout(0)
        # Attributes of the class in gunicorn.
        self.LISTENERS = [listening]
        self.WORKERS: dict[int, Worker] = {}

    # -- starting and ending workers -----------------------------------------------------------

    def _spawn(self, generation: int) -> None:
        """Start one worker of that generation. Raises `OSError` if the machine has no room for it."""
        self._spawning = generation
        # Until the worker has handlers of its own they would go to those it inherits, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            worker = self.WORKERS[self.spawn_worker()]
            worker.slot.pid = worker.pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            self.board.free_unborn()
        _log.info("worker started", worker=worker.index, pid=worker.pid)

    def _prepare(self, _arbiter: object, worker: Worker) -> None:
        """Give a worker that is about to be forked its place (gunicorn's hook before a fork)."""
        taken = {other.index for other in self._living(self._spawning)}
        worker.generation, worker.make = self._spawning, self._makes[self._spawning]
        worker.index = next(index for index in range(self.settings.workers) if index not in taken)
        worker.board, worker.slot = self.board, self.board.claim(self._spawning)
        worker.spawned_at = time.monotonic()

    def _living(self, generation: int) -> list[Worker]:
        """Return the workers of a generation that are to go on."""
        return [
            worker
            for worker in self.WORKERS.values()
            if worker.generation == generation and worker.retired_at is None
        ]

    def _retire(self, generation: int) -> None:
        for worker in self._living(generation):
            worker.retired_at = time.monotonic()
            self.kill_worker(worker.pid, signal.SIGTERM)

    # -- what gunicorn's main loop calls -------------------------------------------------------

    def wait_for_signals(self, timeout: float = _LOOK_SECONDS) -> list[int]:
        """Return the signals that have arrived, after `_LOOK_SECONDS` at the latest."""
        signals: list[int] = super().wait_for_signals(timeout=min(timeout, _LOOK_SECONDS))
        return signals

    def murder_workers(self) -> None:
        """End the workers that show no life, or load for too long."""
        now = time.monotonic()
        if now - self._looked > 1.0:
            # This process has not run itself (the machine slept, say): nothing can be held against them.
            for worker in self.WORKERS.values():
                worker.slot.beat()
        self._looked = now
        for worker in list(self.WORKERS.values()):
            self._note_ready(worker, now)
            if not (blame := self._blame(worker, now)):
                continue
            if worker.aborted_at is None:
                _log.error("worker is killed", worker=worker.index, pid=worker.pid, reason=blame)
                worker.aborted_at, worker.blame = now, blame
                self.kill_worker(worker.pid, signal.SIGABRT)
            elif now - worker.aborted_at >= _ABORT_SECONDS:
                self.kill_worker(worker.pid, signal.SIGKILL)

    def _note_ready(self, worker: Worker, now: float) -> None:
        if worker.ready_at is None and worker.slot.phase in (Phase.LOADED, Phase.READY):
            worker.ready_at, self._was_ready = now, True
            seconds = round(now - worker.spawned_at, 1)
            _log.info("worker ready", worker=worker.index, pid=worker.pid, seconds=seconds)

    def _blame(self, worker: Worker, now: float) -> str:
        """Return why a worker has to be killed; empty if it does not."""
        settings = self.settings
        if worker.aborted_at is not None:
            return worker.blame
        if worker.retired_at is not None:
            overdue = now - worker.retired_at > settings.drain_timeout + 2.0
            return f"it did not end within {settings.drain_timeout:g} s" if overdue else ""
        if worker.ready_at is None:
            overdue = now - worker.spawned_at > settings.startup_timeout
            return f"the model was not loaded within {settings.startup_timeout:g} s" if overdue else ""
        overdue = worker.slot.silent_seconds > settings.request_timeout + _SILENT_SECONDS
        return f"it has shown no life for {settings.request_timeout:g} s" if overdue else ""

    def manage_workers(self) -> None:
        """Start the workers that are missing, and see to a reload that is under way."""
        self._retire_earlier()
        self._forget_earlier()
        if self._incoming is not None:
            self._see_to_reload(self._incoming)
        elif self._reload_again and len(self._makes) == 1:
            self._reload_again = False
            self._begin_reload()
        missing = self.settings.workers - len(self._living(self._generation))
        if missing and self._back_off.permits(time.monotonic()):
            try:
                for _ in range(missing):
                    self._spawn(self._generation)
            except OSError as error:
                _log.error("no worker can be started", reason=str(error))
                self._set_back(f"no worker can be started: {error}", final=False, served=0.0)

    def reap_workers(self) -> None:
        """Take notice of every process that has ended, orphans included where this one is PID 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if worker := self.WORKERS.pop(pid, None):
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: Worker, code: int) -> None:
        now = time.monotonic()
        self._note_ready(worker, now)
        reason, final = _reason(worker, code, self.settings)
        worker.slot.clear()
        worker.tmp.close()
        self._tell(self._ended, worker.pid)
        if self._stopping or worker.retired_at is not None:
            _log.info("worker ended", worker=worker.index, pid=worker.pid)
            return
        _log.error("worker died", worker=worker.index, pid=worker.pid, reason=reason)
        if worker.generation == self._incoming:
            self._give_up_reload(reason)
        else:
            served = 0.0 if worker.ready_at is None else now - worker.ready_at
            self._set_back(reason, final=final, served=served)

    def _set_back(self, reason: str, *, final: bool, served: float) -> None:
        """Decide what a worker's end means: a delay, or the end of a server that has never been ready."""
        if not self._was_ready:
            self._deaths += 1
            if final or self._deaths > _ATTEMPTS * self.settings.workers:
                self.failure = reason
                raise HaltServer(reason)
        self._back_off.died(time.monotonic(), served)

    def _tell(self, listener: Callable[[int], None] | None, number: int) -> None:
        if listener:
            try:
                listener(number)
            except Exception as error:  # noqa: BLE001 - it is told for its own sake
                _log.warning("what is to be done after a worker's end failed", of=number, reason=said(error))

    # -- reload --------------------------------------------------------------------------------

    def _begin_reload(self) -> None:
        # A number is never used again: it is that of a folder.
        self._latest = incoming = self._latest + 1
        try:
            make = self._renew(incoming) if self._renew else self._makes[self._generation]
        except Exception as error:  # noqa: BLE001 - whatever it is, the old model is still there
            event = "the new model cannot be had, the old one is served on"
            _log.error(event, reason=said(error), exc_info=True)
            self._tell(self._forget, incoming)
            return
        self._makes[incoming] = make
        _log.info("the new model is being loaded, the old one is served meanwhile")
        self._incoming = incoming
        try:
            for _ in range(self.settings.workers):
                self._spawn(incoming)
        except OSError as error:
            self._give_up_reload(str(error))

    def _see_to_reload(self, incoming: int) -> None:
        """Have the new model served if all of its workers could: none of them has taken a request before."""
        if all(worker.ready_at is not None for worker in self._living(incoming)):
            _log.info("the new model is served")
            self._incoming, self._generation = None, incoming
            self.board.generation = incoming

    def _retire_earlier(self) -> None:
        """End the workers of the model before, once one of the present model's takes requests."""
        earlier = self._makes.keys() - {self._generation, self._incoming}
        if earlier and any(worker.slot.phase is Phase.READY for worker in self._living(self._generation)):
            for generation in earlier:
                self._retire(generation)

    def _forget_earlier(self) -> None:
        """Drop the models that have no worker any more, and will have none."""
        needed = {self._generation, self._incoming, *(worker.generation for worker in self.WORKERS.values())}
        for generation in self._makes.keys() - needed:
            del self._makes[generation]
            self._tell(self._forget, generation)

    def _give_up_reload(self, reason: str) -> None:
        assert self._incoming is not None  # noqa: S101 - the caller has compared it
        _log.error("the new model cannot be loaded, the old one is served on", reason=reason)
        incoming, self._incoming = self._incoming, None
        self._retire(incoming)

    # -- signals -------------------------------------------------------------------------------

    def handle_hup(self) -> None:
        """Serve a new model; the next time once the present reload is through."""
        self._reload_again = True

    def handle_int(self) -> None:
        """Stop as at SIGTERM: whoever cannot wait says it again."""
        self.handle_term()

    def handle_usr2(self) -> None:
        """Do nothing: the number of workers, the log and the program stay what they are."""

    handle_ttin = handle_ttou = handle_usr1 = handle_winch = handle_usr2

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """End the server."""
        self.stop()
        sys.exit(exit_status)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        """End the workers; `graceful`: once they have answered what they hold."""
        self._stopping = True
        if graceful:
            self._withdraw()
        super().stop(graceful)

    def _withdraw(self) -> None:
        """Have the workers of a model that is not served leave the socket.

        The last one that closes it must take what waits there, and these may not.
        """
        deadline = time.monotonic() + _WITHDRAW_SECONDS
        for generation in {worker.generation for worker in self._not_admitted()}:
            self._retire(generation)
        while self._not_admitted() and time.monotonic() < deadline:
            time.sleep(0.01)
            self.reap_workers()

    def _not_admitted(self) -> list[Worker]:
        """Return the workers that hold the socket and may take nothing from it."""
        return [
            worker
            for worker in self.WORKERS.values()
            if not self.board.admits(worker.slot) and worker.slot.phase is not Phase.DRAINING
        ]


def _reason(worker: Worker, code: int, settings: ServerSettings) -> tuple[str, bool]:
    """Return why a worker has ended, and whether trying again could change nothing."""
    if worker.blame:
        return worker.blame, worker.ready_at is None
    if code == LOAD_FAILED and worker.slot.reason:
        return worker.slot.reason, True
    if code == HUNG:
        return f"a request took longer than {settings.request_timeout:g} s, and could not be ended", False
    if code == DEVICE_LOST:
        return "the device works no more for its process", False
    how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        how += " (out of memory?)"
    when = "" if worker.ready_at is not None else " while it loaded the model"
    return f"the worker {how}{when}", False
