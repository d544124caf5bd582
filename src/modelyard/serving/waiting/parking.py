"""Waiting inside a request without holding up the thread that all requests share.

A request that waits (for an ``async def`` of the user's, for the others of its batch) is parked: it
runs in a greenlet, a stack of its own on the same thread, and the thread goes on with the next one.
So whatever is around a wait, middleware included, stays a plain function.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

from modelyard.serving.waiting.interruption import Interrupted, Interrupter

T = TypeVar("T")

_own = threading.local()


class Stack(greenlet):
    """What one request runs on. ``deadline``: of that request, by the monotonic clock."""

    deadline: float = math.inf
    interrupter: Interrupter

    def go_on(self, value: object = None) -> None:
        """Let it run until it ends or is parked."""
        # What interrupts it may come when its work is done: then only the stack is lost.
        with contextlib.suppress(Interrupted):
            self.interrupter.within(self.deadline, self.switch, value)


class Stacks:
    """Runs functions on the calling thread, each on a stack of its own, on which it may `park`.

    They are made once and used again: making one takes longer than many a model.
    """

    def __init__(self, interrupter: Interrupter) -> None:
        self._interrupter = interrupter
        self._idle: list[Stack] = []

    def run(self, function: Callable[[], object], deadline: float) -> None:
        """Call `function`, and return once it has ended or is parked. It must not raise."""
        stack = self._idle.pop() if self._idle else self._made()
        while stack.dead:  # Interrupted when it had nothing to do any more.
            stack = self._idle.pop() if self._idle else self._made()
        stack.deadline = deadline
        stack.go_on(function)

    def _made(self) -> Stack:
        stack = Stack(self._work)
        stack.interrupter = self._interrupter
        return stack

    def _work(self, function: Callable[[], object]) -> None:
        me = current()
        assert me is not None  # noqa: S101 - it runs nowhere else
        while True:
            function()
            self._idle.append(me)
            function = park()


def current() -> Stack | None:
    """Return the stack that the caller runs on; None where it cannot be parked."""
    stack = getcurrent()
    return stack if isinstance(stack, Stack) else None


def park() -> Any:
    """Give the thread back until somebody lets this stack go on; return what it is handed."""
    return cast("greenlet", getcurrent().parent).switch()


def wait(awaitable: Awaitable[T]) -> T:
    """Return what `awaitable` gives; other requests go on meanwhile.

    Raises `Interrupted` once the request's deadline is over, and cancels what it waited for.
    """
    stack = current()
    if stack is None:  # There is nothing else to go on with.
        return own_loop().run_until_complete(_awaited(awaitable))
    task = asyncio.ensure_future(_awaited(awaitable))
    task.add_done_callback(lambda _: stack.go_on())
    limit = None
    if stack.deadline < math.inf:
        limit = task.get_loop().call_later(max(0.0, stack.deadline - time.monotonic()), task.cancel)
    park()
    if limit is not None:
        limit.cancel()
    if task.cancelled():
        raise Interrupted
    return task.result()


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield what an asynchronous iterator gives; other requests go on while it makes the next."""
    while True:
        try:
            item = wait(anext(items))
        except StopAsyncIteration:
            return
        yield item


def own_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this thread's async functions: one for as long as the thread lives.

    What an ``async def model_fn`` has opened is bound to its loop, and used by later functions.
    """
    loop: asyncio.AbstractEventLoop | None = getattr(_own, "loop", None)
    if loop is None:
        loop = _own.loop = asyncio.new_event_loop()
    return loop


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
