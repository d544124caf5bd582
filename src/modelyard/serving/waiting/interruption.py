"""Ending what runs too long on a thread: Python has no way to end it, but one to raise in it."""

import ctypes
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(BaseException):
    """Raised in code that has run past its deadline.

    No ``Exception``: a model that tries again and again, whatever goes wrong, is to stop all the same.
    """


class Interrupter:
    """Ends what one thread runs beyond its time.

    The thread calls `within`; another one calls `overdue` now and then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._deadline = math.inf
        self._raised_at: float | None = None

    def within(self, deadline: float, function: Callable[..., T], *arguments: Any) -> T:
        """Return what `function` does; `Interrupted` is raised in it after `deadline` (monotonic)."""
        self._thread = threading.get_ident()
        self._deadline = deadline
        try:
            return function(*arguments)
        finally:
            while True:
                try:
                    self._end()
                    break
                except Interrupted:  # It came just now, and there is only one.
                    continue

    def overdue(self, now: float) -> float:
        """Interrupt what runs past its deadline; return for how many seconds it has not minded."""
        if now < self._deadline:
            return 0.0
        with self._lock:
            if now < self._deadline:  # It has ended meanwhile.
                return 0.0
            if self._raised_at is None:
                self._raised_at = now
                _raise_in(self._thread, Interrupted)
            return now - self._raised_at

    def _end(self) -> None:
        with self._lock:
            self._deadline = math.inf
            if self._raised_at is not None:
                # What comes next on this thread is not to be hit by it.
                _raise_in(self._thread, None)
                self._raised_at = None


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    argument = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), argument)
