"""The guard of an endpoint: one model server, which it takes into service once it is ready."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import attrs

from modelyard.core import values
from modelyard.core.handover import LISTEN_FD, clip
from modelyard.core.layout import JobLayout
from modelyard.core.listening import is_ready
from modelyard.plugins.backends.local.guard import Guard, GuardSettings, how, recorded

_LIVE = ("Creating", "InService", "Deleting")
_POLL = 0.1
_ANSWERS_WITHIN = 2.0
"""Seconds for one look at a server: it says at once whether its model is loaded, once it runs at all."""


@attrs.frozen
class EndpointSettings(GuardSettings):
    """What the guard of an endpoint is told.

    ``argv``: the model server; ``base``: its ``SAGEMAKER_BASE_DIR``; ``listen``: the inherited
    descriptor of its socket; ``startup_timeout``: seconds until it must answer.
    """

    argv: tuple[str, ...] = attrs.field(kw_only=True)
    base: str = attrs.field(kw_only=True)
    listen: int = attrs.field(kw_only=True)
    startup_timeout: float = attrs.field(kw_only=True)

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that the guard needs open."""
        return (*super().inherited, self.listen)


class EndpointGuard(Guard):
    """Keeps one model server. SIGHUP is handed to it: it loads its model anew."""

    def __init__(self, settings: EndpointSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._is_in_service = False

    def begin(self) -> None:
        """Start the server, leave the socket to it alone, and wait for its model beside the work."""
        signal.signal(signal.SIGHUP, lambda *_: self._reload())
        listen = self._settings.listen
        self.spawn(self._settings.argv, self._settings.base, {LISTEN_FD: str(listen)}, pass_fds=(listen,))
        # So that the socket closes with the server.
        with socket.socket(fileno=listen) as listening:
            address = listening.getsockname()[:2]
        threading.Thread(target=self._await_readiness, args=(address,), daemon=True).start()

    def is_over(self) -> bool:
        """Tell whether the server has ended."""
        return not self.running()

    def finish(self) -> None:
        """Record the end: Deleted where that was asked for, else Failed with the server's own reason."""
        if self._record.status == "Deleting":
            self._records.move(self._record_id, "Deleted", since=_LIVE)
            return
        reason = self._stopped_because or self._failure()
        self._records.move(self._record_id, "Failed", since=_LIVE, reason=reason)

    def _reload(self) -> None:
        # A server that is still starting would die of the signal.
        if self._is_in_service:
            for server in self.running():
                server.send_signal(signal.SIGHUP)

    def _failure(self) -> str:
        """Return the reason that the server left in its failure file."""
        if text := recorded(JobLayout(Path(self._settings.base)).failure):
            return clip(text)
        return f"the model server ended with {how(self._programs[0].returncode)}"

    def _await_readiness(self, address: tuple[str, int]) -> None:
        """Ask until the server answers 200: it listens already, and says 503 until its model is loaded.

        A server whose model cannot be loaded ends by itself.
        """
        deadline = time.monotonic() + self._settings.startup_timeout
        while (left := deadline - time.monotonic()) > 0:
            if is_ready(address, min(left, _ANSWERS_WITHIN)):
                self._is_in_service = True
                self._records.move(self._record_id, "InService", since=("Creating",))
                return
            time.sleep(_POLL)
        if not self._stopped_because:
            self._stopped_because = f"the model was not loaded within {self._settings.startup_timeout:g} s"
            # The main thread kills: `Popen.kill` looks whether the server has ended, and of two threads
            # that look, one sees nothing.
            self._kill_at = time.monotonic()
            os.kill(os.getpid(), signal.SIGCHLD)


if __name__ == "__main__":
    EndpointGuard(values.from_json(EndpointSettings, sys.argv[1])).run()
