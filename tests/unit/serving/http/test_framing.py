"""What the server takes for a request, and what it refuses: one connection each, with a real server."""

import pytest
from tests.unit.serving.raw_http import HOST, PING, Server, chunked, post

from modelyard.serving.settings import Limits

# What a request that was hidden in another would ask for.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def with_headers(*lines, body=b"", method=b"POST"):
    return b"%b /echo HTTP/1.1\r\n" % method + b"".join(lines) + b"\r\n" + body


def with_length(value):
    return with_headers(HOST, b"Content-Length: " + value + b"\r\n", body=b"abcde")


def with_coding(line):
    return with_headers(HOST, line, body=b"5\r\nabcde\r\n0\r\n\r\n")


def with_chunks(body):
    return with_headers(HOST, CHUNKED, body=body)


def with_line(line):
    return b"GET /echo HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"


def with_start(line, host=HOST):
    return line + b"\r\n" + host + b"\r\n"


REFUSED = {
    # Two lengths, or one that can be read in two ways.
    "length, then coding": with_headers(HOST, b"Content-Length: 5\r\n", CHUNKED, body=b"0\r\n\r\n"),
    "coding, then length": with_headers(HOST, CHUNKED, b"Content-Length: 5\r\n", body=b"0\r\n\r\n"),
    "length and another coding": with_headers(HOST, b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n"),
    "two equal lengths": with_headers(HOST, b"Content-Length: 5\r\n" * 2, body=b"abcde"),
    "two lengths": with_headers(HOST, b"Content-Length: 5\r\nContent-Length: 0\r\n", body=b"abcde"),
    "a list of lengths": with_length(b"5, 5"),
    "length with a plus": with_length(b"+5"),
    "length with a minus": with_length(b"-5"),
    "length in two parts": with_length(b"5 5"),
    "length in hexadecimal": with_length(b"0x5"),
    "length with a point": with_length(b"5.0"),
    "length as Python writes it": with_length(b"1_0"),
    "length in Arabic digits": with_length("\u0665".encode()),
    "no length in its header": with_length(b""),
    "length past 64 bits": with_length(b"99999999999999999999999"),
    "length behind a fold": with_length(b"\r\n 5"),
    "length behind a space": with_headers(HOST, b"Content-Length : 5\r\n", body=b"abcde"),
    "length with a NUL": with_length(b"5\0"),
    # Codings.
    "gzip": with_coding(b"Transfer-Encoding: gzip\r\n"),
    "gzip, chunked": with_coding(b"Transfer-Encoding: gzip, chunked\r\n"),
    "chunked, gzip": with_coding(b"Transfer-Encoding: chunked, gzip\r\n"),
    "chunked, chunked": with_coding(b"Transfer-Encoding: chunked, chunked\r\n"),
    "chunked twice": with_coding(CHUNKED * 2),
    "identity": with_coding(b"Transfer-Encoding: identity\r\n"),
    "xchunked": with_coding(b"Transfer-Encoding: xchunked\r\n"),
    "quoted chunked": with_coding(b'Transfer-Encoding: "chunked"\r\n'),
    "chunked with a parameter": with_coding(b"Transfer-Encoding: chunked;a=b\r\n"),
    "no coding in its header": with_coding(b"Transfer-Encoding:\r\n"),
    "chunked behind a vertical tab": with_coding(b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunked behind a fold": with_coding(b"Transfer-Encoding:\r\n chunked\r\n"),
    "coding behind a space": with_coding(b"Transfer-Encoding : chunked\r\n"),
    "chunked in HTTP/1.0": b"POST /echo HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n5\r\nabcde\r\n0\r\n\r\n",
    # Chunks.
    "chunk size in C": with_chunks(b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "chunk size with a minus": with_chunks(b"-5\r\nabcde\r\n0\r\n\r\n"),
    "chunk size with a plus": with_chunks(b"+5\r\nabcde\r\n0\r\n\r\n"),
    "chunk size with a space": with_chunks(b"5 \r\nabcde\r\n0\r\n\r\n"),
    "chunk size behind a space": with_chunks(b" 5\r\nabcde\r\n0\r\n\r\n"),
    "no chunk size": with_chunks(b"\r\nabcde\r\n0\r\n\r\n"),
    "chunk size past 64 bits": with_chunks(b"fffffffffffffffff\r\nabcde\r\n0\r\n\r\n"),
    "chunk size with a bare line feed": with_chunks(b"5\nabcde\r\n0\r\n\r\n"),
    "chunk with a bare line feed": with_chunks(b"5\r\nabcde\n0\r\n\r\n"),
    "chunk longer than its size": with_chunks(b"5\r\nabcdefg\r\n0\r\n\r\n"),
    "chunk without an end": with_chunks(b"5\r\nabcde0\r\n\r\n"),
    "line feed in a chunk's extension": with_chunks(b"5;a\nb\r\nabcde\r\n0\r\n\r\n"),
    "carriage return in a chunk's extension": with_chunks(b"5;a\rb\r\nabcde\r\n0\r\n\r\n"),
    "NUL in a chunk's extension": with_chunks(b"5;a\0b\r\nabcde\r\n0\r\n\r\n"),
    "a length behind the last chunk": with_chunks(b"5\r\nabcde\r\n0\r\nContent-Length: 5\r\n\r\n"),
    # Hosts.
    "no host": with_headers(),
    "two hosts": with_headers(HOST, HOST),
    "two hosts that differ": with_headers(HOST, b"hOST: b\r\n"),
    "host with a space": with_headers(b"Host: a b\r\n"),
    "host with a path": with_headers(b"Host: a/b\r\n"),
    "host with a user": with_headers(b"Host: u@a\r\n"),
    "a list of hosts": with_headers(b"Host: a, b\r\n"),
    "host with a port that is none": with_headers(b"Host: a:b\r\n"),
    "host in Latin-1": with_headers(b"Host: \xe9\r\n"),
    # Versions.
    "HTTP/0.9": with_start(b"GET /echo HTTP/0.9"),
    "no version": b"GET /echo\r\n\r\n",
    "HTTP/1.2": with_start(b"GET /echo HTTP/1.2"),
    "HTTP/1.10": with_start(b"GET /echo HTTP/1.10"),
    "HTTP/2.0": with_start(b"GET /echo HTTP/2.0"),
    "HTTP/9.9": with_start(b"GET /echo HTTP/9.9"),
    "http/1.1": with_start(b"GET /echo http/1.1"),
    "HTTP /1.1": with_start(b"GET /echo HTTP /1.1"),
    "ICY/1.0": with_start(b"GET /echo ICY/1.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # Start lines.
    "a space before the method": with_start(b" GET /echo HTTP/1.1"),
    "a space behind the version": with_start(b"GET /echo HTTP/1.1 "),
    "tabs": with_start(b"GET\t/echo\tHTTP/1.1"),
    "a method that is none": with_start(b"FOO /echo HTTP/1.1"),
    "a method in lower case": with_start(b"get /echo HTTP/1.1"),
    "no method": with_start(b"/echo HTTP/1.1"),
    "a tunnel": with_start(b"CONNECT a:80 HTTP/1.1"),
    "a target with a space": with_start(b"GET /a b HTTP/1.1"),
    "a target with a NUL": with_start(b"GET /a\0b HTTP/1.1"),
    "a target with a control character": with_start(b"GET /a\x01b HTTP/1.1"),
    "a target in Latin-1": with_start(b"GET /a\xe9b HTTP/1.1"),
    "a target with a fragment": with_start(b"GET /a#b HTTP/1.1"),
    "a target with a user": with_start(b"GET http://u:p@a/echo HTTP/1.1"),
    "a target without a slash": with_start(b"GET echo HTTP/1.1"),
    "a target with no path": with_start(b"GET ?a HTTP/1.1"),
    "a host for a target": with_start(b"GET a:80 HTTP/1.1"),
    "a file for a target": with_start(b"GET file:///etc/passwd HTTP/1.1"),
    # Header lines.
    "a space in a name": with_line(b"a b: c"),
    "no name": with_line(b": c"),
    "a NUL in a name": with_line(b"a\0: c"),
    "a name in Latin-1": with_line(b"a\xe9: c"),
    "no colon": with_line(b"abc"),
    "a NUL in a value": with_line(b"a: c\0d"),
    "a control character in a value": with_line(b"a: c\x01d"),
    "a bare carriage return in a value": with_line(b"a: c\rd: e"),
    "a bare line feed in a value": with_line(b"a: c\nd: e"),
    "a fold": with_line(b"a: c\r\n d"),
    "a fold with a tab": with_line(b"a: c\r\n\td"),
    "a fold of nothing": with_line(b"a:\r\n "),
    "a fold at the start": b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n",
    "line feeds only": b"GET /echo HTTP/1.1\nHost: a\n\n",
    "carriage returns only": b"GET /echo HTTP/1.1\rHost: a\r\r",
    "two carriage returns": b"GET /echo HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "a bare line feed at the end": b"GET /echo HTTP/1.1\r\nHost: a\r\n\n",
    # Upgrades.
    "an upgrade with a body in chunks": with_headers(
        HOST, b"Connection: Upgrade\r\nUpgrade: h2c\r\n", CHUNKED, body=b"5\r\nabcde\r\n0\r\n\r\n"
    ),
}

OTHER_STATUS = {
    "another expectation": (417, "expectation_failed", with_headers(HOST, b"Expect: 200-ok\r\n")),
    "expectations": (417, "expectation_failed", with_headers(HOST, b"Expect: 100-continue, a\r\n")),
    "a length past the limit": (413, "body_too_large", with_length(b"1001")),
    "a length of 64 bits": (413, "body_too_large", with_length(b"18446744073709551615")),
    "chunks past the limit": (413, "body_too_large", chunked(*[b"x" * 100] * 11)),
    "one chunk past the limit": (413, "body_too_large", with_chunks(b"ffffffffffffffff\r\n" + b"x" * 1001)),
    "a header past the limit": (431, "headers_too_large", with_line(b"a: " + b"b" * 2000)),
    "headers past the limit": (431, "headers_too_large", with_line(b"\r\n".join([b"a: b"] * 500))),
    "a target past the limit": (431, "headers_too_large", with_start(b"GET /" + b"a" * 2000 + b" HTTP/1.1")),
}

ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\nHost: a\r\na: ", b"b" * 100),
    "headers": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 20),
    "a target": (b"GET /", b"a" * 100),
    "a name": (b"GET / HTTP/1.1\r\n", b"a" * 100),
    "headers behind the last chunk": (with_chunks(b"5\r\nabcde\r\n0\r\n"), b"a: b\r\n" * 20),
    "a chunk's extension": (with_chunks(b"5;"), b"a" * 100),
    "a chunk's size": (with_chunks(b""), b"0" * 100),
}

ACCEPTED = {
    "length with spaces": (with_length(b" \t5\t "), b"abcde"),
    "length with zeros": (with_length(b"005"), b"abcde"),
    "Chunked": (with_coding(b"Transfer-Encoding: Chunked\r\n"), b"abcde"),
    "chunks with extensions": (with_chunks(b'5;a=b;c="d"\r\nabcde\r\n0\r\n\r\n'), b"abcde"),
    "chunk size with zeros": (with_chunks(b"00005\r\nabcde\r\n000\r\n\r\n"), b"abcde"),
    "chunk size in capitals": (with_chunks(b"A\r\nabcdeabcde\r\n0\r\n\r\n"), b"abcdeabcde"),
    "a header behind the last chunk": (with_chunks(b"5\r\nabcde\r\n0\r\nX-Behind: b\r\n\r\n"), b"abcde"),
    "no chunks": (chunked(), b""),
    "no host in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nabcde", b"abcde"),
    "an empty host": (with_headers(b"Host:\r\n"), b""),
    "an address for a host": (with_headers(b"Host: 127.0.0.1:80\r\n"), b""),
    "an address of IPv6 for a host": (with_headers(b"Host: [::1]:80\r\n"), b""),
    "empty lines in front": (b"\r\n\r\n" + post(b"abcde"), b"abcde"),
    "a value in Latin-1": (with_line(b"a: c\xe9d"), b""),
    "the target of a proxy": (with_start(b"GET http://a/echo HTTP/1.1"), b""),
    "a body with GET": (with_headers(HOST, b"Content-Length: 5\r\n", body=b"abcde", method=b"GET"), b"abcde"),
    "a body that is a request": (post(HIDDEN), HIDDEN),
    "a chunk that is a request": (chunked(HIDDEN), HIDDEN),
    "an upgrade": (with_headers(HOST, b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), b""),
    "an upgrade with a body": (post(HIDDEN, b"Connection: Upgrade", b"Upgrade: h2c"), HIDDEN),
    "a name of two words": (with_line(b"Transfer_Encoding: gzip"), b""),
}


@pytest.fixture(scope="module")
def server():
    running = Server(Limits(max_body=1000, max_header=1000))
    yield running
    running.end()


@pytest.fixture
def ask(server):
    server.application.calls.clear()
    return server.ask


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_is_malformed_is_refused_and_ends_its_connection(server, ask, request_):
    (answer,) = ask(request_ + HIDDEN)
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert server.requests == []


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_is_malformed_is_refused_however_it_is_cut(server, ask, request_):
    with server.client() as client:
        client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY: every byte by itself.
        client.send(*(bytes([byte]) for byte in request_), HIDDEN)
        (answer,) = client.rest()
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert server.requests == []


@pytest.mark.parametrize(("status", "code", "request_"), OTHER_STATUS.values(), ids=OTHER_STATUS)
def test_what_cannot_be_served_is_refused_and_ends_its_connection(server, ask, status, code, request_):
    (answer,) = ask(request_ + HIDDEN)
    assert (answer.status, answer.code) == (status, code)
    assert server.requests == []


@pytest.mark.parametrize(("request_", "body"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_unusual_and_allowed_is_served(ask, request_, body):
    (answer,) = ask(request_)
    assert (answer.status, answer.headers["x-path"], answer.body) == (200, "/echo", body)


@pytest.mark.parametrize(
    ("request_", "body"),
    [case for name, case in ACCEPTED.items() if "HTTP/1.0" not in name],
    ids=[name for name in ACCEPTED if "HTTP/1.0" not in name],
)
def test_the_next_request_begins_where_that_one_ends(ask, request_, body):
    first, second = ask(request_ + PING)
    assert (first.body, second.headers["x-path"]) == (body, "/ping")


@pytest.mark.parametrize("request_", [REFUSED["two hosts"], REFUSED["chunk size in C"]])
def test_a_refusal_is_said_after_what_was_asked_before(server, ask, request_):
    first, second, refused = ask(post(b"1") + post(b"2") + request_ + HIDDEN)
    assert (first.body, second.body, refused.code) == (b"1", b"2", "malformed_request")
    assert "connection" not in second.headers


def test_a_header_behind_a_body_is_nobodys_header(server, ask):
    assert len(ask(ACCEPTED["a header behind the last chunk"][0] + PING)) == 2
    for scope, _ in server.application.calls:
        assert b"x-behind" not in dict(scope["headers"])


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("before", [b"", post(b"x" * 900)], ids=["first", "second"])
def test_what_has_no_end_is_refused_while_it_comes(server, ask, start, more, before):
    with server.client() as client:
        client.send(before + start, *[more] * 1000)
        *_, last = client.rest()
    assert (last.status, last.code) == (431, "headers_too_large")


def test_the_limit_of_headers_is_for_each_request_by_itself(ask):
    just_right = with_line(b"a: " + b"b" * 900)
    assert [answer.status for answer in ask(just_right * 20)] == [200] * 20


@pytest.mark.parametrize("before", [b"", post(b"x" * 900)])
def test_headers_past_the_limit_are_refused_behind_anything(ask, before):
    *_, last = ask(before + with_line(b"a: " + b"b" * 2000))
    assert last.code == "headers_too_large"


@pytest.mark.parametrize("cut", range(1, 70, 7))
def test_a_request_may_be_cut_anywhere(server, cut):
    request_ = post(b"abcde", b"X-Other: 1") + post(b"fgh")
    with server.client() as client:
        client.send(request_[:cut])
        until_read(server, client)
        client.send(request_[cut:])
        assert [client.read().body, client.read().body] == [b"abcde", b"fgh"]


def until_read(server, client):
    """Wait until the server has read what was sent: another client is served after that."""
    server.ask(PING)
