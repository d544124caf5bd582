"""Ending what runs too long on a thread."""

import threading
import time

import pytest

from modelyard.serving.waiting.interruption import Interrupted, Interrupter


class Watcher:
    """Looks at what a thread runs all the time."""

    def __init__(self, interrupter):
        self.interrupter = interrupter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.is_set():
            self.interrupter.overdue(time.monotonic())


def spin():
    while True:
        pass


def test_what_is_in_time_is_left_alone():
    interrupter = Interrupter()
    with Watcher(interrupter):
        assert interrupter.within(time.monotonic() + 1000, lambda a, b: a + b, 1, 2) == 3


def test_what_is_late_is_interrupted():
    interrupter = Interrupter()
    with Watcher(interrupter), pytest.raises(Interrupted):
        interrupter.within(time.monotonic() + 0.01, spin)


def test_what_comes_next_is_not_hit():
    """Interruptions that come at any moment, the last one of what they are for included."""
    interrupter = Interrupter()
    interrupted = 0
    with Watcher(interrupter):
        for _ in range(300):
            end = time.monotonic() + 0.002
            try:
                while time.monotonic() < end:
                    interrupter.within(0.0, sum, range(20))
            except Interrupted:
                interrupted += 1
            assert interrupter.within(time.monotonic() + 1000, sum, range(20)) == 190
            assert interrupter.overdue(time.monotonic()) == 0.0
    assert interrupted


def test_how_long_an_interruption_has_been_ignored():
    interrupter = Interrupter()
    begun, release = threading.Event(), threading.Event()

    def deaf():
        begun.set()
        release.wait(20)

    def run():
        with pytest.raises(Interrupted):
            interrupter.within(5.0, deaf)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    assert [interrupter.overdue(now) for now in (4.0, 6.0, 8.5)] == [0.0, 0.0, 2.5]
    release.set()
    thread.join(20)
    assert interrupter.overdue(9.0) == 0.0
