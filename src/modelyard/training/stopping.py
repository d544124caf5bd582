"""The order to stop: signals as they arrive, before, between, in and after the commands of a job."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from modelyard.core.processes import signal_name


class Interrupted(Exception):  # noqa: N818 - no error: it was asked for
    """A signal has arrived while no command ran. ``signal``: its number."""

    def __init__(self, sig: int) -> None:
        super().__init__(f"told to stop by {signal_name(sig)}")
        self.signal = sig


class Stop:
    """SIGTERM and SIGINT as they arrive; made by `signals`. SIGHUP counts as SIGTERM.

    ``signal``: the number of the first one, 0 before; ``arrived``: when, by `time.monotonic`.
    """

    def __init__(self, wakeup: int) -> None:
        self.signal = 0
        self.arrived = 0.0
        self._wakeup = wakeup
        self._group = 0
        self._unsent = 0
        self._raises = False

    @property
    def pending(self) -> bool:
        """Whether this process has been told to stop."""
        return bool(self.signal)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable with a signal, and when a child ends."""
        return self._wakeup

    def clear(self) -> None:
        """Make it unreadable until the next one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def seconds_left(self, grace: float) -> float | None:
        """Return what is left of the time of grace, never below 0; None before any signal."""
        return max(self.arrived + grace - time.monotonic(), 0.0) if self.pending else None

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """For the block, which main runs itself, have a signal raise `Interrupted`, once.

        At the start if one has arrived already; not while a command runs, whose outcome tells of it.
        For the main thread, where the interpreter runs handlers of signals; not to be nested.
        """
        self._raises = True
        try:
            if self.pending:
                raise Interrupted(self.signal)
            yield
        finally:
            self._raises = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For the block, have a signal raise nothing: what is half started would be left behind."""
        raises, self._raises = self._raises, False
        try:
            yield
        finally:
            self._raises = raises

    @contextlib.contextmanager
    def forwarded_to(self, group: int) -> Iterator[None]:
        """Pass signals on to a process group, also the one that arrived before there was a group."""
        self._group = group
        if self._unsent:
            self._send(self._unsent)
        try:
            yield
        finally:
            self._group = 0

    def handle(self, sig: int, _frame: FrameType | None) -> None:
        """Take a signal. Raises `Interrupted` in a block that is `interrupting`."""
        sig = signal.SIGTERM if sig == signal.SIGHUP else sig
        if not self.signal:
            self.signal, self.arrived = sig, time.monotonic()
        if self._group:
            self._send(sig)
        else:
            self._unsent = sig
        if self._raises:
            self._raises = False  # Nothing interrupts what the first one has set going.
            raise Interrupted(sig)

    def _send(self, sig: int) -> None:
        self._unsent = 0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, sig)


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Take SIGTERM, SIGINT and SIGHUP for the time of a job: none is lost before its script runs.

    Between the commands of a job nothing happens by itself: look at ``pending``, or be `interrupting`.
    SIGHUP is left alone where it is ignored, as ``nohup`` has it.
    """
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    stop = Stop(reading)
    handlers = {signal.SIGTERM: stop.handle, signal.SIGINT: stop.handle, signal.SIGCHLD: _ignore}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handlers[signal.SIGHUP] = stop.handle
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    previous = {sig: signal.signal(sig, handler) for sig, handler in handlers.items()}
    try:
        yield stop
    finally:
        for sig, handler in previous.items():
            signal.signal(sig, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: a signal that has a handler wakes `select`."""
