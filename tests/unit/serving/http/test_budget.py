"""What all connections of a worker may hold of bodies together."""

import contextlib
import itertools
import random
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.raw_http import PATIENCE, PING, Server, chunked, post, until

from modelyard.serving.http.budget import UNCOUNTED, Budget, Share
from modelyard.serving.http.framing import RefusedError
from modelyard.serving.http.reader import RequestReader
from modelyard.serving.settings import Limits

LARGE = b"x" * 200_000
LIMITS = Limits(max_body=300_000, max_buffered=300_000)


@pytest.fixture
def server():
    running = Server(LIMITS)
    yield running
    running.end()
    assert running.budget.held == 0


@pytest.fixture
def holder(server):
    """A connection that has sent a large body but for its last byte."""
    with server.client() as client:
        client.send(post(LARGE)[:-1])
        until(lambda: server.budget.held == len(LARGE))
        yield client


def is_busy(answer):
    return (answer.status, answer.code, answer.headers["retry-after"]) == (503, "busy", "1")


@pytest.mark.usefixtures("holder")
class TestWhereThereIsNoRoom:
    def test_a_body_is_refused_where_it_is_announced(self, server):
        with server.client() as client:
            client.send(post(LARGE)[: -len(LARGE)])
            (answer,) = client.rest()
        assert is_busy(answer)
        assert server.requests == []

    def test_nobody_is_told_to_send_it(self, server):
        with server.client() as client:
            client.send(post(LARGE, b"Expect: 100-continue")[: -len(LARGE)])
            (answer,) = client.rest()
        assert is_busy(answer)

    def test_a_body_without_a_length_is_refused_once_it_does_not_fit(self, server):
        with server.client() as client:
            client.send(chunked(LARGE[:100_000])[:-5])
            until(lambda: server.budget.held == 300_000)
            client.send(b"1\r\nx\r\n")
            (answer,) = client.rest()
        assert is_busy(answer)
        assert server.budget.held == len(LARGE)

    def test_small_ones_are_taken(self, server):
        assert server.ask(post(LARGE[:UNCOUNTED]))[0].body == LARGE[:UNCOUNTED]
        assert server.ask(chunked(LARGE[:UNCOUNTED]))[0].body == LARGE[:UNCOUNTED]

    def test_what_fits_is_taken(self, server):
        assert server.ask(post(LARGE[:100_000]))[0].body == LARGE[:100_000]
        assert is_busy(server.ask(post(LARGE[:100_001]))[0])

    def test_it_is_said_after_what_was_asked_before(self, server):
        first, second = server.ask(PING + post(LARGE))
        assert first.headers["x-path"] == "/ping"
        assert is_busy(second)


def test_there_is_room_again_once_it_is_answered(server, holder):
    holder.send(LARGE[-1:])
    assert holder.read().body == LARGE
    assert server.ask(post(LARGE))[0].body == LARGE
    holder.send(post(LARGE))
    assert holder.read().body == LARGE


def test_a_request_that_waits_for_its_answer_takes_room(server):
    with server.client() as client:
        client.send(post(LARGE, path=b"/wait"))
        assert server.application.started.acquire(timeout=PATIENCE)
        assert is_busy(server.ask(post(LARGE))[0])
        server.open_gate()
        assert client.read().body == LARGE
    assert server.ask(post(LARGE))[0].body == LARGE


def test_one_whose_client_is_gone_takes_room_until_the_application_lets_go(server):
    with server.client() as client:
        client.send(post(LARGE, path=b"/wait"))
        assert server.application.started.acquire(timeout=PATIENCE)
        leave(client)
    until(lambda: server.connections == 0)
    assert is_busy(server.ask(post(LARGE))[0])
    server.open_gate()
    until(lambda: server.budget.held == 0)


# -- it never drifts ---------------------------------------------------------------------------


def leave(client):
    """Close a connection without a farewell."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


WHOLE = [
    post(LARGE[:90_000]),
    post(LARGE[:90_000], path=b"/closes"),
    post(LARGE[:90_000], path=b"/raises"),
    post(LARGE[:90_000], path=b"/breaks-off"),
    post(LARGE[:90_000], path=b"/forever"),
    post(LARGE[:90_000], path=b"/nothing"),
    post(LARGE[:90_000], b"Connection: close"),
    post(LARGE[:90_000], b"Connection: upgrade", b"Upgrade: h2c"),
    chunked(LARGE[:50_000], LARGE[:50_000]),
    chunked(LARGE, LARGE),
    post(LARGE * 2),
    b"nonsense\r\n\r\n",
    PING,
]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_clients_do_all_of_it_is_given_back(server, seed):
    chance = random.Random(seed)
    for _ in range(30):
        with server.client() as client:
            sent = b"".join(chance.choices(WHOLE, k=chance.randint(1, 4)))
            sent = sent[: chance.choice([len(sent), chance.randrange(len(sent))])]
            client.sock.settimeout(0)
            client.sock.send(sent)  # As much as there is room for.
            if chance.random() < 0.3:
                with contextlib.suppress(OSError):  # The server was first.
                    client.shut()
            if chance.random() < 0.5:
                leave(client)
        assert 0 <= server.budget.held <= LIMITS.max_buffered
    server.ask(PING)  # All that came before it are accepted then.
    until(lambda: server.connections == 0)
    until(lambda: server.budget.held == 0)
    assert server.ask(post(LARGE))[0].body == LARGE


@given(
    requests=st.lists(st.sampled_from(WHOLE[6:]), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 500_000), max_size=5),
    limit=st.sampled_from([100_000, 250_000, 10**9]),
)
def test_a_reader_has_what_it_has_not_handed_on(requests, cuts, limit):
    budget, handed = Budget(limit), []
    limits = Limits(max_body=300_000)
    reader = RequestReader(limits, budget, lambda: None, lambda _, __, share: handed.append(share))
    sent = b"".join(requests)
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    try:
        for begin, end in itertools.pairwise(places):
            reader.feed(sent[begin:end])
    except RefusedError:
        pass
    reader.forget()
    for share in filter(None, handed):
        share.give_back()
    assert budget.held == 0


def test_a_share_is_given_back_once():
    budget = Budget(100)
    one, other = Share(budget), Share(budget)
    one.grow(60)
    one.grow(40)
    with pytest.raises(RefusedError):
        other.grow(41)
    other.grow(40)
    assert budget.held == 100
    one.give_back()
    one.give_back()
    assert budget.held == 40
