"""Run one command to its end: the only place of a job that spawns.

The command gets a session of its own. Its output is relayed whole lines at a time, standard error
apart from standard output; SIGTERM and SIGINT are passed on and, after a time of grace, everything
that it started is killed; orphans are reaped, also where this process is PID 1.
"""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import IO, Self, cast

import attrs

from modelyard.core.contracts import Command
from modelyard.core.processes import (
    become_subreaper,
    die_with_parent,
    end_descendants,
    reap_orphans,
)

_TAIL_BYTES = 64 * 1024
_CHUNK = 64 * 1024
_DRAIN_SECONDS = 1.0


@attrs.frozen
class Outcome:
    """How a command ended.

    ``exit_code``: the command's own, or 128 plus the number of the signal that ended it;
    ``signal``: that number, else 0; ``stopped``: whether this process was told to stop it;
    ``stderr_tail``: the end of its standard error, at most 64 KiB.
    """

    exit_code: int
    signal: int
    stopped: bool
    stderr_tail: str


def run(command: Command, environ: Mapping[str, str], *, grace: float = 30.0) -> Outcome:
    """Run `command` with exactly `environ` (to which its own is added) and relay its output.

    `grace`: seconds between SIGTERM and SIGKILL once this process is told to stop.
    """
    become_subreaper()
    # Signals are taken before there is a child: one that arrives too early is passed on later.
    with _Forwarding(grace) as stop, _started(command, environ) as child, _Relay(child) as relay:
        stop.forward_to(child.pid)
        while child.poll() is None:
            relay.pump(0.05 if stop.pending else 0.5)
            stop.enforce()
            reap_orphans(child.pid)
        end_descendants()
        relay.drain()
    code = child.returncode
    return Outcome(
        exit_code=128 - code if code < 0 else code,
        signal=max(-code, 0),
        stopped=stop.pending,
        stderr_tail=relay.stderr.tail(),
    )


@contextlib.contextmanager
def _started(command: Command, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the command; whatever happens in the block, nothing of it is left running."""
    parent = os.getpid()
    child = subprocess.Popen(
        command.argv,
        cwd=command.cwd,
        env={**environ, **command.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Safe: this process has one thread, and the call is a single system call.
        preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509
    )
    try:
        yield child
    finally:
        end_descendants()


class _Forwarding:
    """While it is entered, SIGTERM and SIGINT go to the child's whole process group."""

    def __init__(self, grace: float) -> None:
        self._group = 0
        self._arrived = 0
        self._grace = grace
        self._deadline: float | None = None
        self._previous: dict[int, object] = {}

    @property
    def pending(self) -> bool:
        """Whether a signal to stop has arrived."""
        return self._deadline is not None

    def __enter__(self) -> Self:
        for sig in (signal.SIGTERM, signal.SIGINT):
            self._previous[sig] = signal.signal(sig, self._forward)
        return self

    def __exit__(self, *exc: object) -> None:
        for sig, handler in self._previous.items():
            signal.signal(sig, handler)  # type: ignore[arg-type]

    def forward_to(self, group: int) -> None:
        """Name the process group, and pass on what arrived before there was one."""
        self._group = group
        if self._arrived:
            self._send(self._arrived)

    def enforce(self) -> None:
        """Kill the group once the time of grace is over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._send(signal.SIGKILL)

    def _forward(self, sig: int, _frame: FrameType | None) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
        self._arrived = sig
        self._send(sig)

    def _send(self, sig: int) -> None:
        if self._group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, sig)


class _Relay:
    """Copies the child's two streams to this process's own, whole lines at a time."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._selector = selectors.DefaultSelector()
        self.stdout = self._watch(child.stdout, 1)
        self.stderr = self._watch(child.stderr, 2)

    def _watch(self, stream: IO[bytes] | None, target: int) -> "_Lines":
        assert stream is not None  # noqa: S101 - both streams are pipes
        os.set_blocking(stream.fileno(), False)
        lines = _Lines(lambda data: _write(target, data))
        self._selector.register(stream, selectors.EVENT_READ, lines)
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for key in tuple(self._selector.get_map().values()):
            self._finish(key)
        self._selector.close()

    def pump(self, seconds: float) -> bool:
        """Relay what there is, waiting `seconds` at most for something; tell whether there was any."""
        if not self._selector.get_map():
            # Both streams have ended, and so has the child in a moment, in most cases.
            time.sleep(min(seconds, 0.01))
            return False
        ready = self._selector.select(seconds)
        for key, _ in ready:
            if chunk := _read(key.fd):
                key.data.feed(chunk)
            elif chunk is not None:
                self._finish(key)
        return bool(ready)

    def drain(self) -> None:
        """Relay what is left in the pipes, for a second at most: a stuck writer may hold them open."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._selector.get_map() and self.pump(0.0) and time.monotonic() < deadline:
            pass

    def _finish(self, key: selectors.SelectorKey) -> None:
        key.data.flush()
        self._selector.unregister(key.fileobj)
        cast(IO[bytes], key.fileobj).close()


class _Lines:
    """Bytes in, whole lines out; remembers the end of what it has seen."""

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit
        self._partial = b""
        self._open = False
        self._seen: deque[bytes] = deque()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Emit the lines that `chunk` completes, and a line that outgrows the tail as it is."""
        complete, newline, self._partial = (self._partial + chunk).rpartition(b"\n")
        if newline:
            self._out(complete + newline)
        if len(self._partial) > _TAIL_BYTES:
            self._out(self._partial)
            self._partial = b""

    def flush(self) -> None:
        """Emit the line that has not ended, and end it."""
        if self._partial or self._open:
            self._out(self._partial + b"\n")
            self._partial = b""

    def tail(self) -> str:
        """Return the end of what was emitted."""
        return b"".join(self._seen)[-_TAIL_BYTES:].decode("utf-8", "replace")

    def _out(self, data: bytes) -> None:
        self._emit(data)
        self._open = not data.endswith(b"\n")
        self._seen.append(data)
        self._size += len(data)
        while self._size - len(self._seen[0]) >= _TAIL_BYTES:
            self._size -= len(self._seen.popleft())


def _read(fd: int) -> bytes | None:
    """Return what is there: empty at the end, None where there is nothing yet."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


def _write(fd: int, data: bytes) -> None:
    """Write all of `data`; a reader that has gone, or a full disk, is no reason to stop the job."""
    with contextlib.suppress(OSError):
        for part in _parts(data):
            written = 0
            while written < len(part):
                written += _write_some(fd, part[written:])


def _write_some(fd: int, data: bytes) -> int:
    """Return how much of `data` was written, also where another process made `fd` non-blocking."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        select.select((), (fd,), ())
        return 0


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield whole lines in pieces that the kernel writes to a pipe in one go, where lines allow it."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + 4096) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
