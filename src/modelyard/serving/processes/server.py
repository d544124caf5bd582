"""uvicorn's server as a worker runs it: its share of the connections, its readiness, its end.

What differs from uvicorn's own: connections come through an `Acceptor`, and the engine is looked at ten
times a second, in a drain too.
"""

import asyncio
import contextlib
import itertools
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol, cast

import uvicorn

from modelyard.core.log import get_logger
from modelyard.serving.engine import State
from modelyard.serving.processes.acceptor import PATIENCE, Acceptor
from modelyard.serving.processes.board import Board, Phase, Slot
from modelyard.serving.processes.resources import give_way

LOAD_FAILED = 71
"""The exit code of a worker whose model cannot be loaded; its slot says why."""
HUNG = 72
"""The exit code of a worker whose model does not come back from a request."""
DEVICE_LOST = 73
"""The exit code of a worker whose device works for no process but another."""

_QUICK_SECONDS = 0.7
"""For what is in progress when there is no model: answers that are there already."""

_log = get_logger(__name__)


class EngineLike(Protocol):
    """What is asked of an `Engine`."""

    @property
    def state(self) -> State:
        """How it stands."""

    @property
    def reason(self) -> str:
        """Why it stands so."""

    def start(self) -> None:
        """Start the model's thread, which loads the model first."""

    def stop(self) -> None:
        """Let the thread end."""

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; tell whether it has ended."""

    def answer_all(self, code: str, said: str) -> None:
        """Tell everybody who waits to come again, and why."""


class Served(Protocol):
    """An ASGI application with an engine. ``is_ending``: set when the server is to stop."""

    is_ending: bool

    @property
    def engine(self) -> EngineLike:
        """What answers its requests."""

    def tick(self, now: float) -> None:
        """Do what is to be done ten times a second; `now`: by the monotonic clock."""

    def express(self, exchange: Any) -> bool:
        """Take an exchange to answer it without a task, or return False."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request."""


class Server(uvicorn.Server):
    """Serves one application on the shared socket until it is told to stop, or its engine is at its end.

    `board` and `slot`: where it says how it stands; `alive`: called on every tick; `drain_timeout`:
    seconds for what is in progress when it is told to stop. ``code``: the exit code that the process is
    to have.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        board: Board,
        slot: Slot,
        alive: Callable[[], None],
        drain_timeout: float,
    ) -> None:
        super().__init__(config)
        self.code = 0
        self._board = board
        self._slot = slot
        self._alive = alive
        self._drain_timeout = drain_timeout
        self._app = cast("Served", config.app)
        # Connections that the event loop does not know yet, and those that have been told to end.
        self._arriving: set[Any] = set()
        self._told: set[Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the engine; what is on the socket is taken from the first tick on."""
        (listening,) = sockets or []
        self._acceptor = Acceptor(listening, self._board, self._slot, self._accepted, self._held)
        self._app.engine.start()
        give_way()  # Only now, so that the model's thread does not.
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Look after everything; tell whether it is time to stop."""
        stop = await super().on_tick(counter)
        self._alive()
        self._app.tick(time.monotonic())
        self._note_state()
        self._acceptor.update()
        if self._slot.phase is Phase.LOADING and self._board.has_ready_sibling(self._slot, PATIENCE):
            self._end_connections()  # Their clients find the sibling.
        elif self._slot.phase is Phase.READY and counter % 10 == 0:
            self._share()
        return stop or self.code != 0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections and end those that there are, within the time for it."""
        takes = not self.code and self._board.admits(self._slot)
        if not takes:
            self._acceptor.close()
        self._slot.phase = Phase.DRAINING  # Only now: the arbiter reads from it that the socket is closed.
        self._app.is_ending = True
        if takes:
            self._acceptor.drain()
        deadline = time.monotonic() + self._drain_timeout
        hurried, turn = False, 0
        while self._held() and time.monotonic() < deadline and not self.force_exit:
            if self.code and not hurried:  # From the beginning, or since a moment ago.
                hurried, deadline = True, min(deadline, time.monotonic() + _QUICK_SECONDS)
            self._end_connections()
            await asyncio.sleep(0.02)
            turn += 1
            if turn % 5 == 0:
                await self.on_tick(turn // 5)
        if self._held():
            self._app.engine.answer_all("stopping", "the server is being stopped: try again")
            await asyncio.sleep(0)
            _log.warning("connections are cut", connections=self._held())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and at once if it is said a second time or by SIGQUIT."""
        again = self.should_exit and sig == signal.SIGINT
        self.force_exit = self.force_exit or again or sig == signal.SIGQUIT
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals to stop, for good: uvicorn raises them once more, and that would be the end."""
        stops = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        for sig in stops:
            signal.signal(sig, self.handle_exit)
        # The arbiter has held them back since before the fork.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        yield

    def _note_state(self) -> None:
        engine, phase = self._app.engine, self._slot.phase
        if engine.state is State.READY and phase in (Phase.LOADING, Phase.LOADED):
            self._slot.phase = Phase.READY if self._board.admits(self._slot) else Phase.LOADED
        elif engine.state is State.FAILED and not self.code:
            self.code, self._slot.reason = LOAD_FAILED, engine.reason
        elif engine.state is State.HUNG and not self.code:
            self.code = HUNG
        elif engine.state is State.LOST and not self.code:
            self.code = DEVICE_LOST

    def _held(self) -> int:
        connections = self.server_state.connections
        return len(connections) + len(self._arriving - connections)

    def _accepted(self, connection: socket.socket) -> None:
        protocol = cast(Any, self.config.http_protocol_class)(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        self._arriving.add(protocol)
        task = asyncio.get_running_loop().create_task(self._connect(protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, protocol: asyncio.Protocol, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:
            _log.debug("a connection was lost at its start", reason=str(error))
            connection.close()
        finally:
            self._arriving.discard(protocol)

    def _share(self) -> None:
        """Send some clients to a sibling that has far fewer: those that keep their connection stay otherwise.

        Only those that wait for an answer, for it can tell them; so that nothing is lost.
        """
        others = self._board.connections_of_siblings(self._slot, PATIENCE)
        self._told &= self.server_state.connections
        if others and (surplus := (self._held() - len(self._told) - min(others)) // (len(others) + 1)) > 0:
            untold: set[Any] = self.server_state.connections - self._told
            busy = (each for each in untold if each.is_busy)
            for connection in itertools.islice(busy, surplus):
                connection.shutdown()
                self._told.add(connection)

    def _end_connections(self) -> None:
        """Tell each connection, once, to end when what it was asked is answered."""
        self._told &= self.server_state.connections
        for connection in self.server_state.connections - self._told:
            connection.shutdown()
            self._told.add(connection)
