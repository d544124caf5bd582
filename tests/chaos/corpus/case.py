"""What a corpus is made of."""

import attrs
from tests.chaos.wire import post

OK = frozenset({200})
BAD = frozenset({400})
EITHER = frozenset({200, 400})
"""Both are right: the standard leaves it open, or it is a matter of taste."""


@attrs.frozen
class Case:
    """One request, and what may come of it.

    ``request``: bytes, or a list of bytes that are sent one by one; ``want``: the statuses that are right;
    ``ends``: the client closes its half after it; ``answers``: how many there may be; ``slow``: takes
    more than a moment, so that the default tests leave it out.
    """

    group: str
    name: str
    request: object
    want: frozenset[int]
    ends: bool = False
    answers: int = 1
    slow: bool = False

    def __str__(self):
        return f"{self.group}: {self.name}"


def bodies(group, content_type, table, accept=None):
    """Return the cases of a table: name, body and what is right, all of one content type."""
    return [
        Case(group, name, post(body, content_type, accept or content_type), frozenset(want),
             slow=len(body) > 300_000)
        for name, body, want in table
    ]  # fmt: skip
