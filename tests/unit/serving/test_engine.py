"""The engine: one model on one thread, and the requests that wait for it."""

import asyncio
import logging
import threading
import time

import pytest

from modelyard.core.codecs import CodecTable
from modelyard.core.errors import DecodeError, UserCodeError
from modelyard.core.http import Request, Response
from modelyard.serving.engine import Engine, State
from modelyard.serving.errors import DeviceWatch, answering
from modelyard.serving.model.batching import Batcher
from modelyard.serving.model.handler import LoadedModel
from modelyard.serving.settings import ServerSettings
from modelyard.serving.waiting import parking

PATIENCE = 20.0


class Observed:
    def __init__(self):
        self.statuses = []
        self.batches = []

    def observe(self, status, seconds):
        assert seconds >= 0
        self.statuses.append(status)

    def batch(self, size):
        self.batches.append(size)


@pytest.fixture
def run():
    """Run `use(engine)` on an event loop, with an engine whose model is `handler`."""
    engines = []

    def make(handler, use, *, load=None, observer=None, batcher=None, is_async=False, **settings):
        loaded = LoadedModel(answering(handler), CodecTable({}), is_async, batcher)

        async def main():
            engine = Engine(load or (lambda: loaded), ServerSettings(**settings), observer)
            engines.append(engine)
            engine.start()
            try:
                return await asyncio.wait_for(use(engine), PATIENCE)
            finally:
                engine.stop()

        return asyncio.run(main())

    yield make
    for engine in engines:
        assert engine.join(PATIENCE)


async def until(condition, engine=None):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
        if engine:
            engine.tick(time.monotonic())


async def hurried(engine, request, seconds=0.1):
    """Have a request answered that has less time than the others: so many seconds."""
    answer = asyncio.ensure_future(engine.handle(request))
    await asyncio.sleep(0)  # It has been submitted, and the model's thread does not know it yet.
    job = next(reversed(engine._jobs))
    assert job.request is request
    assert not engine._inbox
    job.deadline = time.monotonic() + seconds
    return answer


def echo(request):
    return Response(request.body)


def code(response):
    return response.status, response.body.decode().partition('"code": "')[2].partition('"')[0]


def test_many_requests_are_answered_each_with_its_own(run):
    async def use(engine):
        return await asyncio.gather(*(engine.handle(Request(b"%d" % n)) for n in range(500)))

    observer = Observed()
    answers = run(echo, use, observer=observer)
    assert [answer.body for answer in answers] == [b"%d" % n for n in range(500)]
    assert observer.statuses == [200] * 500


def test_all_is_done_on_the_thread_that_loads(run):
    seen = set()

    def load():
        seen.add(threading.get_ident())
        return LoadedModel(handler, CodecTable({}))

    def handler(request):
        seen.add(threading.get_ident())
        return Response(b"", chunks=iter(pieces()))

    def pieces():
        seen.add(threading.get_ident())
        yield b"a"

    async def use(engine):
        answer = await engine.handle(Request(b""))
        assert await engine.next_chunk(answer.chunks) == b"a"
        assert await engine.next_chunk(answer.chunks) is None

    run(None, use, load=load)
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_requests_wait_for_the_model_to_be_loaded(run):
    release = threading.Event()

    def load():
        assert release.wait(PATIENCE)
        return LoadedModel(echo, CodecTable({}))

    async def use(engine):
        waiting = asyncio.ensure_future(engine.handle(Request(b"early")))
        await asyncio.sleep(0)
        assert (engine.state, engine.in_flight) == (State.LOADING, 1)
        release.set()
        answer = await waiting
        assert (engine.state, engine.in_flight) == (State.READY, 0)
        return answer

    assert run(None, use, load=load).body == b"early"


def test_who_waits_too_long_for_the_model_is_told_to_come_again(run):
    release = threading.Event()

    def load():
        assert release.wait(PATIENCE)
        return LoadedModel(echo, CodecTable({}))

    async def use(engine):
        waiting = asyncio.ensure_future(engine.handle(Request(b"")))
        await until(waiting.done, engine)
        release.set()
        return waiting.result()

    answer = run(None, use, load=load, request_timeout=0.05)
    assert code(answer) == (503, "loading")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserCodeError("model_fn raised OSError"), "model_fn raised OSError"),
        (ZeroDivisionError("no"), "ZeroDivisionError: no"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_model_that_cannot_be_loaded(run, caplog, error, reason):
    def load():
        raise error

    async def use(engine):
        waiting = asyncio.ensure_future(engine.handle(Request(b"")))
        early = await waiting
        await until(lambda: engine.state is State.FAILED)
        assert engine.reason == reason
        return early, await engine.handle(Request(b""))

    with caplog.at_level(logging.ERROR, "modelyard"):
        answers = run(None, use, load=load)
    assert [code(answer) for answer in answers] == [(503, "unavailable")] * 2
    assert "the model cannot be loaded" in caplog.text


def test_more_than_the_queue_holds_are_refused(run):
    release = threading.Event()

    def handler(request):
        assert release.wait(PATIENCE)
        return Response(b"")

    async def use(engine):
        held = [asyncio.ensure_future(engine.handle(Request(b""))) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await engine.handle(Request(b"", request_id="id-9"))
        release.set()
        return refused, await asyncio.gather(*held)

    observer = Observed()
    refused, held = run(handler, use, max_queue=3, observer=observer)
    assert observer.statuses == [429, 200, 200, 200]
    assert code(refused) == (429, "queue_full")
    assert refused.headers["retry-after"] == "1"
    assert b"id-9" in refused.body
    assert [answer.status for answer in held] == [200] * 3


def loop_for_ever(request):
    while request.body == b"for ever":
        pass
    return Response(request.body)


def test_a_request_that_takes_too_long_is_ended_and_harms_no_other(run, caplog):
    async def use(engine):
        slow = await hurried(engine, Request(b"for ever"))
        behind = asyncio.ensure_future(engine.handle(Request(b"behind")))
        await until(lambda: slow.done() and behind.done(), engine)
        assert engine.state is State.READY
        return slow.result(), behind.result()

    slow, behind = run(loop_for_ever, use)
    assert code(slow) == (504, "timeout")
    assert behind.body == b"behind"


def test_a_model_that_swallows_every_exception_is_ended_all_the_same(run):
    def handler(request):
        while request.body == b"for ever":
            try:
                time.sleep(0.001)
            except Exception:  # noqa: BLE001 - that is the point
                continue
        return Response(request.body)

    async def use(engine):
        slow = asyncio.ensure_future(engine.handle(Request(b"for ever")))
        await until(slow.done, engine)
        return await engine.handle(Request(b"next"))

    assert run(handler, use, request_timeout=0.2).body == b"next"


def test_a_model_that_does_not_come_back_is_given_up(run):
    begun, release = threading.Event(), threading.Event()

    def handler(request):
        begun.set()
        release.wait(PATIENCE)  # In one call, into which nothing can be raised.
        return Response(b"")

    async def use(engine):
        stuck = await hurried(engine, Request(b""), seconds=0)
        await until(begun.is_set)
        now = time.monotonic()
        engine.tick(now)
        behind = asyncio.ensure_future(engine.handle(Request(b"")))
        await asyncio.sleep(0)
        engine.tick(now + 0.9)
        assert engine.state is State.READY
        engine.tick(now + 1.1)
        answers = await stuck, await behind, await engine.handle(Request(b""))
        assert engine.state is State.HUNG
        release.set()
        return answers

    answers = run(handler, use)
    assert [code(answer) for answer in answers] == [(504, "timeout"), (503, "hung"), (503, "unavailable")]


def test_what_was_given_up_in_the_queue_is_not_done(run):
    done = []
    release = threading.Event()

    def handler(request):
        done.append(request.body)
        assert release.wait(PATIENCE)
        return Response(b"")

    async def use(engine):
        first = asyncio.ensure_future(engine.handle(Request(b"first")))
        await until(lambda: done)
        second = asyncio.ensure_future(engine.handle(Request(b"second")))
        await asyncio.sleep(0)
        engine.tick(time.monotonic() + 1000)
        assert [code(await first), code(await second)] == [(504, "timeout")] * 2
        release.set()
        third = asyncio.ensure_future(engine.handle(Request(b"third")))
        await third

    run(handler, use, request_timeout=500)
    assert done == [b"first", b"third"]


def test_a_stream_raises_what_its_generator_raises(run):
    def pieces():
        yield b"a"
        raise ZeroDivisionError

    async def use(engine):
        answer = await engine.handle(Request(b""))
        assert await engine.next_chunk(answer.chunks) == b"a"
        with pytest.raises(ZeroDivisionError):
            await engine.next_chunk(answer.chunks)

    run(lambda request: Response(b"", chunks=pieces()), use)


def test_a_stream_that_stalls_times_out(run):
    def pieces():
        while True:
            time.sleep(0.001)
        yield b""

    async def use(engine):
        answer = await engine.handle(Request(b""))
        waiting = asyncio.ensure_future(engine.next_chunk(answer.chunks))
        await until(waiting.done, engine)
        with pytest.raises(TimeoutError):
            waiting.result()
        engine.close(answer.chunks)
        return await engine.handle(Request(b""))

    assert run(lambda request: Response(b"", chunks=pieces()), use, request_timeout=0.1).status == 200


def test_a_stream_that_is_closed_is_closed_on_the_models_thread(run):
    closed = []

    def pieces():
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(threading.current_thread().name)

    async def use(engine):
        answer = await engine.handle(Request(b""))
        await engine.next_chunk(answer.chunks)
        engine.close(answer.chunks)
        await until(lambda: closed)

    run(lambda request: Response(b"", chunks=pieces()), use)
    assert closed == ["model"]


def test_what_kept_the_model_from_being_loaded_is_not_for_clients(run, caplog):
    def load():
        raise UserCodeError("model_fn raised FileNotFoundError: '/secret/weights.bin'")

    async def use(engine):
        early = await engine.handle(Request(b""))
        return early, await engine.handle(Request(b""))

    for answer in run(None, use, load=load):
        assert b"/secret" not in answer.body
        assert b"log says why" in answer.body


def test_an_answer_in_pieces_that_comes_too_late_is_closed_on_the_models_thread(run):
    closed = []
    begun, release = threading.Event(), threading.Event()

    def pieces():
        try:
            yield b"a"
        finally:
            closed.append(threading.current_thread().name)

    def handler(request):
        made = pieces()
        next(made)
        begun.set()
        release.wait(PATIENCE)
        return Response(b"", chunks=made)

    async def use(engine):
        slow = asyncio.ensure_future(engine.handle(Request(b"")))
        await until(begun.is_set)
        engine._end(next(iter(engine._jobs)), Response(b"", status=504))
        release.set()
        await until(lambda: closed)
        return slow.result()

    assert run(handler, use).status == 504
    assert closed == ["model"]


def test_a_thread_that_fails_is_given_up(run, caplog):
    def fail(loaded):
        raise MemoryError

    async def use(engine):
        await until(lambda: engine.state is State.READY)
        await engine.handle(Request(b""))  # Which the thread has done, and waits.
        engine._turn = fail
        answer = await engine.handle(Request(b""))
        await until(lambda: engine.state is State.HUNG)
        return answer

    assert code(run(echo, use)) == (503, "unavailable")
    assert "the model's thread has failed" in caplog.text


# -- requests that wait ------------------------------------------------------------------------


def test_while_one_request_waits_others_go_on(run):
    event = []

    async def waiting():
        while not event:
            await asyncio.sleep(0.001)

    def handler(request):
        if request.body == b"wait":
            parking.wait(waiting())
        else:
            event.append(1)
        return Response(request.body)

    async def use(engine):
        return await asyncio.gather(*(engine.handle(Request(body)) for body in (b"wait", b"wait", b"go")))

    assert [a.body for a in run(handler, use, is_async=True)] == [b"wait", b"wait", b"go"]


def test_a_wait_that_takes_too_long_is_cancelled(run):
    cancelled = []

    async def for_ever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    def handler(request):
        parking.wait(for_ever())
        return Response(b"")

    async def use(engine):
        slow = asyncio.ensure_future(engine.handle(Request(b"")))
        await until(lambda: slow.done() and cancelled, engine)
        return slow.result()

    assert code(run(handler, use, is_async=True, request_timeout=0.1)) == (504, "timeout")


def test_what_a_wait_raises_is_raised_in_the_request(run, caplog):
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def use(engine):
        return await engine.handle(Request(b""))

    assert code(run(lambda request: parking.wait(fail()), use, is_async=True)) == (500, "model_error")


def test_the_loop_of_model_fn_is_that_of_the_requests(run):
    loops = set()

    async def note():
        loops.add(id(asyncio.get_running_loop()))

    def load():
        parking.wait(note())
        return LoadedModel(handler, CodecTable({}), is_async=True)

    def handler(request):
        parking.wait(note())
        return Response(b"")

    async def use(engine):
        await engine.handle(Request(b""))

    run(None, use, load=load)
    assert len(loops) == 1


# -- batches -----------------------------------------------------------------------------------


class Doubler:
    """A model that doubles numbers, and keeps what it was asked at once."""

    def __init__(self, size, delay=0.0, *, hold=None):
        self.calls = []
        self.hold = hold
        self.batcher = Batcher(self.one, self.many, size=size, delay=delay)

    def one(self, value, context):
        return self.many([value], [context])[0]

    def many(self, values, contexts):
        self.calls.append(tuple(values))
        if self.hold and len(self.calls) == 1:
            assert self.hold.wait(PATIENCE)
        if 13 in values:
            raise ValueError("unlucky")
        return [2 * value for value in values]

    def __call__(self, request):
        return Response(b"%d" % self.batcher(int(request.body), None))


def ask(engine, *numbers):
    return [asyncio.ensure_future(engine.handle(Request(b"%d" % number))) for number in numbers]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_has_queued_up_is_a_batch(run, is_async):
    hold = threading.Event()
    model = Doubler(4, hold=hold)
    observer = Observed()

    async def use(engine):
        first = ask(engine, 0)
        await until(lambda: model.calls)
        others = ask(engine, *range(1, 7))
        await asyncio.sleep(0.01)
        hold.set()
        return await asyncio.gather(*first, *others)

    answers = run(model, use, batcher=model.batcher, is_async=is_async, observer=observer)
    assert [answer.body for answer in answers] == [b"%d" % (2 * n) for n in range(7)]
    assert model.calls == [(0,), (1, 2, 3, 4), (5, 6)]
    assert observer.batches == [1, 4, 2]


def test_who_has_an_answer_has_been_counted(run):
    seen = []

    class Noting(Doubler):
        def __call__(self, request):
            answer = super().__call__(request)
            seen.append(answer.body)
            return answer

    class Counting(Observed):
        def batch(self, size):
            seen.append(size)

    async def use(engine):
        await asyncio.gather(*ask(engine, 1, 2))

    model = Noting(2)
    run(model, use, batcher=model.batcher, observer=Counting())
    assert seen == [2, b"2", b"4"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_may_be_waited_for(run, is_async):
    model = Doubler(3, delay=PATIENCE)

    async def use(engine):
        early = ask(engine, 1)
        await asyncio.sleep(0.02)
        assert model.calls == []
        return await asyncio.gather(*early, *ask(engine, 2, 3))

    run(model, use, batcher=model.batcher, is_async=is_async)
    assert model.calls == [(1, 2, 3)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_that_does_not_fill_is_run_after_its_delay(run, is_async):
    model = Doubler(3, delay=0.02)

    async def use(engine):
        return await asyncio.gather(*ask(engine, 1, 2))

    run(model, use, batcher=model.batcher, is_async=is_async)
    assert model.calls == [(1, 2)]


def test_one_bad_item_fails_alone(run, caplog):
    model = Doubler(4, delay=PATIENCE)

    async def use(engine):
        return await asyncio.gather(*ask(engine, 1, 13, 2, 3))

    answers = run(model, use, batcher=model.batcher)
    assert [answer.status for answer in answers] == [200, 500, 200, 200]
    assert [answer.body for answer in answers if answer.status == 200] == [b"2", b"4", b"6"]


def test_a_request_that_has_waited_for_something_else_joins_a_batch(run):
    model = Doubler(2)

    def handler(request):
        parking.wait(asyncio.sleep(0.001))
        return model(request)

    async def use(engine):
        return await asyncio.gather(*ask(engine, 1, 2), *ask(engine, 3))

    answers = run(handler, use, batcher=model.batcher, is_async=True, request_timeout=5)
    assert [answer.body for answer in answers] == [b"2", b"4", b"6"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_whatever_is_raised_in_a_batch_fails_one_request(run, caplog, error):
    class Odd(Doubler):
        def many(self, values, contexts):
            if 13 in values:
                raise error
            return values

    model = Odd(3, delay=PATIENCE)

    async def use(engine):
        first = await asyncio.gather(*ask(engine, 1, 13, 2))
        return first + await asyncio.gather(*ask(engine, 4, 5, 6))

    answers = run(model, use, batcher=model.batcher)
    assert [answer.status for answer in answers] == [200, 500, 200, 200, 200, 200]


def test_what_cannot_be_read_is_in_no_batch(run):
    model = Doubler(2, delay=PATIENCE)

    async def use(engine):
        bad = asyncio.ensure_future(engine.handle(Request(b"x")))
        return await asyncio.gather(bad, *ask(engine, 1, 2))

    answers = run(model, use, batcher=model.batcher)
    assert [answer.status for answer in answers] == [500, 200, 200]
    assert model.calls == [(1, 2)]


def test_of_a_batch_that_takes_too_long_only_those_are_ended_whose_time_is_over(run, caplog):
    class Slow(Doubler):
        def many(self, values, contexts):
            self.calls.append(tuple(values))
            while len(values) > 1:
                time.sleep(0.001)
            return values

    model = Slow(2, delay=PATIENCE)

    async def use(engine):
        early = await hurried(engine, Request(b"1"), seconds=0.5)
        (late,) = ask(engine, 2)
        await until(lambda: early.done() and late.done(), engine)
        return early.result(), late.result()

    early, late = run(model, use, batcher=model.batcher)
    assert code(early) == (504, "timeout")
    assert late.body == b"2"
    assert model.calls == [(1, 2), (2,)]


# -- a device that may be lost ---------------------------------------------------------------------


class Device:
    """Hardware, as far as a failed request goes: it does not survive an error that says ``fatal``."""

    def __init__(self):
        self.told = []

    def recover(self, error):
        self.told.append(str(error))
        return "fatal" not in str(error)


def on(device, handler, **loaded):
    """Return what loads a model of `handler` onto `device`."""
    watch = DeviceWatch(device)
    return lambda: LoadedModel(answering(handler, watch=watch), CodecTable({}), watch=watch, **loaded)


def submit(engine, *bodies):
    return [asyncio.ensure_future(engine.handle(Request(body))) for body in bodies]


@pytest.mark.parametrize("is_async", [False, True])
def test_with_its_device_a_model_is_lost_and_nothing_more_is_begun(run, caplog, is_async):
    begun = []

    def handler(request):
        begun.append(request.body)
        raise RuntimeError(request.body.decode())

    async def use(engine):
        at_once = await asyncio.gather(*submit(engine, b"fatal", b"second", b"third"))
        await until(lambda: engine.state is State.LOST)
        return *at_once, await engine.handle(Request(b"later"))

    failed, *others = run(None, use, load=on(Device(), handler, is_async=is_async))
    assert code(failed) == (500, "model_error")
    assert [code(answer) for answer in others] == [(503, "unavailable")] * 3
    assert all(answer.headers["retry-after"] for answer in others)
    assert begun == [b"fatal"]
    assert "the device works no more" in caplog.text


def test_a_device_that_is_lost_while_other_requests_wait(run, caplog):
    async def fail():
        await asyncio.sleep(0.001)
        raise RuntimeError("fatal")

    def handler(request):
        parking.wait(fail() if request.body == b"fail" else asyncio.sleep(PATIENCE))
        return Response(b"")

    async def use(engine):
        answers = await asyncio.gather(*submit(engine, b"wait", b"fail"))
        assert engine.state is State.LOST
        return answers

    waiting, failed = run(None, use, load=on(Device(), handler, is_async=True))
    assert code(failed) == (500, "model_error")
    assert code(waiting) == (503, "unavailable")


def test_a_batch_that_loses_the_device_is_the_last_one(run, caplog):
    class Fragile(Doubler):
        def many(self, values, contexts):
            self.calls.append(tuple(values))
            if 13 in values:
                raise RuntimeError("fatal")
            return values

    model = Fragile(2, delay=PATIENCE)

    async def use(engine):
        return await asyncio.gather(*ask(engine, 1, 13, 2, 3))

    answers = run(None, use, load=on(Device(), model, batcher=model.batcher))
    assert [answer.status for answer in answers] == [200, 500, 503, 503]
    assert model.calls == [(1, 13), (1,), (13,)]


def test_a_device_that_is_lost_in_the_middle_of_an_answer(run, caplog):
    def pieces():
        yield b"a"
        raise RuntimeError("fatal")

    async def use(engine):
        answer = await engine.handle(Request(b""))
        assert await engine.next_chunk(answer.chunks) == b"a"
        with pytest.raises(RuntimeError, match="fatal"):
            await engine.next_chunk(answer.chunks)
        await until(lambda: engine.state is State.LOST)

    run(None, use, load=on(Device(), lambda request: Response(b"", chunks=pieces())))


def test_the_hardware_is_told_of_what_fails_and_the_model_goes_on_if_it_works(run, caplog):
    def handler(request):
        if request.body == b"refuse":
            raise DecodeError("fatal for the client alone")
        if request.body:
            raise RuntimeError(request.body.decode())
        return Response(b"")

    async def use(engine):
        return [await engine.handle(Request(body)) for body in (b"oops", b"", b"refuse", b"")]

    device = Device()
    answers = run(None, use, load=on(device, handler))
    assert [answer.status for answer in answers] == [500, 200, 400, 200]
    assert device.told == ["oops"]


def test_the_hardware_is_not_asked_about_a_request_that_took_too_long(run, caplog):
    async def use(engine):
        slow = asyncio.ensure_future(engine.handle(Request(b"for ever")))
        await until(slow.done, engine)
        return await engine.handle(Request(b"next"))

    device = Device()
    assert run(None, use, load=on(device, loop_for_ever), request_timeout=0.2).body == b"next"
    assert device.told == []


def test_hardware_that_cannot_tell_costs_its_model_nothing(run, caplog):
    class Broken:
        def recover(self, error):
            raise ZeroDivisionError

    def handler(request):
        if request.body:
            raise RuntimeError
        return Response(b"")

    async def use(engine):
        return [await engine.handle(Request(body)) for body in (b"oops", b"")]

    answers = run(None, use, load=on(Broken(), handler))
    assert [answer.status for answer in answers] == [500, 200]
    assert "cannot tell whether it still works" in caplog.text
