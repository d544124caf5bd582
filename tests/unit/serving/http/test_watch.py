"""How long a connection may wait, by the looks at it."""

import pytest

from modelyard.serving.http.watch import Phase, Watch
from modelyard.serving.settings import Limits


class Connection:
    """A connection that waits, and of which the watch takes notice."""

    def __init__(self):
        self.waits_for = Phase.OPEN, 0
        self.expired = []

    def progress(self):
        return self.waits_for

    def expire(self, phase):
        self.expired.append(phase)


class Loop:
    """An event loop whose next timer is due when the test says so, however late that is."""

    def __init__(self):
        self.now = 0.0

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        self._delay, self._callback = delay, callback

    def go_on(self, late=0.0):
        self.now += self._delay + late
        self._callback()


@pytest.fixture
def connection():
    return Connection()


@pytest.fixture
def loop(connection):
    loop = Loop()
    Watch(connection, Limits(first_byte_timeout=2.0, body_timeout=1.0), loop)
    return loop


def seconds_to_expire(loop, connection):
    began = loop.now
    while not connection.expired:
        loop.go_on()
    return loop.now - began


def test_a_connection_has_its_time_and_no_more(loop, connection):
    assert seconds_to_expire(loop, connection) == pytest.approx(2.0)
    assert connection.expired == [Phase.OPEN]


@pytest.mark.parametrize("progress", [(Phase.OPEN, 1), (Phase.BODY, 0)], ids=["more", "another phase"])
def test_whatever_happens_begins_its_time_anew(loop, connection, progress):
    for _ in range(7):
        loop.go_on()
    connection.waits_for = progress
    loop.go_on()
    assert seconds_to_expire(loop, connection) == pytest.approx(2.0 if progress[0] is Phase.OPEN else 1.0)
    assert connection.expired == [progress[0]]


def test_who_waits_for_our_answer_is_not_ended(loop, connection):
    connection.waits_for = Phase.BUSY, 0
    for _ in range(1000):
        loop.go_on()
    assert not connection.expired


def test_what_the_server_itself_sleeps_through_is_not_held_against_anybody(loop, connection):
    loop.go_on(late=1000.0)
    assert not connection.expired
    assert seconds_to_expire(loop, connection) < 2.0
