"""When a worker that has died is replaced: at once, unless deaths follow each other quickly."""

_DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_SETTLED_SECONDS = 1.0


class BackOff:
    """Counts deaths in quick succession. Times are those of the monotonic clock."""

    def __init__(self) -> None:
        self._streak = 0
        self._not_before = 0.0

    def died(self, now: float, served: float) -> None:
        """Take notice of a death; `served`: seconds for which the worker had been ready, 0 if never."""
        if served >= _SETTLED_SECONDS:
            self._streak = 0
        if now >= self._not_before:  # Those that die together are one failure.
            self._not_before = now + _DELAYS[min(self._streak, len(_DELAYS) - 1)]
            self._streak += 1

    def permits(self, now: float) -> bool:
        """Tell whether a worker may be started."""
        return now >= self._not_before
