"""How much of its clients' bodies a worker holds, on all of its connections together."""

from modelyard.serving.http.framing import RefusedError

UNCOUNTED = 64 * 1024
"""Bytes of a body that need no share: with as many connections as there can be, they are not much."""


class Budget:
    """So many bytes may be held at once. ``held``: so many are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class Share:
    """What one request has of a budget, from its head until it is answered or dropped."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def grow(self, size: int) -> None:
        """Have `size` bytes in all, if it is less. Raises `RefusedError` where that is more than is left."""
        budget, more = self._budget, size - self._size
        if more <= 0:
            return
        if budget.held + more > budget.limit:
            said = "the server holds as much of other requests as it may: try again"
            raise RefusedError(503, "busy", said, retry_after=1)
        budget.held += more
        self._size = size

    def give_back(self) -> None:
        """Have nothing any more; to do so twice is to do so once."""
        self._budget.held -= self._size
        self._size = 0
