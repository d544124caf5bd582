"""The reader: whatever way the bytes of a connection are cut, the requests in them are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.http.budget import Budget
from modelyard.serving.http.framing import RefusedError
from modelyard.serving.http.reader import RequestReader, Stage
from modelyard.serving.settings import Limits

BODIES = (b"", b"x", b"\r\n", b"\r\n\r\n", b"POST /b HTTP/1.1\r\nHost: a\r\n\r\n", b"y" * 70_000)


def head(path, length, *lines):
    start = [b"POST %b HTTP/1.1" % path, b"Host: a", b"Content-Length: %d" % length, *lines]
    return b"\r\n".join(start) + b"\r\n\r\n"


class Requests:
    """What a reader has made of a connection's bytes."""

    def __init__(self):
        self.complete = []
        self.budget = Budget(10**9)
        self.reader = RequestReader(Limits(), self.budget, lambda: None, self._take)

    def _take(self, head, body, share):
        self.complete.append((head.raw_path, head.by_name.get("x-n"), body))
        if share is not None:
            share.give_back()

    def feed(self, *pieces):
        for piece in pieces:
            self.reader.feed(piece)
        return self.complete


requests = st.tuples(
    st.sampled_from((b"/a", b"/b")), st.sampled_from(("", "1", "2")), st.sampled_from(BODIES), st.booleans()
)


def sent(path, number, body, chunked):
    """Return a request's bytes: one of few, so that many are followed by one with the same head."""
    own = [b"X-N: %b" % number.encode()] if number else []
    if not chunked:
        return head(path, len(body), *own) + body
    lines = [b"POST %b HTTP/1.1" % path, b"Host: a", b"Transfer-Encoding: chunked", *own]
    piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"\r\n".join(lines) + b"\r\n\r\n" + piece + b"0\r\n\r\n"


@given(st.lists(st.tuples(requests, st.booleans()), min_size=1, max_size=8), st.data())
def test_every_request_comes_out_as_it_was_sent(those, data):
    pieces, ahead = [], b""
    for request, with_the_next in those:
        ahead += sent(*request)
        if not with_the_next:
            cut = data.draw(st.integers(0, len(ahead)))
            pieces += [ahead] if data.draw(st.booleans()) else [ahead[:cut], ahead[cut:]]
            ahead = b""
    read = Requests()
    read.feed(*pieces, ahead)
    assert read.complete == [(path, number or None, body) for (path, number, body, _), _ in those]
    assert read.reader.stage is Stage.NONE
    assert read.reader.begun == len(those)
    assert read.budget.held == 0


def test_a_head_that_is_repeated_is_parsed_once(monkeypatch):
    read = Requests()
    read.feed(head(b"/a", 2) + b"ab")
    monkeypatch.setattr(read.reader, "_parse", None)
    assert read.feed(head(b"/a", 2) + b"cd", head(b"/a", 2), b"e", b"f") == [
        (b"/a", None, b"ab"),
        (b"/a", None, b"cd"),
        (b"/a", None, b"ef"),
    ]


@pytest.mark.parametrize(
    "bare",
    [
        b"POST /a HTTP/1.1\nHost: a\nContent-Length: 4\n\n\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\n\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\n\r\n\r\n\r\n",
    ],
)
def test_an_empty_line_within_a_body_ends_no_head(bare):
    # Whether the parser takes such line ends or not: what it makes of them, it makes of them twice.
    read = Requests()
    try:
        read.feed(bare)
    except RefusedError:
        return
    assert read.feed(bare) == [(b"/a", None, b"\r\n\r\n")] * 2


def test_leave_to_send_a_body_is_asked_for_each_time():
    read = Requests()
    asking = head(b"/a", 1, b"Expect: 100-continue")
    read.feed(asking + b"x")
    assert not read.reader.expects
    read.feed(asking)
    assert read.reader.expects


def test_a_head_that_is_repeated_counts_for_the_budget():
    read = Requests()
    read.feed(head(b"/a", 70_000) + b"x" * 70_000)
    read.budget.limit = 70_000 - 1
    with pytest.raises(RefusedError, match="holds as much"):
        read.feed(head(b"/a", 70_000))


def test_what_a_request_refuses_a_repeated_one_refuses_too():
    read = Requests()
    read.feed(head(b"/a", 1) + b"x")
    read.reader._begin = lambda: (_ for _ in ()).throw(RefusedError(429, "too_many", "too many"))
    with pytest.raises(RefusedError, match="too many"):
        read.feed(head(b"/a", 1) + b"x")
