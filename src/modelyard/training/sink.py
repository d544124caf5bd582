"""Writing to this process's own streams without waiting for who reads them."""

import os
import select
import stat
from collections import deque
from collections.abc import Iterator

_ATOMIC = 4096
"""Bytes that Linux writes to a pipe in one go, among the lines of other writers."""

_PENDING = 1024 * 1024


class Sink:
    """One stream of this process; what its reader has not taken yet is kept, and is lost if it goes.

    ``full``: whether more than 1 MiB is kept, so that it is time to read less.
    """

    def __init__(self, fd: int) -> None:
        self._fd = _private(fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def fileno(self) -> int:
        """Return the descriptor to wait on while there is something to write."""
        return self._fd

    @property
    def waiting(self) -> bool:
        """Whether its reader has not taken everything."""
        return bool(self._pieces)

    @property
    def full(self) -> bool:
        """Whether its reader is so far behind that no more should be read."""
        return self._size > _PENDING

    def write(self, block: bytes) -> None:
        """Take whole lines; write what can be written at once."""
        self._pieces.extend(_pieces(block))
        self._size += len(block)
        self.flush()

    def flush(self, seconds: float = 0.0) -> None:
        """Write until nothing is left, or the reader takes nothing for `seconds`."""
        try:
            while self._pieces and self._poll.poll(seconds * 1000):
                self._advance(os.write(self._fd, self._pieces[0]))
        except BlockingIOError:
            return
        except OSError:  # The reader has gone, or the disk is full: no reason to stop the job.
            self._pieces.clear()
            self._size = 0

    def close(self) -> None:
        """Give back the descriptor, which is not the stream's own."""
        os.close(self._fd)

    def _advance(self, written: int) -> None:
        piece = self._pieces.popleft()
        if written < len(piece):
            self._pieces.appendleft(piece[written:])
        self._size -= written


def _private(fd: int) -> int:
    """Return a descriptor of the same pipe or terminal that never blocks.

    Whether a descriptor blocks is shared by all that have inherited it, so it is opened anew where
    the system allows it. Elsewhere polling must do: a pipe that polls as ready takes `_ATOMIC` bytes.
    """
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        return os.dup(fd)
    except OSError:
        return _copy(fd)


def _copy(fd: int) -> int:
    try:
        return os.dup(fd)
    except OSError:  # A program may be started without the stream.
        return os.open(os.devnull, os.O_WRONLY)


def _pieces(block: bytes) -> Iterator[bytes]:
    """Yield whole lines in pieces that a pipe takes in one go, where lines allow it."""
    start = 0
    while start < len(block):
        limit = start + _ATOMIC
        end = block.rfind(b"\n", start, limit) + 1 or min(limit, len(block))
        yield block[start:end]
        start = end
