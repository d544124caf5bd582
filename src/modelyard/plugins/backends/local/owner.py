"""A client's hold on what it started: a pipe per guard, whose end tells the guard of the client's.

A client that ends in good order writes a byte first, and the work goes on without it, as it would
on SageMaker; one that is killed cannot, and the guard ends the work.
"""

import atexit
import contextlib
import os

from modelyard.plugins.backends.local.guard import DETACH

_held: set[int] = set()


def _close_in_child() -> None:
    """Let go in a forked child, which would keep the pipe open after the client's death."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)


@atexit.register
def _detach_all() -> None:
    for descriptor in tuple(_held):
        release(descriptor)


def hold() -> tuple[int, int]:
    """Return a new pipe: the guard's end, and the end that this process holds."""
    theirs, ours = os.pipe()
    _held.add(ours)
    return theirs, ours


def release(descriptor: int) -> None:
    """Let go in good order; does nothing the second time."""
    if descriptor in _held:
        _held.discard(descriptor)
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, DETACH)
        os.close(descriptor)
