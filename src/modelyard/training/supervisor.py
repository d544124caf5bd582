"""Run one command to its end: the only place of a job that spawns.

The command gets a session of its own. Its output is relayed whole lines at a time, standard error
apart from standard output; SIGTERM and SIGINT are passed on and, after a time of grace, everything
that it started is killed; orphans are reaped, also where this process is PID 1. Nothing is polled:
signals, ended children, output and readers that come back all wake one `select`.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from types import FrameType

import attrs

from modelyard.core.contracts import Command
from modelyard.core.processes import (
    become_subreaper,
    die_with_parent,
    end_descendants,
    reap_orphans,
    signal_descendants,
)
from modelyard.training.relay import Relay
from modelyard.training.streams import RelaySettings
from modelyard.training.tails import Said

_KILL_AGAIN_SECONDS = 0.5


@attrs.frozen
class Outcome:
    """How a command ended.

    ``exit_code``: the command's own, or 128 plus the number of the signal that ended it;
    ``signal``: that number, else 0; ``stopped``: whether this process was told to stop it;
    ``stderr`` and ``ranks``: what the command and each rank with streams of its own said at the end.
    """

    exit_code: int
    signal: int
    stopped: bool
    stderr: Said = Said()  # noqa: RUF009 - frozen
    ranks: tuple[Said, ...] = ()

    @property
    def stderr_tail(self) -> str:
        """The end of the command's standard error."""
        return self.stderr.text


class Stop:
    """SIGTERM and SIGINT as they arrive; made by `signals`.

    ``signal``: the number of the first one, 0 before; ``arrived``: when, by `time.monotonic`.
    """

    def __init__(self, wakeup: int) -> None:
        self.signal = 0
        self.arrived = 0.0
        self._wakeup = wakeup
        self._group = 0
        self._unsent = 0

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
        """Take a signal."""
        if not self.signal:
            self.signal, self.arrived = sig, time.monotonic()
        if self._group:
            self._send(sig)
        else:
            self._unsent = sig

    def _send(self, sig: int) -> None:
        self._unsent = 0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, sig)


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Take SIGTERM and SIGINT for the time of a job, so that none is lost before its script runs.

    Between the commands of a job nothing happens by itself: look at ``pending``.
    """
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    stop = Stop(reading)
    handlers = {signal.SIGTERM: stop.handle, signal.SIGINT: stop.handle, signal.SIGCHLD: _ignore}
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


def run(
    command: Command,
    environ: Mapping[str, str],
    *,
    grace: float = 30.0,
    relay: RelaySettings = RelaySettings(),  # noqa: B008 - frozen
    stop: Stop | None = None,
) -> Outcome:
    """Run `command` with exactly `environ` (to which its own is added) and relay its output.

    `grace`: seconds between SIGTERM and SIGKILL once this process is told to stop; `stop`: of the
    `signals` that the caller has taken already. If one has arrived, nothing is started.
    """
    if stop is None:
        with signals() as taken:
            return run(command, environ, grace=grace, relay=relay, stop=taken)
    if stop.pending:
        return Outcome(128 + stop.signal, stop.signal, stopped=True)
    become_subreaper()
    with Relay(relay, command.ranks, stop) as streams:
        told = {**environ, **command.environ, **streams.environ}
        with _started(command, told, streams) as child, stop.forwarded_to(child.pid):
            _watch(child, streams, stop, grace)
    code = child.returncode
    said, ranks = streams.said
    return Outcome(128 - code if code < 0 else code, max(-code, 0), stop.pending, said, ranks)


def _watch(child: "subprocess.Popen[bytes]", streams: Relay, stop: Stop, grace: float) -> None:
    """Relay until the child has ended; kill everything once the time of grace is over."""
    while child.poll() is None:
        left = stop.seconds_left(grace)
        if left == 0:
            signal_descendants(signal.SIGKILL)
            left = _KILL_AGAIN_SECONDS
        streams.pump(left)
        reap_orphans(child.pid)


@contextlib.contextmanager
def _started(
    command: Command, environ: Mapping[str, str], streams: Relay
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the command; whatever happens in the block, nothing of it is left running."""
    parent = os.getpid()
    try:
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=streams.stdout,
            stderr=streams.stderr,
            start_new_session=True,
            # Safe: this process has one thread, and the call is a single system call.
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509
        )
    finally:
        streams.started()
    try:
        yield child
    finally:
        end_descendants()


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: a signal that has a handler wakes `select`."""
