"""The guarded protocol under a real server: bodies, answers, limits, pipelining and the end."""

import contextlib
import http.client
import os
import re
import socket
import struct
import threading
import time
import tracemalloc

import pytest
from tests.unit.serving.raw_http import PATIENCE, PING, Server, chunked, post, until
from uvicorn.protocols.utils import ClientDisconnected

from modelyard.serving.http import protocol
from modelyard.serving.http.budget import Budget
from modelyard.serving.http.reader import RequestReader
from modelyard.serving.settings import Limits

NEVER = 1000.0
PATIENT = {f"{name}_timeout": NEVER for name in ("first_byte", "header", "body", "idle", "send")}
SHORT = 0.2


@pytest.fixture
def start():
    """Start a server with these limits; without one named a connection may take for ever."""
    servers = []

    def make(**limits):
        servers.append(Server(Limits(**PATIENT | limits)))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def server(start):
    return start(max_body=10_000_000)


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def get(path, *headers, version=b"1.1", method=b"GET"):
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, path, version), b"Host: a", *headers]) + b"\r\n\r\n"


def has_begun(server):
    """Wait for the application to be called once more."""
    return server.application.started.acquire(timeout=PATIENCE)


def has_ended(server):
    return server.application.ended.acquire(timeout=PATIENCE)


def reset(sock):
    """Close a connection without a farewell."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class TestBodies:
    def test_a_body_is_handed_over_whole(self, server, client):
        body = os.urandom(3_000_000)
        client.send(post(body))
        assert client.read().body == body
        ((_, message),) = server.application.calls
        assert message == {"type": "http.request", "body": body, "more_body": False}
        assert type(message["body"]) is bytes

    def test_a_body_may_come_in_chunks(self, server, client):
        body = os.urandom(3_000_000)
        client.send(chunked(*(body[at : at + 100_000] for at in range(0, len(body), 100_000))))
        assert client.read().body == body
        assert server.application.calls[0][1]["more_body"] is False

    def test_a_body_may_come_in_very_many_chunks(self, server, client):
        body = os.urandom(100_000)
        client.send(chunked(*(body[at : at + 1] for at in range(len(body)))))
        assert client.read().body == body

    def test_a_body_may_come_byte_by_byte(self, server, client):
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in (post(b"abcde" * 100), chunked(b"abcde", b"f" * 100)):
            client.send(*(bytes([byte]) for byte in request))
        assert [client.read().body, client.read().body] == [b"abcde" * 100, b"abcde" + b"f" * 100]

    @pytest.mark.parametrize("size", [0, 1, 255_000, 256_000, 257_000, 600_000])
    def test_the_next_request_begins_behind_a_body_of_any_size(self, client, size):
        body = os.urandom(size)
        client.send((post(body) + PING) * 3)
        answers = [client.read() for _ in range(6)]
        assert [answer.body for answer in answers] == [body, b""] * 3
        assert [answer.headers["x-path"] for answer in answers] == ["/echo", "/ping"] * 3

    def test_the_application_is_not_called_before_the_body_is_complete(self, server, client):
        request = post(b"abcde")
        client.send(request[:-1])
        server.ask(PING)
        assert [path for _, path, _ in server.requests] == ["/ping"]
        client.send(request[-1:])
        assert client.read().body == b"abcde"

    @pytest.mark.parametrize(
        "whole", [post(b"x" * 500_000), chunked(b"x" * 500_000)], ids=["length", "chunks"]
    )
    @pytest.mark.parametrize("kept", [20, 100, 300_000])
    def test_a_client_that_is_gone_before_its_request_is_complete_starts_nothing(self, server, whole, kept):
        with server.client() as client:
            client.send(whole[:kept])
            until(lambda: server.connections == 1)
            reset(client.sock)
        until(lambda: server.connections == 0)
        assert server.requests == []

    def test_a_request_that_ends_too_early_is_refused(self, server):
        (answer,) = server.ask(post(b"abcde")[:-1])
        assert (answer.status, answer.code) == (400, "incomplete_request")
        assert server.requests == []

    def test_one_too_large_is_refused_before_it_is_sent(self, server, client):
        client.send(post(b"")[:-4].replace(b"Content-Length: 0", b"Content-Length: 10000001"), b"\r\n\r\n")
        assert client.read().code == "body_too_large"

    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_one_that_is_sent_although_it_is_too_large_learns_why(self, server, framing):
        body = b"x" * 30_000_000
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
        pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
        connection.request("POST", "/echo", body if framing == "length" else pieces)
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (413, "close")
        connection.close()
        assert server.requests == []


class TestExpectations:
    HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"

    def test_a_client_that_asks_is_told_to_send_its_body(self, client):
        client.send(self.HEAD)
        assert client.read().status == 100
        client.send(b"abcde")
        assert client.read().body == b"abcde"

    def test_one_that_sends_it_unasked_is_not_told(self, client):
        client.send(self.HEAD + b"abcde")
        assert client.read().body == b"abcde"

    def test_it_is_told_in_its_turn(self, server, client):
        client.send(get(b"/wait") + self.HEAD)
        assert has_begun(server)
        server.open_gate()
        assert client.read().status == 200
        assert client.read().status == 100
        client.send(b"abcde")
        assert client.read().body == b"abcde"

    def test_it_is_not_told_to_send_what_is_too_large(self, client):
        client.send(self.HEAD.replace(b": 5", b": 10000001"))
        assert client.read().code == "body_too_large"

    def test_an_old_client_is_not_told(self, client):
        client.send(self.HEAD.replace(b"1.1", b"1.0"))
        client.send(b"abcde")
        assert client.read().body == b"abcde"

    def test_it_is_told_although_it_wants_to_upgrade(self, client):
        client.send(self.HEAD[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert client.read().status == 100
        client.send(b"abcde" + PING)
        assert (client.read().body, client.read().headers["x-path"]) == (b"abcde", "/ping")


class TestAnswers:
    def test_a_connection_is_kept(self, server, client):
        for number in range(5):
            client.send(post(b"%d" % number))
            answer = client.read()
            assert answer.body == b"%d" % number
            assert "connection" not in answer.headers
        assert server.connections == 1

    def test_the_scope_is_what_the_client_said(self, server, client):
        client.send(b"GET http://a/a%20b/%C3%A9?c=%20d HTTP/1.1\r\nHOST: a\r\nX-One: 1\r\nx-one: 2\r\n\r\n")
        client.read()
        ((scope, message),) = server.application.calls
        assert message["body"] == b""
        assert scope["headers"] == [(b"host", b"a"), (b"x-one", b"1"), (b"x-one", b"2")]
        assert scope["client"] == client.sock.getsockname()
        wanted = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b/é",
            "raw_path": b"/a%20b/%C3%A9",
            "query_string": b"c=%20d",
            "server": server.address,
        }
        assert {key: scope[key] for key in wanted} == wanted

    def test_a_head_has_no_body(self, client):
        client.send(post(b"abcde").replace(b"POST", b"HEAD") + PING)
        assert client.read(head_only=True).status == 200
        assert client.read().headers["x-path"] == "/ping"

    def test_a_204_has_no_body(self, client):
        client.send(post(b"abcde", path=b"/204") + PING)
        answer = client.read(head_only=True)
        assert answer.status == 204
        assert "content-length" not in answer.headers
        assert client.read().headers["x-path"] == "/ping"

    def test_an_answer_may_be_streamed(self, client):
        client.send(post(b"abcde", path=b"/stream") + PING)
        answer = client.read()
        assert (answer.body, answer.headers["transfer-encoding"]) == (b"abcde", "chunked")
        assert client.read().headers["x-path"] == "/ping"

    @pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1, 20_000_000])
    def test_an_answer_may_be_large(self, client, size):
        client.send(post(b"%d" % size, path=b"/large") + PING)
        assert len(client.read().body) == size
        assert client.read().headers["x-path"] == "/ping"

    def test_an_old_client_gets_one_answer(self, server):
        with server.client() as client:
            client.send(get(b"/echo", version=b"1.0") + PING)
            (answer,) = client.rest()
        assert answer.headers["connection"] == "close"
        assert [path for _, path, _ in server.requests] == ["/echo"]

    def test_an_old_client_may_keep_its_connection(self, client):
        for _ in range(3):
            client.send(post(b"abcde", b"Connection: keep-alive", version=b"1.0"))
            answer = client.read()
            assert (answer.body, answer.headers["connection"]) == (b"abcde", "keep-alive")

    def test_an_old_client_gets_a_stream_until_it_closes(self, client):
        client.send(post(b"abcde", b"Connection: keep-alive", path=b"/stream", version=b"1.0"))
        answer = client.read()
        assert (answer.body, answer.headers["connection"]) == (b"abcde", "close")
        assert "transfer-encoding" not in answer.headers
        assert client.is_closed()

    def test_nothing_follows_a_last_request(self, server, client):
        client.send(get(b"/echo", b"Connection: close") + PING)
        (answer,) = client.rest()
        assert answer.headers["connection"] == "close"
        assert [path for _, path, _ in server.requests] == ["/echo"]

    def test_nothing_follows_an_answer_at_once_that_closes(self, caplog):
        bodies = []

        def express(exchange):
            bodies.append(exchange.take())
            exchange.answer(200, [(b"connection", b"close")], b"answer")
            return True

        server = Server(Limits(), express=express)
        try:
            (answer,) = server.ask(post(b"1") + post(b"2") + post(b"3"))
        finally:
            server.end()
        assert (answer.body, answer.headers["connection"]) == (b"answer", "close")
        assert bodies == [b"1"]
        assert not caplog.records

    def test_nothing_follows_an_answer_that_closes(self, server, client):
        client.send(get(b"/closes") + PING)
        assert [answer.headers["connection"] for answer in client.rest()] == ["close"]
        assert [path for _, path, _ in server.requests] == ["/closes"]

    @pytest.mark.parametrize("path", [b"/raises", b"/nothing", b"/splits", b"/lies"])
    def test_an_application_that_fails_is_a_500_that_says_nothing(self, server, client, path):
        client.send(post(b"abcde", path=path))
        (answer,) = client.rest()
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"secret" not in answer.body

    def test_an_answer_that_breaks_off_has_no_end(self, client):
        client.send(post(b"abcde", path=b"/breaks-off") + PING)
        received = b"".join(iter(lambda: client.sock.recv(1 << 16), b""))
        assert received.endswith(b"\r\n\r\n5\r\nabcde\r\n")

    def test_every_answer_has_the_servers_headers(self, start, client):
        client.send(PING)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", client.read().headers["date"])

    def test_a_connection_ends_where_the_server_says_so_of_all_answers(self, server, client):
        # In place, too: the server changes the very list.
        client.send(PING)
        assert "connection" not in client.read().headers
        server.stop_ticking()
        server.uvicorn.server_state.default_headers[:] = [(b"connection", b"close")]
        client.send(PING + PING)
        answers = client.rest()
        assert [answer.headers.get("connection") for answer in answers] == [None, "close"]


class TestHalfClosed:
    def test_a_client_that_has_said_all_is_answered(self, server):
        body = os.urandom(1_000_000)
        (answer,) = server.ask(post(body))
        assert answer.body == body

    def test_it_is_answered_when_the_answer_comes_late(self, server, client):
        client.send(post(b"1") + get(b"/wait") + post(b"3"))
        client.shut()
        assert client.read().body == b"1"
        assert has_begun(server)
        server.ask(PING)
        server.open_gate()
        assert [answer.headers["x-path"] for answer in client.rest()] == ["/wait", "/echo"]

    def test_one_that_asks_for_nothing_is_let_go(self, server, client):
        until(lambda: server.connections == 1)
        client.shut()
        assert client.is_closed()
        until(lambda: server.connections == 0)


class TestClientsThatLeave:
    def test_the_application_learns_of_it(self, server, client):
        client.send(get(b"/until-gone"))
        assert has_begun(server)
        reset(client.sock)
        assert has_ended(server)
        assert server.application.outcomes == ["http.disconnect"]

    def test_one_that_sends_on_learns_of_it(self, server, client):
        client.send(get(b"/forever"))
        assert client.sock.recv(1)
        reset(client.sock)
        assert has_ended(server)
        (outcome,) = server.application.outcomes
        assert isinstance(outcome, ClientDisconnected)
        until(lambda: not server.uvicorn.server_state.tasks)


class TestTimeouts:
    def test_a_connection_without_a_byte_is_closed_without_a_word(self, start):
        with start(first_byte_timeout=SHORT).client() as client:
            assert client.is_closed()

    def test_empty_lines_are_not_a_beginning(self, start):
        with start(first_byte_timeout=SHORT).client() as client:
            client.send(b"\r\n\r\n")
            assert client.is_closed()

    @pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", PING + b"GET /"])
    def test_a_slow_head_is_refused(self, start, sent):
        with start(header_timeout=SHORT).client() as client:
            client.send(sent)
            *_, answer = client.rest()
        assert (answer.status, answer.code) == (408, "header_timeout")

    @pytest.mark.parametrize(
        "whole", [post(b"x" * 500_000), chunked(b"x" * 500_000)], ids=["length", "chunks"]
    )
    @pytest.mark.parametrize("kept", [-1, -499_000])
    def test_a_slow_body_is_refused(self, start, whole, kept):
        server = start(body_timeout=SHORT)
        with server.client() as client:
            client.send(whole[:kept])
            (answer,) = client.rest()
        assert (answer.status, answer.code) == (408, "body_timeout")
        assert server.requests == []

    @pytest.mark.parametrize("limit", ["header", "body"])
    def test_a_drip_does_not_gain_time(self, start, limit):
        server = start(**{f"{limit}_timeout": SHORT})
        with server.client() as client:
            client.send(PING[:-4] if limit == "header" else post(b"x" * 1000)[:-1000])
            answers = []
            reading = threading.Thread(target=lambda: answers.extend(client.rest()))
            reading.start()
            end = time.monotonic() + PATIENCE
            try:
                while reading.is_alive() and time.monotonic() < end:
                    client.send(b"x")
                    reading.join(SHORT / 20)
            except OSError:
                pass
            reading.join(PATIENCE)
        assert [answer.code for answer in answers] == [f"{limit}_timeout"]

    def test_a_slow_request_is_refused_in_its_turn(self, start):
        server = start(header_timeout=SHORT)
        with server.client() as client:
            client.send(get(b"/wait") + b"GET /")
            assert has_begun(server)
            with server.client() as other:
                other.send(b"GET /")
                assert other.read().code == "header_timeout"
            server.open_gate()
            first, second = client.rest()
        assert (first.status, second.code) == (200, "header_timeout")

    def test_an_idle_connection_is_closed_without_a_word(self, start):
        with start(idle_timeout=SHORT).client() as client:
            client.send(PING)
            assert client.read().status == 200
            assert client.is_closed()

    def test_an_answer_may_take_longer_than_clients_may(self, start):
        server = start(**dict.fromkeys(PATIENT, SHORT))
        with server.at_once(get(b"/wait")) as client, server.at_once(PING) as other:
            assert has_begun(server)
            assert other.read().status == 200
            assert other.is_closed()  # Which takes as long as the other's answer.
            server.open_gate()
            assert client.read().status == 200

    @pytest.mark.parametrize("path", [b"/large", b"/forever"])
    def test_a_client_that_does_not_take_its_answer_is_cut_off(self, start, path):
        server = start(send_timeout=SHORT)
        with server.client() as client:
            client.send(post(b"30000000", path=path))
            assert has_begun(server)
            until(lambda: server.connections == 0)
            with pytest.raises((ConnectionResetError, AssertionError)):
                client.read()
        until(lambda: not server.uvicorn.server_state.tasks)

    def test_a_client_that_takes_its_answer_slowly_gets_it(self, start):
        server = start(send_timeout=1.0)
        with server.client() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            client.send(post(b"30000000", path=b"/large"))
            received, end = 0, time.monotonic() + 3
            while time.monotonic() < end:
                received += len(client.sock.recv(1 << 14))
                time.sleep(0.05)
            while data := client.sock.recv(1 << 20):
                received += len(data)
                if received > 30_000_000:
                    break
        assert received > 30_000_000

    def test_one_that_is_refused_and_never_closes_is_closed(self, start):
        server = start()
        with server.client() as client:
            client.send(b"nonsense\r\n\r\n")
            assert client.read().status == 400
            assert client.is_closed()
            until(lambda: server.connections == 0)


class TestPipelining:
    def test_requests_are_answered_in_order_and_one_at_a_time(self, server, client):
        client.send(get(b"/wait") + b"".join(post(b"%d" % number) for number in range(20)))
        assert has_begun(server)
        server.ask(PING)
        assert [path for _, path, _ in server.requests] == ["/wait", "/ping"]
        server.open_gate()
        assert client.read().headers["x-path"] == "/wait"
        assert [client.read().body for _ in range(20)] == [b"%d" % number for number in range(20)]

    @pytest.mark.parametrize("more", [0, 1, 5000])
    def test_so_many_may_wait_and_no_more(self, start, more):
        server = start(max_pipelined=3)
        with server.client() as client:
            client.send(get(b"/wait") + b"".join(post(b"%d" % number) for number in range(3 + more)))
            assert has_begun(server)
            server.ask(PING)
            server.open_gate()
            client.shut()
            answers = client.rest()
        assert [answer.status for answer in answers[:4]] == [200] * 4
        assert [answer.body for answer in answers[1:4]] == [b"0", b"1", b"2"]
        assert [answer.code for answer in answers[4:]] == ["too_many_pipelined"] * bool(more)
        assert [answer.headers["retry-after"] for answer in answers[4:]] == ["1"] * bool(more)

    def test_a_client_that_waits_for_room_may_send_as_many_as_it_likes(self, start):
        with start(max_pipelined=1).client() as client:
            for number in range(200):
                client.send(post(b"%d" % number))
                assert client.read().body == b"%d" % number

    def test_a_request_behind_another_may_take_its_time(self, server, client):
        request = post(b"x" * 400_000)
        client.send(get(b"/wait") + request[:300_000])
        assert has_begun(server)
        server.open_gate()
        assert client.read().status == 200
        client.send(request[300_000:])
        assert len(client.read().body) == 400_000

    def test_the_next_request_waits_until_the_client_takes_its_answer(self, server, client):
        client.send(post(b"30000000", path=b"/large") + post(b"2"))
        assert has_ended(server)
        server.ask(PING)
        assert [path for _, path, _ in server.requests] == ["/large", "/ping"]
        assert len(client.read().body) == 30_000_000
        assert client.read().body == b"2"

    def test_pipelining_clients_that_do_not_read_harm_nobody_else(self, start):
        server = start(send_timeout=1.0)
        flood = get(b"/large", b"Content-Length: 7") + b"1000000"
        clients = [socket.create_connection(server.address, PATIENCE) for _ in range(50)]
        sending = [threading.Thread(target=_flood, args=(sock, flood * 1000)) for sock in clients]
        for thread in sending:
            thread.start()
        with server.client() as good:
            worst = max(_seconds(good) for _ in range(200))
        pending = [
            connection.transport.get_write_buffer_size()
            for connection in list(server.uvicorn.server_state.connections)
        ]
        until(lambda: server.connections == 0)
        for thread in sending:
            thread.join(PATIENCE)
        for sock in clients:
            sock.close()
        assert worst < 2.0  # It was 4 s without the limits.
        assert max(pending, default=0) < 2_000_000


def _flood(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)


def _seconds(client):
    """Return how much this process has to do until a ping is answered, however little it comes to run."""
    begun = time.process_time()
    client.send(PING)
    assert client.read().status == 200
    return time.process_time() - begun


class TestDrain:
    def test_what_is_in_progress_is_answered(self, server, client):
        client.send(get(b"/wait"))
        assert has_begun(server)
        server.stop()
        until(lambda: not server.uvicorn.servers[0].is_serving())
        server.open_gate()
        (answer,) = client.rest()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.join()

    def test_all_that_were_asked_are_answered_and_the_last_answer_says_that_it_is(self, server, client):
        client.send(get(b"/wait") + post(b"2") + post(b"3"))
        assert has_begun(server)
        server.stop()
        until(lambda: not server.uvicorn.servers[0].is_serving())
        server.open_gate()
        answers = client.rest()
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        assert server.join()

    @pytest.mark.parametrize("kept", [1, 20, -1])
    def test_what_has_begun_to_arrive_is_answered(self, server, client, kept):
        request = post(b"abcde")
        client.send(request[:kept])
        with server.client() as idle:
            idle.send(PING)
            idle.read()
            server.stop()
            assert idle.is_closed()
        client.send(request[kept:])
        (answer,) = client.rest()
        assert (answer.body, answer.headers["connection"]) == (b"abcde", "close")
        assert server.join()

    @pytest.mark.parametrize("before", [b"", PING], ids=["new", "idle"])
    def test_a_connection_may_still_send_a_request_for_a_moment(self, server, client, before, monkeypatch):
        monkeypatch.setattr(protocol, "GRACE", PATIENCE)
        until(lambda: server.connections == 1)
        if before:
            client.send(before)
            client.read()
        server.stop()
        until(lambda: not server.uvicorn.servers[0].is_serving())
        client.send(post(b"abcde"))
        (answer,) = client.rest()
        assert (answer.body, answer.headers["connection"]) == (b"abcde", "close")
        client.shut()
        assert server.join()

    @pytest.mark.parametrize("before", [b"", PING], ids=["new", "idle"])
    def test_then_it_is_closed(self, server, client, before):
        until(lambda: server.connections == 1)
        if before:
            client.send(before)
            client.read()
        server.stop()
        assert client.is_closed()
        assert server.join()

    def test_a_stop_under_load_loses_nothing(self, server, monkeypatch):
        monkeypatch.setattr(protocol, "GRACE", PATIENCE)
        outcomes = []
        stopped = threading.Event()

        def ask_on():
            while True:
                with server.client() as client:
                    while True:
                        client.send(post(b"abcde"))
                        answer = client.read()
                        outcomes.append(answer is not None and answer.body == b"abcde")
                        if answer.headers.get("connection") == "close":
                            break
                if stopped.is_set():
                    return

        threads = [threading.Thread(target=ask_on) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(outcomes) > 200)
        stopped.set()
        server.stop()
        for thread in threads:
            thread.join(PATIENCE)
        assert server.join()
        assert all(outcomes)


class TestMemory:
    @pytest.mark.parametrize(
        ("sent", "at_once"),
        [(chunked(*[b"xy"] * 200_000)[:-5], 100_000), (post(b"x" * 400_000)[:-1], 3)],
        ids=["chunks", "drops"],
    )
    def test_a_body_in_tiny_pieces_takes_little_more_than_its_size(self, sent, at_once):
        reader = RequestReader(Limits(), Budget(10**9), lambda: None, lambda *_: None)
        tracemalloc.start()
        try:
            for at in range(0, len(sent), at_once):
                reader.feed(sent[at : at + at_once])
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2_000_000

    def test_nothing_is_left_of_a_connection(self, server):
        for _ in range(20):
            with server.client() as client:
                client.send(post(b"x" * 100_000), chunked(b"a", b"b"), b"nonsense\r\n\r\n")
                assert len(client.rest()) == 3
        until(lambda: server.connections == 0)
        assert not server.uvicorn.server_state.tasks
