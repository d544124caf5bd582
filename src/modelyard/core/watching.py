"""Import a third party's plugin under watch: a slow, loud or meddling one is named and harms nobody.

What no watch can help against: ``os._exit`` and a crash of the interpreter, and output that is written
to the file descriptor of stdout and not through `sys.stdout`.
"""

import io
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from modelyard.core.patches import Attributes
from modelyard.core.statuses import PluginStatus

SLOW = 1.0
"""Seconds after which an import is worth a note."""
HANGING = 5.0
"""Seconds after which a warning names the plugin that is being imported."""

_OUTPUT = ("buffer", "write", "writelines")

clock = time.perf_counter

_past: WeakKeyDictionary[ModuleType, dict[tuple[str, str], tuple[tuple[str, ...], float]]] = (
    WeakKeyDictionary()
)
"""Notes and seconds, by package, then by plugin and what it did: a module is imported once in a process."""


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
        self._attributes = Attributes()
        self._alarm = threading.Timer(HANGING, _warn, (self._status, self._doing))
        self._alarm.daemon = True
        self._alarm.start()
        self._aside = _Aside(sys.stdout)
        sys.stdout = self._aside
        self._started = clock()

    def __exit__(self, *_error: object) -> None:
        notes = self._attributes.put_back(self._package)
        seconds = clock() - self._started
        notes += tuple(self._give_stdout_back())
        self._alarm.cancel()
        self._alarm.join(HANGING)
        if seconds >= SLOW:
            notes += (f"{self._doing} takes {seconds:.1f} s",)
        self._take_down(notes, seconds)

    def _give_stdout_back(self) -> Iterator[str]:
        aside = self._aside
        aside.over = True
        if not isinstance(sys.stdout, _Aside):
            yield "replaces sys.stdout, which was undone"
        # Of another thread's it is put back when that ends.
        if sys.stdout is aside or not isinstance(sys.stdout, _Aside):
            sys.stdout = aside.beneath()
        if aside.used:
            yield "prints to stdout, which went to stderr"

    def _take_down(self, notes: tuple[str, ...], seconds: float) -> None:
        """Note what was odd, now or when another manager of this process did the same before."""
        module = sys.modules.get(self._package)
        past = {} if module is None else _past.setdefault(module, {})
        first, _ = past.setdefault((self._status.plugin, self._doing), (notes, seconds))
        for note in first:
            self._status.note(note)
        self._status.seconds = sum(
            took for (name, _), (_, took) in past.items() if name == self._status.plugin
        )


def _warn(status: PluginStatus, doing: str) -> None:
    """Say which plugin hangs, even where nobody listens to modelyard's log."""
    # Not through logging, whose import would wait if it is what the plugin hangs in.
    sys.stderr.write(
        f"modelyard: plugin {status.plugin!r} ({status.source}): its {doing} has not ended after "
        f"{HANGING:g} s; MODELYARD_PLUGINS_DISABLED={status.plugin} leaves it out\n"
    )
    sys.stderr.flush()


class _Aside:
    """Stands in for stdout: what its own thread writes goes to stderr until it is over.

    Who keeps it (a handler of a log, say) goes on writing to stdout through it.
    """

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout
        self._thread = threading.get_ident()
        self.over = False
        self.used = False

    def __getattr__(self, name: str) -> Any:
        # A program may have neither stream.
        if self.over or threading.get_ident() != self._thread:
            return getattr(self._stdout or io.StringIO(), name)
        self.used = self.used or name in _OUTPUT
        return getattr(sys.stderr or io.StringIO(), name)

    def beneath(self) -> Any:
        """Return the stdout that was there before it, and before those that are over."""
        stdout = self._stdout
        while isinstance(stdout, _Aside) and stdout.over:
            stdout = stdout.beneath()
        return stdout
