"""The guard: one small process above each local job and endpoint.

It has a session of its own and is a child subreaper, so nothing that the job starts can outlive it
unseen. It holds the record's lease, watches its owner's pipe, ends everything when it is told to
or when an owner dies without saying goodbye, and writes how it ended into the records.

Usage: ``python -m modelyard.plugins.backends.local.guard SETTINGS``, the settings as JSON
(`GuardSettings`); the environment is passed on to the program it guards.
"""

import contextlib
import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from modelyard.core.handover import GUARD_PID, LISTEN_FD, clip
from modelyard.core.layout import JobLayout
from modelyard.core.processes import become_subreaper, end_descendants, reap_orphans, signal_name
from modelyard.plugins.backends.local.records import Records, discard_lent

DETACH = b"d"
"""What an owner that ends in good order writes: the work goes on without it."""

_STOP_MARGIN = 5.0


@attrs.frozen
class GuardSettings:
    """What a guard is told.

    ``home`` and ``record_id``: whose record; ``argv``: the program; ``base``: its
    ``SAGEMAKER_BASE_DIR``; ``lease``, ``owner``, ``listen``: inherited descriptors, the last two -1
    where there is none; ``grace``: seconds between SIGTERM and SIGKILL; ``startup_timeout``: seconds
    until an endpoint must answer.
    """

    home: str
    record_id: int
    argv: list[str]
    base: str
    lease: int
    owner: int = -1
    listen: int = -1
    grace: float = 30.0
    startup_timeout: float = 480.0


class Guard:
    """Runs one program to its end and records how it went."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._records = Records(Path(settings.home))
        self._record = self._records.get(settings.record_id)
        self._layout = JobLayout(Path(settings.base))
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch = tempfile.mkdtemp(prefix="modelyard-")
        self._stopped_because = ""
        self._kill_at: float | None = None

    def run(self) -> None:
        """Start the program, wait for its end, end what is left of it, write the record."""
        become_subreaper()
        with _wakeups() as wakeup, selectors.DefaultSelector() as selector:
            signal.signal(signal.SIGTERM, lambda *_: self._stop("on request"))
            selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(4096))
            if self._settings.owner >= 0:
                watch = _OwnerWatch(self._settings.owner, selector, self._stop)
                selector.register(self._settings.owner, selectors.EVENT_READ, watch)
            self._records.annotate(self._record.id, scratch=self._scratch)
            child = self._child = self._spawn()
            if self._stopped_because:  # While the program was being started.
                child.terminate()
            if self._settings.listen >= 0:
                self._watch_readiness(child)
            # Last: whoever finds the pid may signal it.
            self._records.annotate(self._record.id, pid=os.getpid())
            while child.poll() is None:
                for key, _ in selector.select(self._patience(child)):
                    key.data()
                reap_orphans(child.pid)
        end_descendants()
        self._finish(child.returncode)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        inherited = (self._settings.listen,) if self._settings.listen >= 0 else ()
        told = {GUARD_PID: str(os.getpid()), LISTEN_FD: str(self._settings.listen), "TMPDIR": self._scratch}
        return subprocess.Popen(self._settings.argv, env=os.environ | told, pass_fds=inherited)

    # -- ending it -----------------------------------------------------------------------------

    def _live(self) -> tuple[str, ...]:
        return (
            ("InProgress", "Stopping")
            if self._record.kind == "job"
            else ("Creating", "InService", "Deleting")
        )

    def _stop(self, because: str) -> None:
        """Ask the program to end; SIGKILL follows when its time is over."""
        if self._stopped_because:
            return
        self._stopped_because = because
        # The program has its own time of grace for the script; the margin is for its own end.
        self._kill_at = time.monotonic() + self._settings.grace + _STOP_MARGIN
        if self._child is not None:
            self._child.terminate()

    def _patience(self, child: "subprocess.Popen[bytes]") -> float | None:
        """Return how long to wait for the next event, and kill what has used up its time."""
        if self._kill_at is None:
            return None
        left = self._kill_at - time.monotonic()
        if left <= 0:
            child.kill()
            return 1.0
        return left

    def _finish(self, code: int) -> None:
        """Remove what was only lent to the program, and record how it ended."""
        discard_lent(self._records.get(self._record.id))
        if self._record.kind == "job":
            self._finish_job(code)
        else:
            self._finish_endpoint(code)

    def _finish_job(self, code: int) -> None:
        if self._stopped_because:
            status, reason = "Stopped", self._stopped_because
        elif code == 0:
            status, reason = "Completed", ""
        else:
            status, reason = "Failed", self._failure(f"the in-job program ended with {_how(code)}")
        self._records.move(
            self._record.id,
            status,
            since=self._live(),
            reason=reason,
            exit_code=code,
            delivered=self._layout.success.is_file(),
        )

    def _finish_endpoint(self, code: int) -> None:
        deleting = self._records.get(self._record.id).status == "Deleting"
        if deleting:
            self._records.move(self._record.id, "Deleted", since=self._live())
            return
        reason = self._stopped_because or self._failure(f"the model server ended with {_how(code)}")
        self._records.move(self._record.id, "Failed", since=self._live(), reason=reason)

    def _failure(self, otherwise: str) -> str:
        """Return the reason that the program left in its failure file."""
        with contextlib.suppress(OSError):
            if text := self._layout.failure.read_text("utf-8", "replace").strip():
                return clip(text)
        return otherwise

    # -- an endpoint's readiness ---------------------------------------------------------------

    def _watch_readiness(self, child: "subprocess.Popen[bytes]") -> None:
        """Leave the socket to the server alone, so that it closes with it, and wait for the model."""
        with socket.socket(fileno=self._settings.listen) as listening:
            address = listening.getsockname()[:2]
        threading.Thread(target=self._await_readiness, args=(child, address), daemon=True).start()

    def _await_readiness(self, child: "subprocess.Popen[bytes]", address: tuple[str, int]) -> None:
        """Ask until the server answers 200: it listens already, and answers once its model is loaded."""
        deadline = time.monotonic() + self._settings.startup_timeout
        while (left := deadline - time.monotonic()) > 0:
            if _is_ready(address, left):
                self._records.move(self._record.id, "InService", since=("Creating",))
                return
            time.sleep(0.1)
        if not self._stopped_because:
            self._stopped_because = f"the model was not loaded within {self._settings.startup_timeout:g} s"
            child.kill()


@attrs.define(slots=True)
class _OwnerWatch:
    """Tells an owner that says goodbye from one that dies: one writes a byte before the pipe ends."""

    descriptor: int
    selector: selectors.BaseSelector
    stop: Callable[[str], None]

    def __call__(self) -> None:
        said = os.read(self.descriptor, 1)
        self.selector.unregister(self.descriptor)
        if said != DETACH:
            self.stop("the process that started it died")


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


def _is_ready(address: tuple[str, int], timeout: float) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _how(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {signal_name(-code)}"


def main() -> None:
    """Guard what the first argument describes."""
    settings = GuardSettings(**json.loads(sys.argv[1]))
    Guard(settings).run()


if __name__ == "__main__":
    main()
