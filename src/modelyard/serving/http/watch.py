"""Time-outs of a connection that cost its requests nothing."""

import asyncio
import enum
import math
import socket
import struct
from typing import Protocol

from modelyard.serving.settings import Limits

LINGER = 2.0
"""Seconds for which what a client still sends is thrown away, so that it sees its answer."""


class Phase(enum.Enum):
    """What a connection is waiting for."""

    OPEN = enum.auto()
    """Its first byte."""
    HEAD = enum.auto()
    """The rest of a request's head."""
    BODY = enum.auto()
    """The rest of a request's body."""
    BUSY = enum.auto()
    """Our answer."""
    SENDING = enum.auto()
    """The client, to take its answer."""
    IDLE = enum.auto()
    """Another request."""
    LINGER = enum.auto()
    """The client, to close its side."""


class Watched(Protocol):
    """A connection as a watch sees it."""

    def progress(self) -> tuple[Phase, int]:
        """Return what it waits for, and a number that is another one once something has come."""

    def expire(self, phase: Phase) -> None:
        """End it: what it waits for has not come in time."""


class Watch:
    """Looks at one connection once in a while, whether anything has happened, or for how long nothing.

    So a limit is met up to a look late, and no timer is set or taken back for a request. Looks are counted,
    not seconds: what this process is late itself, or sleeps through, is not held against a client.
    """

    def __init__(self, watched: Watched, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._watched = watched
        self._loop = loop
        self._patience = {
            Phase.OPEN: limits.first_byte_timeout,
            Phase.HEAD: limits.header_timeout,
            Phase.BODY: limits.body_timeout,
            Phase.BUSY: math.inf,
            Phase.SENDING: limits.send_timeout,
            Phase.IDLE: limits.idle_timeout,
            Phase.LINGER: LINGER,
        }
        self._tick = min(1.0, min(self._patience.values()) / 4)
        self._seen = watched.progress()
        self._looks = 0
        self._timer = loop.call_later(self._tick, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._tick, self._look)
        seen = self._watched.progress()
        if seen != self._seen:
            self._seen, self._looks = seen, 0
            return
        self._looks += 1
        if self._looks * self._tick >= self._patience[seen[0]]:
            self._watched.expire(seen[0])


def unacknowledged(sock: socket.socket | None) -> int:
    """Return how many bytes the kernel holds that the other side has not taken, 0 where it does not say."""
    try:
        import fcntl
        import termios

        held = fcntl.ioctl(-1 if sock is None else sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (ImportError, OSError, ValueError):
        return 0
    return int(struct.unpack("i", held)[0])
