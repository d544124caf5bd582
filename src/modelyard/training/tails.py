"""The end of what a process wrote to its standard error: what a failure is told from."""

import time
from collections import deque

import attrs

TAIL_BYTES = 64 * 1024
"""How much of the end is remembered."""

LINE_BYTES = 4 * 1024
"""How much of each line is: a message of any length leaves room for the frames above it."""


@attrs.frozen
class Said:
    """The end of what one process wrote to its standard error: lines, some 64 KiB at most.

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
    """Remembers the end of what it is given, of each line the beginning.

    ``broken``: whether the last line goes on with the next one that is given.
    """

    def __init__(self) -> None:
        self.broken = False
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._ended = 0.0

    def add(self, block: bytes) -> None:
        """Take whole lines."""
        self._ended = 0.0
        block = _beginnings(block.partition(b"\n")[2] if self.broken else block)
        self.broken = False
        if not block:
            return
        self._pieces.append((time.time(), block))
        self._size += len(block)
        while self._size - len(self._pieces[0][1]) >= TAIL_BYTES:
            self._size -= len(self._pieces.popleft()[1])

    def clear(self) -> None:
        """Forget it all: another process writes from here on."""
        self._pieces.clear()
        self._size = 0
        self._ended = 0.0
        self.broken = False

    def end(self) -> None:
        """Note that its writers have gone, where that is news."""
        self._ended = self._ended or time.time()
        self.broken = False

    def said(self, rank: int | None, host: str) -> Said:
        """Return what is remembered, its first line left out where it would be torn."""
        pieces = [(moment, block) for moment, block in self._pieces]
        if self._size > TAIL_BYTES:
            moment, block = pieces[0]
            excess = self._size - TAIL_BYTES
            pieces[0] = (moment, block[block.find(b"\n", excess - 1) + 1 :])
        texts = tuple((moment, block.decode("utf-8", "replace")) for moment, block in pieces if block)
        return Said(texts, self._ended or time.time(), rank, host)


def _beginnings(block: bytes) -> bytes:
    """Return whole lines, with only the beginning of those that are long."""
    lines = block.split(b"\n")
    if max(map(len, lines)) <= LINE_BYTES:
        return block
    return b"\n".join(line if len(line) <= LINE_BYTES else line[:LINE_BYTES] + b"..." for line in lines)
