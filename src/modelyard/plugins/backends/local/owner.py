"""A client's hold on what it started: a pipe per guard, whose end tells the guard of the client's.

A client that ends in good order writes a byte first, and the work goes on without it, as it would
on SageMaker; one that is killed cannot, and the guard ends the work.
"""

import atexit
import contextlib
import itertools
import os
import sys

from modelyard.plugins.backends.local.guard import DETACH

# By a number of our own: that of a descriptor is used again as soon as it is closed.
_held: dict[int, int] = {}
_numbers = itertools.count()


def _close_in_child() -> None:
    """Let go in a forked child, which would keep the pipe open after the client's death."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_close_in_child)


@atexit.register
def _detach_all() -> None:
    for number in tuple(_held):
        release(number)


def hold() -> tuple[int, int]:
    """Return the guard's end of a new pipe, and the number of this process's hold on the other."""
    theirs, ours = os.pipe()
    number = next(_numbers)
    _held[number] = ours
    # A worker of multiprocessing that ends in good order runs its own finalizers, and not atexit's.
    if multiprocessing := sys.modules.get("multiprocessing.util"):
        multiprocessing.Finalize(None, _detach_all, exitpriority=0)
    return theirs, number


def release(number: int) -> None:
    """Let go in good order; does nothing the second time."""
    descriptor = _held.pop(number, -1)
    if descriptor >= 0:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, DETACH)
        os.close(descriptor)
