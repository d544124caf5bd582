"""Takes connections from the socket that all workers listen on, so that each worker gets its share.

The kernel gives a connection to whoever asks first, which is the worker with the least to do or, as
often, always the same one; a connection that is kept alive stays there. So a worker that holds more
connections than another one waits a moment before it asks, and then asks whatever the others do: a
worker that hangs can starve nobody.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from modelyard.core.log import get_logger
from modelyard.serving.processes.board import Board, Phase, Slot

_DEFER_SECONDS = 0.001
_DEFERRALS = 5
_OUT_OF_DESCRIPTORS_SECONDS = 0.2
PATIENCE = 0.5
"""Seconds without a sign of life (there are ten a second) after which a worker is not counted on."""
_AT_ONCE = 65536

_log = get_logger(__name__)


class Acceptor:
    """One worker's end of the shared listening socket, which must not block.

    `slot`: of this worker, on `board`; `accepted`: is given each connection, non-blocking; `held`:
    returns how many connections the worker holds. To be made and used on the event loop. It takes
    nothing before the first `update`.
    """

    def __init__(
        self,
        listening: socket.socket,
        board: Board,
        slot: Slot,
        accepted: Callable[[socket.socket], None],
        held: Callable[[], int],
    ) -> None:
        self._listening = listening
        self._board = board
        self._slot = slot
        self._accepted = accepted
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._watching = False
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def update(self) -> None:
        """Note on the board how many connections there are; start or stop taking more. Ten times a second."""
        self._slot.connections = self._held()
        if self._pause is None and not self._closed:
            self._watch(wanted=self._is_needed())

    def drain(self) -> None:
        """Take what the kernel has accepted already, for it believes itself served, then close the socket."""
        self._stop()
        for _ in range(_AT_ONCE):
            if not self._accept():
                break
        self._listening.close()

    def close(self) -> None:
        """Take nothing more; what the kernel has accepted is left to the other workers."""
        self._stop()
        self._listening.close()

    def _stop(self) -> None:
        self._watch(wanted=False)
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()

    def _watch(self, *, wanted: bool) -> None:
        if wanted and not self._watching:
            self._loop.add_reader(self._listening.fileno(), self._readable)
        elif self._watching and not wanted:
            self._loop.remove_reader(self._listening.fileno())
        self._watching = wanted

    def _readable(self) -> None:
        if not self._is_needed():
            self._watch(wanted=False)
        elif self._holds_more_than_another():
            self._watch(wanted=False)
            self._defer(_DEFERRALS)
        else:
            self._accept()

    def _holds_more_than_another(self) -> bool:
        held = self._slot.connections = self._held()
        return self._board.has_idler_sibling(self._slot, held, PATIENCE)

    def _defer(self, times: int) -> None:
        """Leave the next connection to others, unless they have got as many by then."""
        if times and self._holds_more_than_another():
            self._pause = self._loop.call_later(_DEFER_SECONDS, self._defer, times - 1)
        else:
            self._take_again()

    def _is_needed(self) -> bool:
        """Tell whether to take any: without a model only while nobody else can answer them."""
        if self._slot.phase is Phase.READY:
            return True
        return self._board.admits(self._slot) and not self._board.has_ready_sibling(self._slot, PATIENCE)

    def _take_again(self) -> None:
        self._pause = None
        self._watch(wanted=True)
        self._accept()

    def _accept(self) -> bool:
        """Take one connection; tell whether another attempt makes sense."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            return True
        except OSError as error:
            _log.warning("a connection cannot be taken", reason=str(error))
            if not self._closed:
                self._watch(wanted=False)
                self._pause = self._loop.call_later(_OUT_OF_DESCRIPTORS_SECONDS, self._take_again)
            return False
        connection.settimeout(0)
        self._slot.connections = self._held() + 1
        # A Unix socket has no such delay.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted(connection)
        return True
