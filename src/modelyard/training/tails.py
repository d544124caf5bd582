"""The end of what a process wrote to its standard error: what a failure is told from."""

import time
from collections import deque

import attrs

TAIL_BYTES = 64 * 1024
"""How much of the end is remembered."""


@attrs.frozen
class Said:
    """The end of what one process wrote to its standard error: whole lines, some 64 KiB at most.

    ``pieces``: texts, each with the time at which it had been read; ``ended``: when the stream ended;
    both in seconds since 1970. ``rank``: the process's, None for the command itself; ``host``: its
    host's name, empty where there is one host.
    """

    pieces: tuple[tuple[float, str], ...] = ()
    ended: float = 0.0
    rank: int | None = None
    host: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.pieces)

    def read_at(self, line: int) -> float:
        """Return when the line of that number, from 0, had been read."""
        for moment, text in self.pieces:
            line -= text.count("\n")
            if line < 0:
                return moment
        return self.ended


class Tail:
    """Remembers the end of what it is given."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._ended = 0.0

    def add(self, block: bytes) -> None:
        """Take whole lines."""
        self._pieces.append((time.time(), block))
        self._ended = 0.0
        self._size += len(block)
        while self._size - len(self._pieces[0][1]) >= TAIL_BYTES:
            self._size -= len(self._pieces.popleft()[1])

    def clear(self) -> None:
        """Forget it all: another process writes from here on."""
        self._pieces.clear()
        self._size = 0
        self._ended = 0.0

    def end(self) -> None:
        """Note that its writers have gone, where that is news."""
        self._ended = self._ended or time.time()

    def said(self, rank: int | None, host: str) -> Said:
        """Return what is remembered, its first line left out where it would be torn."""
        pieces = [(moment, block) for moment, block in self._pieces]
        if self._size > TAIL_BYTES:
            moment, block = pieces[0]
            excess = self._size - TAIL_BYTES
            pieces[0] = (moment, block[block.find(b"\n", excess - 1) + 1 :])
        texts = tuple((moment, block.decode("utf-8", "replace")) for moment, block in pieces)
        return Said(texts, self._ended or time.time(), rank, host)
