"""Import a third party's plugin under watch: a slow, loud or meddling one is named and harms nobody.

What no watch can help against is in ``docs/reference/hooks.md``.
"""

import io
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from modelyard.core.patches import DOUBTFUL, UNDONE, Snapshot, is_from
from modelyard.core.statuses import PluginStatus

SLOW = 1.0
"""Seconds after which an import is worth a note."""
HANGING = 5.0
"""Seconds after which a warning names the plugin that is being imported."""

_OUTPUT = ("buffer", "write", "writelines")

clock = time.perf_counter

_past: dict[tuple[str, str, str], tuple[object, tuple[str, ...], float]] = {}
"""Top-level module, notes and seconds, by package, plugin and what it did: a module is imported once."""
_lock = threading.RLock()
"""Held by who changes `sys.stdout` or `_past`; never while code of a plugin runs."""


class Watch:
    """A watch over code of a plugin, which takes down in the plugin's `status` what is odd about it.

    Its output goes to stderr, what it replaces of others' is put back, and if it does not end, a warning
    says so. ``package``: the plugin's own top-level package; ``doing``: what is watched, in a word.
    """

    # A class, since what makes a context of a generator calls built-ins: they may be replaced at the end.

    def __init__(self, status: PluginStatus, package: str, doing: str = "import") -> None:
        self._status = status
        self._package = package
        self._doing = doing

    def __enter__(self) -> None:
        self._alone = _is_alone()
        self._attributes = Snapshot()
        self._alarm = _Alarm(self._status, self._doing)
        self._alarm.start()
        with _lock:
            self._stand_in = _StandIn(_without_those_that_are_over(sys.stdout))
            sys.stdout = self._stand_in
        self._started = clock()

    def __exit__(self, *_error: object) -> None:
        seconds = clock() - self._started
        # Each in its turn, whatever the plugin has done to what the one before it calls.
        try:
            try:
                notes = self._attributes.put_back(self._package, alone=self._alone)
            finally:
                printed = self._give_stdout_back()
        finally:
            self._alarm.stop()
        self._take_down((*notes, *printed), seconds)

    def _give_stdout_back(self) -> list[str]:
        self._stand_in.over = True
        notes = []
        with _lock:
            now = getattr(sys, "stdout", None)  # It may even be deleted.
            if isinstance(now, _StandIn):
                # Of another thread's it is put back when that ends.
                sys.stdout = _without_those_that_are_over(now)
            elif self._alone or is_from(now, self._package):
                sys.stdout = _without_those_that_are_over(self._stand_in)
                notes.append(f"replaces sys.stdout, {UNDONE}")
            else:
                notes.append(f"replaces sys.stdout, {DOUBTFUL}")
        if self._stand_in.used:
            notes.append("prints to stdout, which went to stderr")
        return notes

    def _take_down(self, notes: tuple[str, ...], seconds: float) -> None:
        """Note what was odd, now or when another manager of this process did the same before or meanwhile."""
        plugin, module = self._status.plugin, sys.modules.get(self._package)
        key = (self._package, plugin, self._doing)
        with _lock:
            whose, before, longest = _past.get(key, (None, (), 0.0))
            if whose is module is not None:
                notes, seconds = tuple(dict.fromkeys((*before, *notes))), max(longest, seconds)
            _past[key] = (module, notes, seconds)
            self._status.seconds = sum(
                took
                for (package, name, _), (whose, _, took) in _past.items()
                if (package, name) == key[:2] and whose is module
            )
        for note in notes:
            self._status.note(note)
        if seconds >= SLOW:
            self._status.note(f"{self._doing} takes {seconds:.1f} s")


def _is_alone() -> bool:
    """Tell whether no other thread runs. Those that start from now on are the watched code's."""
    me = threading.current_thread()
    return all(thread is me or isinstance(thread, _Alarm) for thread in threading.enumerate())


class _Alarm(threading.Timer):
    """A warning to come, unless it is stopped: it says which plugin hangs."""

    def __init__(self, status: PluginStatus, doing: str) -> None:
        super().__init__(HANGING, _warn, (status, doing))
        self.daemon = True

    def start(self) -> None:
        """Start, where a thread can be started: while an interpreter exits, none can."""
        with suppress(RuntimeError):
            super().start()

    def stop(self) -> None:
        """See to it that the warning does not come any more."""
        self.cancel()
        if self.is_alive():
            self.join(HANGING)


def _warn(status: PluginStatus, doing: str) -> None:
    """Say which plugin hangs, even where nobody listens to modelyard's log."""
    # Not through logging, whose import would wait if it is what the plugin hangs in.
    sys.stderr.write(
        f"modelyard: plugin {status.plugin!r} ({status.source}): its {doing} has not ended after "
        f"{HANGING:g} s; MODELYARD_PLUGINS_DISABLED={status.plugin} leaves it out\n"
    )
    sys.stderr.flush()


class _StandIn:
    """Stands in for stdout: what its own thread writes goes to stderr until it is over.

    Who keeps it (a handler of a log, say) goes on writing to stdout through it.
    """

    def __init__(self, stdout: Any) -> None:
        self.stdout = stdout
        self.over = False
        self.used = False
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # Python asks for these, of a copy that has no attribute yet too.
        # A program may have neither stream.
        if self.over or threading.get_ident() != self._thread:
            return getattr(self.stdout or io.StringIO(), name)
        self.used = self.used or name in _OUTPUT
        return getattr(sys.stderr or io.StringIO(), name)


def _without_those_that_are_over(stdout: Any) -> Any:
    while isinstance(stdout, _StandIn) and stdout.over:
        stdout = stdout.stdout
    return stdout
