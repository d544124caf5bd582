"""Lines out of bytes: always whole, bounded, without secrets, progress bars as they stand now and then."""

import math
import os
import time
from collections.abc import Iterable
from typing import Protocol

from modelyard.core.redaction import REDACTED

LONGEST = 64 * 1024
"""Bytes after which a line is broken."""

SHORTEST_SECRET = 6
"""Characters below which a text is not masked: it would be found in every log."""

_MOMENT = 1.0
"""Seconds between two looks at a line that has not ended."""

_SETTLED = 0.1
"""Seconds after which what was written last is taken for all that was to be written."""


class Emit(Protocol):
    """Takes whole lines. ``show``: they go to the log; ``keep``: they are what the program said.

    ``broken``: the last one was too long, and goes on with the first one that is kept next.
    """

    def __call__(self, block: bytes, *, show: bool = True, keep: bool = True, broken: bool = False) -> None:
        """Take `block`, which ends with a newline."""


class Mask:
    """Puts ``********`` in place of secrets; of a secret of several lines in place of each."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        texts = (os.fsencode(line) for line in lines if len(line) >= SHORTEST_SECRET)
        # The longest first: a secret may hold another one.
        self._secrets = sorted(texts, key=len, reverse=True)

    def __call__(self, block: bytes) -> bytes:
        """Return whole lines without secrets."""
        for secret in self._secrets:
            block = block.replace(secret, REDACTED.encode())
        return block

    def begun(self, data: bytes) -> int:
        """Return how many bytes at the end of `data` may be the beginning of a secret."""
        beginnings = (secret[:size] for secret in self._secrets for size in range(1, len(secret)))
        return max((len(text) for text in beginnings if data.endswith(text)), default=0)


class Lines:
    """Bytes in, whole lines out.

    A carriage return starts a line over, as on a terminal: of a line that ends, what was written
    after the last one counts. A line that has not ended after a second is shown as it stands: a bar
    again each second while it changes, any other text once. When it ends it is shown whole, unless
    nothing has been added. ``due``: when `tick` has something to do, by `time.monotonic`.
    """

    def __init__(self, emit: Emit, mask: Mask) -> None:
        self.due = math.inf
        self._emit = emit
        self._mask = mask
        self._partial = b""
        self._shown: bytes | None = None
        self._kept = False
        self._looked = 0.0

    def feed(self, chunk: bytes) -> None:
        """Take what was read; emit the lines that it completes."""
        complete, newline, rest = (self._partial + chunk).rpartition(b"\n")
        if newline:
            self._end(complete + newline)
        if b"\r" in rest:
            rest = b"\r".join(rest.rsplit(b"\r", 2)[-2:])
        self._partial = self._broken(rest) if len(rest) > LONGEST else rest
        if not self._partial:
            self.due = math.inf
        elif self.due == math.inf:
            self._look_later()

    def tick(self) -> None:
        """Show the line that has not ended as it stands, if there is anything new in it."""
        self.due = math.inf
        before, bar, newest = self._partial.rpartition(b"\r")
        if self._shown is not None and not bar:
            return
        whole = before.rpartition(b"\r")[2]
        fresh = bool(whole.strip()) and whole != self._shown
        # What a carriage return has followed is surely whole; but it may have been shown before.
        text = whole if fresh else newest[: len(newest) - self._held(newest)]
        if text.strip() and text != self._shown:
            self._shown, self._kept = text, bool(bar)
            self._looked = time.monotonic()
            self._emit(text + b"\n", keep=self._kept)
            if fresh:
                self._look_later()

    def flush(self) -> None:
        """End the line that has not ended; a bar that was wiped out leaves none."""
        if self._partial and (b"\r" not in self._partial or _state(self._partial).strip()):
            self._end(self._partial + b"\n")
        self._partial, self._shown, self.due = b"", None, math.inf

    def _end(self, block: bytes, *, broken: bool = False) -> None:
        if b"\r" in block:
            block = b"".join(_state(line) + b"\n" for line in block[:-1].split(b"\n"))
        if self._shown is not None:
            first, _, rest = block.partition(b"\n")
            if first == self._shown:
                block = rest
                if not self._kept:
                    self._emit(first + b"\n", show=False)
        self._shown, self.due = None, math.inf
        if block:
            self._emit(block, broken=broken)

    def _broken(self, line: bytes) -> bytes:
        """Emit what a line that is too long has so far; return what cannot be told from a beginning."""
        cut = len(line) - self._held(line)
        if cut:
            self._end(line[:cut] + b"\n", broken=True)
        return line[cut:]

    def _held(self, data: bytes) -> int:
        """Return how many bytes at the end of `data` only make sense with what follows."""
        return max(self._mask.begun(data), _torn(data))

    def _look_later(self) -> None:
        now = time.monotonic()
        began = now if self._shown is None else self._looked
        self.due = max(now + _SETTLED, began + _MOMENT)


def _state(line: bytes) -> bytes:
    """Return what a terminal shows of a line with carriage returns in it."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _torn(data: bytes) -> int:
    """Return how many bytes of a UTF-8 character that is not whole yet are at the end of `data`."""
    for size in range(1, min(3, len(data)) + 1):
        byte = data[-size]
        if byte < 0x80:  # ASCII
            return 0
        if byte >= 0xC0:  # A character's first byte, which tells its length.
            return size if size < 2 + (byte >= 0xE0) + (byte >= 0xF0) else 0
    return 0
