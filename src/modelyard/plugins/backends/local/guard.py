"""The guard: one small process above each local job and endpoint.

It has a session of its own and is a child subreaper, so nothing that it starts can outlive it
unseen. It holds the record's lease, watches its owner's pipe, ends everything when it is told to
or when an owner dies without saying goodbye, and writes how it ended into the records.

`job_guard` and `endpoint_guard` are the programs; their one argument is their settings as JSON.
"""

import abc
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.handover import GUARD_PID
from modelyard.core.layout import BASE_DIR
from modelyard.core.processes import become_subreaper, end_descendants, reap_orphans, signal_name
from modelyard.plugins.backends.local.records import Record, Records, discard_lent

DETACH = b"d"
"""What an owner that ends in good order writes: the work goes on without it."""

_DAY = 86400.0

STOP_MARGIN = 5.0
"""Seconds beyond the time of grace of what programs run, for the end of the programs themselves."""


@attrs.frozen
class GuardSettings:
    """What every guard is told.

    ``home`` and ``record_id``: whose record; ``lease`` and ``owner``: inherited descriptors, the last
    one -1 where there is none; ``grace``: seconds between SIGTERM and SIGKILL.
    """

    home: str
    record_id: int
    lease: int
    owner: int = -1
    grace: float = 30.0

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that the guard needs open."""
        return tuple(fd for fd in (self.lease, self.owner) if fd >= 0)


class Guard(abc.ABC):
    """Runs programs to their end and records how it went."""

    def __init__(self, settings: GuardSettings) -> None:
        self._grace = settings.grace
        self._owner = settings.owner
        self._records = Records(Path(settings.home))
        self._record_id = settings.record_id
        self._scratch = Path(tempfile.mkdtemp(prefix="modelyard-"))
        self._selector = selectors.DefaultSelector()
        self._programs: list[subprocess.Popen[bytes]] = []
        self._asked: list[subprocess.Popen[bytes]] = []
        self._stopped_because = ""
        self._kill_at: float | None = None

    def run(self) -> None:
        """Start the programs, wait for their end, end what is left of them, write the record."""
        become_subreaper()
        with _wakeups() as wakeup, self._selector:
            for sig in (signal.SIGTERM, signal.SIGINT):
                signal.signal(sig, lambda *_: self.stop("on request"))
            self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(4096))
            if self._owner >= 0:
                self._selector.register(self._owner, selectors.EVENT_READ, self._hear_owner)
            self._records.annotate(self._record_id, scratch=str(self._scratch))
            self.begin()
            self.end_if_stopped()
            # Last: whoever finds the pid may signal it.
            self._records.annotate(self._record_id, pid=os.getpid())
            while not self.is_over():
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                reap_orphans(*(program.pid for program in self._programs))
        end_descendants()
        discard_lent(self._record)
        self.finish()

    @property
    def _record(self) -> Record:
        return self._records.get(self._record_id)

    # -- what a kind of guard adds -------------------------------------------------------------

    @abc.abstractmethod
    def begin(self) -> None:
        """Start what there is to guard."""

    @abc.abstractmethod
    def is_over(self) -> bool:
        """Act on what has happened since the last call, and tell whether all has ended."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Record how it ended; nothing runs any more."""

    def deadline(self) -> float | None:
        """Return when the work must have ended by itself, by the monotonic clock; None for never."""
        return None

    # -- programs ------------------------------------------------------------------------------

    def spawn(
        self, argv: Sequence[str], base: str, environ: Mapping[str, str], **options: Any
    ) -> "subprocess.Popen[bytes]":
        """Start a program that has `base` as its ``SAGEMAKER_BASE_DIR`` and ends with this guard."""
        scratch = self._scratch / Path(base).name
        scratch.mkdir(exist_ok=True)
        told = {GUARD_PID: str(os.getpid()), BASE_DIR: base, "TMPDIR": str(scratch)}
        program = subprocess.Popen(argv, env={**os.environ, **told, **environ}, **options)
        self._programs.append(program)
        return program

    def running(self) -> list["subprocess.Popen[bytes]"]:
        """Return the programs that have not ended."""
        return [program for program in self._programs if program.poll() is None]

    # -- ending them ---------------------------------------------------------------------------

    def stop(self, because: str) -> None:
        """Ask the programs to end, for good; SIGKILL follows when their time is over."""
        if not self._stopped_because:
            self._stopped_because = because
            self.end_programs(self._grace + STOP_MARGIN)

    def end_if_stopped(self) -> None:
        """Ask programs to end that were being started when this guard was told to stop."""
        if self._stopped_because:
            self.end_programs(self._grace + STOP_MARGIN)

    def end_programs(self, seconds: float) -> None:
        """Ask the programs to end within `seconds`.

        They have a time of grace of their own for what they run: what is given here is more.
        """
        end = time.monotonic() + seconds
        self._kill_at = end if self._kill_at is None else min(self._kill_at, end)
        # Once: a handler that saves a script's work is not to be called again while it does.
        for program in self.asked_to_end():
            if program not in self._asked:
                self._asked.append(program)
                program.terminate()

    def asked_to_end(self) -> Iterable["subprocess.Popen[bytes]"]:
        """Return the programs that are ended by SIGTERM; what is left is killed with them."""
        return self.running()

    def _hear_owner(self) -> None:
        """Tell an owner that says goodbye from one that dies: one writes a byte before the pipe ends."""
        said = os.read(self._owner, 1)
        self._selector.unregister(self._owner)
        if said != DETACH:
            self.stop("the process that started it died")

    def _patience(self) -> float | None:
        """Return how long to wait for the next event, and kill what has used up its time."""
        moments = [moment for moment in (self._kill_at, self.deadline()) if moment is not None]
        if not moments:
            return None
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            for program in self.running():
                program.kill()
            return 1.0
        # Waking early is harmless; more than some days `select` does not take.
        return min(max(0.0, min(moments) - time.monotonic()), _DAY)


@contextlib.contextmanager
def _wakeups() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal arrives or a child ends."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(previous)
        ours.close()
        theirs.close()


def how(code: int) -> str:
    """Return how a program ended, from the code that `subprocess` gives."""
    return f"code {code}" if code >= 0 else f"signal {signal_name(-code)}"


def recorded(failure: Path) -> str:
    """Return what a program left in its failure file; nothing where there is none."""
    with contextlib.suppress(OSError):
        if failure.is_file():  # A pipe of that name would be waited for.
            return failure.read_text("utf-8", "replace").strip()
    return ""
