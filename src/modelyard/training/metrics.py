"""The numbers that a job's log shows, found line by line and kept for `modelyard.core.metrics.read`."""

import contextlib
import json
import math
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from modelyard.core.plans import MetricDefinition

_LIMIT_SECONDS = 1.0
"""Seconds of the CPU that one expression may take for one read of the log, some thousand lines at most."""


class _TooSlowError(Exception):
    """An expression has used up its time."""


class Recorder:
    """Searches lines for metrics and appends what it finds to a file.

    An expression that takes too long, as nested repetitions do, is not tried again. For the main
    thread only: the time is kept by SIGVTALRM, and is that of this process's CPU: a busy machine costs none.
    """

    def __init__(self, definitions: Iterable[MetricDefinition], path: Path, host: str) -> None:
        self._patterns = {definition: re.compile(definition.regex) for definition in definitions}
        self._path = path
        self._host = host

    def search(self, block: bytes) -> str:
        """Search whole lines; return what there is to say of expressions that are given up."""
        lines = block.decode("utf-8", "replace").split("\n")
        now, found, said = time.time(), list[str](), ""
        for definition, pattern in tuple(self._patterns.items()):
            try:
                with _time_limit(_LIMIT_SECONDS):
                    values = _values(pattern, lines)
            except _TooSlowError:
                del self._patterns[definition]
                said += f"metric {definition.name!r} is given up: {definition.regex!r} takes too long\n"
            else:
                found += self._entries(definition.name, values, now)
        self._append("".join(found))
        return said

    def _entries(self, name: str, values: Sequence[float], now: float) -> Iterator[str]:
        # What all have in common is made once: a log may hold a value in each of a million lines.
        rest = json.dumps({"name": name, "time": now, "host": self._host})[1:]
        return (f'{{"value": {value!r}, {rest}\n' for value in values)

    def _append(self, text: str) -> None:
        # A full disk costs the metrics, and not the job.
        if text:
            with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
                file.write(text.encode())


def _values(pattern: re.Pattern[str], lines: Sequence[str]) -> Sequence[float]:
    matches = filter(None, map(pattern.search, lines))
    return [value for match in matches if math.isfinite(value := _number(match[1]))]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooSlowError` in the block once `seconds` are over: `re` looks for signals as it searches."""

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlowError

    previous = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
