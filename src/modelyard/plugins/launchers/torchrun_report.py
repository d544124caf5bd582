"""What ``torchrun`` reports at its end: which processes failed, in the words of torch 2.6 to 2.13."""

import re
import signal
from collections.abc import Iterable
from typing import NamedTuple

from modelyard.core.contracts import RankFailure

_HEADING = "\nRoot Cause (first observed failure):\n"
_FAILURE = re.compile(
    r"^ +time +: (?P<time>\S+)\n"
    r" +host +: .*\n"
    r" +rank +: (?P<rank>\d+) .*\n"
    r" +exitcode +: (?P<status>-?\d+) ",
    re.MULTILINE,
)

_STRUCK = {-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
"""How a process ends from no other's failure: one that lost its peer raises, or aborts."""

_RAISED = 1
"""Python's exit code after an exception."""


class _Entry(NamedTuple):
    time: str
    failure: RankFailure


def first_failure(stderr: str) -> RankFailure | None:
    """Return the failure that came first; None without a report, or where it cannot tell.

    ``torchrun`` looks every 100 ms, and calls the lowest rank of those that have failed by then the
    root cause. Those are more than one where the others lost a peer. The first is then the one that
    was killed; of several that raised, their tracebacks tell more. All may also have ended alike, as
    for an argument that none of them knows.
    """
    before, heading, root = stderr.rpartition(_HEADING)
    if not heading:
        return None
    entries = [*_entries(before.rpartition("\nFailures:\n")[2]), *_entries(root)]
    # Those that still ran it ended itself: with SIGTERM and, 30 s later, with SIGKILL.
    first = min((entry.time for entry in entries), default="")
    seen = [entry.failure for entry in entries if entry.time == first]
    own = [failure for failure in seen if failure.status != -signal.SIGTERM] or seen[-1:]
    struck = [failure for failure in own if failure.status in _STRUCK]
    if len(own) > 1 and own[0].status != _RAISED and len({failure.status for failure in own}) == 1:
        return min(own, key=lambda failure: failure.rank)
    return next((found[0] for found in (struck, own) if len(found) == 1), None)


def _entries(report: str) -> Iterable[_Entry]:
    for found in _FAILURE.finditer(report):
        yield _Entry(found["time"], RankFailure(int(found["rank"]), int(found["status"])))
