"""The engine of a worker: one model on one thread, and the requests that wait for it.

Requests are handed to the model's thread in lots (all that became complete in one turn of the event
loop) and answers come back in lots, so that changing threads costs little where there is much to do;
and whatever the model does, the event loop is free to answer ``/ping``, to count and to time out.
"""

import asyncio
import contextlib
import enum
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

from modelyard.core.errors import said
from modelyard.core.http import Request, Response
from modelyard.core.log import get_logger
from modelyard.serving.errors import error_response, response_to
from modelyard.serving.model.batching import Batcher
from modelyard.serving.model.handler import LoadedModel
from modelyard.serving.settings import ServerSettings
from modelyard.serving.waiting import parking
from modelyard.serving.waiting.interruption import Interrupted, Interrupter

_IGNORES_INTERRUPTIONS = 1.0
"""Seconds after which a model that was told to stop is given up, with its process."""

_ANSWERS_WITHIN = 0.0005
"""Seconds that an answer may wait for those of the same lot to be sent with it."""

Step = Callable[[], object]

_log = get_logger(__name__)


class State(enum.StrEnum):
    """How an engine stands."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    """The model could not be loaded."""
    HUNG = "hung"
    """The model does not come back from a request; only the end of the process ends it."""
    LOST = "lost"
    """The device works no more for this process, whatever it is asked."""
    STOPPED = "stopped"


_OPEN = (State.LOADING, State.READY)
"""The states in which requests are taken."""


_EXCUSES = {
    State.LOADING: "the model is being loaded",
    State.FAILED: "the model could not be loaded; the endpoint's log says why",
    State.HUNG: "the model hangs, and is being started again",
    State.LOST: "the model's device has failed, and the model is being started again",
}


class Observer(Protocol):
    """What an engine tells of its work; `modelyard.serving.pages.metrics` counts it."""

    def observe(self, status: int, seconds: float) -> None:
        """Take notice of an answer."""

    def batch(self, size: int) -> None:
        """Take notice of a call of the model for so many requests."""


class _Job:
    """Something that the model's thread is to do: answer a request, or take a step of an answer.

    ``done``: called with the result on the event loop; None once that has happened.
    """

    __slots__ = ("began", "deadline", "done", "request", "step")

    def __init__(
        self, done: Callable[[Any], None], timeout: float, request: Request | None, step: Step | None = None
    ) -> None:
        self.began = time.monotonic()
        self.deadline = self.began + timeout
        self.done: Callable[[Any], None] | None = done
        self.request = request
        self.step = step

    def end(self, result: object) -> None:
        """Hand the result over, once."""
        if done := self.done:
            self.done = None
            done(result)


class Engine:
    """Loads a model on a thread of its own and answers requests on that thread.

    `load`: called on the thread, once; `settings`: its time-outs and how much may wait; `observer`: told
    of answers and batches.
    """

    def __init__(
        self, load: Callable[[], LoadedModel], settings: ServerSettings, observer: Observer | None = None
    ) -> None:
        self._load = load
        self._settings = settings
        self._observer = observer
        self._interrupter = Interrupter()
        self._stacks = parking.Stacks(self._interrupter)
        self.state = State.LOADING
        self.reason = "the model is being loaded"
        self.loaded: LoadedModel | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        # Owned by the event loop.
        self._jobs: dict[_Job, None] = {}
        self._lot: list[_Job] = []
        # Between the two: `deque` is safe for one that appends and one that takes.
        self._inbox: deque[_Job | None] = deque()
        self._outbox: deque[tuple[_Job, object]] = deque()
        # Owned by the thread, but for ringing.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ring: Callable[[], object] = lambda: self._bell.put(None)
        self._sent = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    # -- on the event loop ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, which loads the model first."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end once it has done what it was given."""
        self._inbox.append(None)
        self._ring()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; tell whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def excuse(self) -> str:
        """Why it cannot be asked, for clients: ``reason`` may say more than is theirs to know."""
        return _EXCUSES.get(self.state, "the server is ending")

    @property
    def in_flight(self) -> int:
        """How many requests wait or are being answered."""
        return len(self._jobs)

    def submit(self, request: Request, done: Callable[[Response], None]) -> None:
        """Answer a request: `done` is called with the response, whatever happens, in time."""
        if refused := self._refusal(request):
            if self._observer:
                self._observer.observe(refused.status, 0.0)
            done(refused)
        else:
            self._add(_Job(done, self._settings.request_timeout, request))

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request. Never raises."""
        future: asyncio.Future[Response] = self._loop.create_future()
        self.submit(request, partial(_resolve, future))
        return await future

    async def next_chunk(self, chunks: Iterator[bytes]) -> bytes | None:
        """Return the next piece of an answer, made on the model's thread; None at its end.

        Raises what the model raises, and ``TimeoutError``.
        """
        future: asyncio.Future[object] = self._loop.create_future()
        step = partial(next, chunks, None)
        self._add(_Job(partial(_resolve, future), self._settings.request_timeout, None, step))
        made = await future
        if isinstance(made, BaseException):
            raise made
        if isinstance(made, Response):
            raise TimeoutError(f"no piece within {self._settings.request_timeout:g} s")
        return cast("bytes | None", made)

    def close(self, chunks: Iterator[bytes]) -> None:
        """Let go of an answer, of which there may be more, on the thread on which it was made."""
        step = getattr(chunks, "close", lambda: None)
        self._add(_Job(lambda _: None, self._settings.request_timeout, None, step))

    def tick(self, now: float) -> None:
        """Answer those who have waited too long; to be called several times a second."""
        # The first has waited longest: all have the same time.
        while self._jobs and (job := next(iter(self._jobs))).deadline <= now:
            if self.state is State.LOADING:
                self._answer(job, 503, "loading", "the model is still being loaded: try again")
            else:
                said = f"no answer within {self._settings.request_timeout:g} s"
                self._answer(job, 504, "timeout", said)
        if self._interrupter.overdue(now) > _IGNORES_INTERRUPTIONS and self.state is State.READY:
            self.state, self.reason = State.HUNG, "the model does not come back from a request"
            self.answer_all("hung", self.excuse)

    def _refusal(self, request: Request) -> Response | None:
        if self.state not in _OPEN:
            return error_response(503, "unavailable", self.excuse, request.request_id, retry_after=1)
        if len(self._jobs) >= self._settings.max_queue:
            said = f"{len(self._jobs)} requests wait already: try again"
            return error_response(429, "queue_full", said, request.request_id, retry_after=1)
        return None

    def _add(self, job: _Job) -> None:
        self._jobs[job] = None
        self._lot.append(job)
        if len(self._lot) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._inbox.extend(self._lot)
        self._lot.clear()
        self._ring()

    def _take_back(self) -> None:
        outbox, jobs = self._outbox, self._jobs
        while outbox:
            job, result = outbox.popleft()
            if job in jobs:
                self._end(job, result)
            elif isinstance(result, Response) and result.chunks is not None:
                self.close(result.chunks)  # It comes too late.

    def _end(self, job: _Job, result: object) -> None:
        del self._jobs[job]
        if self._observer and job.request:
            self._observer.observe(getattr(result, "status", 500), time.monotonic() - job.began)
        job.end(result)

    def _answer(self, job: _Job, status: int, code: str, said: str) -> None:
        request_id = job.request.request_id if job.request else ""
        retry_after = 1 if status == 503 else None
        self._end(job, error_response(status, code, said, request_id, retry_after=retry_after))

    def answer_all(self, code: str, said: str) -> None:
        """Tell everybody who waits to come again, and why."""
        for job in tuple(self._jobs):
            self._answer(job, 503, code, said)

    # -- on the model's thread -----------------------------------------------------------------

    def _run(self) -> None:
        try:
            loaded = self._load()
        except BaseException as error:  # noqa: BLE001 - it may be anything of the user's
            _log.error("the model cannot be loaded", exc_info=error)
            self._become(State.FAILED, said(error))
            return
        self.loaded = loaded
        loaded.watch.on_loss = self._lose
        try:
            if loaded.is_async:
                self._turn_in_loop(loaded)
            else:
                self._become(State.READY)
                while self._turn(loaded):
                    self._rest(loaded.batcher)
        except BaseException:  # noqa: BLE001 - whatever it is, without this thread there is no model
            _log.error("the model's thread has failed", exc_info=True)
            self._become(State.HUNG, "the model's thread has failed")
        else:
            if loaded.watch.is_lost:
                self._become(State.LOST, "the device works no more")
            else:
                self._become(State.STOPPED, "the server ends")

    def _lose(self) -> None:
        """Begin nothing more: the turn that this happens in is the last one."""
        _log.error("the device works no more for this process, which is replaced")
        given, self._inbox = self._inbox, deque()
        given.clear()
        self._ring()  # Where a request has gone on by itself, there may be no turn.

    def _become(self, state: State, reason: str = "") -> None:
        def become() -> None:
            self.state, self.reason = state, reason
            if state in (State.FAILED, State.HUNG, State.LOST):
                self.answer_all("unavailable", self.excuse)

        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody asks any more.
            self._loop.call_soon_threadsafe(become)

    def _rest(self, batcher: Batcher | None) -> None:
        """Wait until there is something to do."""
        try:
            self._bell.get(timeout=batcher.due_in() if batcher else None)
            # One turn does everything: what has rung meanwhile needs none of its own.
            while True:
                self._bell.get_nowait()
        except queue.Empty:
            pass

    def _turn_in_loop(self, loaded: LoadedModel) -> None:
        """Do the same in an event loop, on which requests may wait."""
        loop, due = parking.own_loop(), False

        def soon() -> None:
            nonlocal due
            if not due:
                due = True
                loop.call_soon(turn)

        def turn() -> None:
            nonlocal due
            due = False
            if not self._turn(loaded):
                loop.stop()
            elif loaded.batcher and (seconds := loaded.batcher.due_in()) is not None:
                if self._alarm:
                    self._alarm.cancel()
                self._alarm = loop.call_later(seconds, turn)

        if loaded.batcher:
            loaded.batcher.on_wait = soon  # Also of a request that has waited for something else before.
        self._ring = lambda: loop.call_soon_threadsafe(turn)
        soon()
        self._become(State.READY)
        loop.run_forever()

    def _turn(self, loaded: LoadedModel) -> bool:
        """Do everything that there is to do now; tell whether more may come."""
        batcher, inbox = loaded.batcher, self._inbox
        goes_on = True
        self._sent = time.monotonic()
        while inbox:
            job = inbox.popleft()
            if job is None:
                goes_on = False
            elif job.done is None:
                pass  # Nobody waits for it any more.
            elif loaded.is_async or batcher:
                self._stacks.run(partial(self._do, job, loaded), job.deadline)
                if batcher and batcher.is_full:
                    self._run_batch(batcher)
            else:
                try:  # noqa: SIM105 - `suppress` takes as long as all else around a request
                    self._interrupter.within(job.deadline, self._do, job, loaded)
                except Interrupted:
                    pass  # It came when the work was done.
        while batcher and batcher.due_in() == 0 and not loaded.watch.is_lost:
            self._run_batch(batcher)
        self._send()
        return goes_on and not loaded.watch.is_lost

    def _run_batch(self, batcher: Batcher) -> None:
        if self._observer:
            self._observer.batch(batcher.next_size)  # Before any of it is answered.
        batcher.run(self._interrupter)
        self._send()

    def _do(self, job: _Job, loaded: LoadedModel) -> None:
        """Do one job, and see that its result is sent."""
        result: object
        try:
            result = loaded.handler(job.request) if job.request else cast("Step", job.step)()
        except BaseException as error:  # noqa: BLE001 - what comes out of a step, and `Interrupted`
            result = response_to(error, job.request.request_id) if job.request else error
            loaded.watch.failed(error)
        self._outbox.append((job, result))
        if loaded.is_async:
            if len(self._outbox) == 1:
                parking.own_loop().call_soon(self._send)
        elif time.monotonic() - self._sent > _ANSWERS_WITHIN:
            self._send()

    def _send(self) -> None:
        if self._outbox:
            self._sent = time.monotonic()
            with contextlib.suppress(RuntimeError):  # As above.
                self._loop.call_soon_threadsafe(self._take_back)


def _resolve(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)
