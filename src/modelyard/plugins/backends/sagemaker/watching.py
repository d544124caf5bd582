"""Asking the service again and again, and not too often."""

import time
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]

_SLOWER, _SLOWEST = 1.5, 5
"""By how much the pauses between questions grow while nothing happens, and up to how many times the first."""


class Watch:
    """Asks the service about one thing, and not more often than it is worth.

    Who asks again and again gets what was said last until it is older than `spacing` seconds.
    """

    def __init__(self, ask: Callable[[], Answer], spacing: float) -> None:
        self._ask = ask
        self._spacing = spacing
        self._said: Answer | None = None
        self._until = 0.0

    def recent(self) -> Answer:
        """Return what the service said lately."""
        if self._said is None or time.monotonic() >= self._until:
            return self.now()
        return self._said

    def now(self) -> Answer:
        """Return what the service says now."""
        self._said = self._ask()
        self._until = time.monotonic() + self._spacing
        return self._said


class Pause:
    """Sleeps for a growing time, from `shortest` on."""

    def __init__(self, shortest: float) -> None:
        self._shortest = self._next = shortest

    def sleep(self, *, again: bool = False) -> None:
        """Sleep; begin anew with the shortest time where something has happened."""
        if again:
            self._next = self._shortest
        time.sleep(self._next)
        self._next = min(self._next * _SLOWER, self._shortest * _SLOWEST)
