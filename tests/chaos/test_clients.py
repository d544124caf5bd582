"""R4, R5, R12, R13: clients that are slow, many, rude or too much, and the good ones beside them."""

import contextlib
import itertools
import json
import random
import resource
import select
import socket
import struct
import time

import pytest
from tests.chaos.corpus.everything import corpus
from tests.chaos.server import PID, until
from tests.chaos.traffic import Traffic
from tests.chaos.wire import exchange, post

from modelyard.serving.settings import Limits

pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024
POST = post(b"x", "text/plain", "text/plain")
GET = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
STALL = 1.0
"""Seconds; 0.5 where client and server do not share two cores with everything else."""

SLEEPER = """
import os, time
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    time.sleep(0.02)
    return str(os.getpid()), "text/plain"
"""

LARGE = """
def model_fn(model_dir): return b"x" * 64_000_000
def transform_fn(model, body, content_type, accept): return model, "application/octet-stream"
"""


@pytest.fixture(autouse=True)
def _room():
    """Let this process have as many connections as it wants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))


class Crowd:
    """Connections that are held open, and dripped on."""

    def __init__(self, server, count):
        self._server = server
        self._count = count
        self.connections = []

    def __enter__(self):
        for _ in range(self._count):
            self.connections.append(self._server.connect())
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()

    def say(self, data):
        """Send to all as much as they take now; those that are closed are passed over."""
        for connection in self.connections:
            connection.settimeout(0)
            with contextlib.suppress(OSError):
                connection.send(data)

    def drip(self, data, seconds, every=0.25):
        """Send `data` to all of them every so often."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.say(data)
            time.sleep(every)


def slowloris(server):
    with Crowd(server, 200) as crowd:
        crowd.say(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n")
        crowd.drip(b"X-A: b\r\n", 4)


def slow_body(server):
    with Crowd(server, 100) as crowd:
        crowd.say(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        crowd.drip(b"x", 4)


def idle(server):
    with Crowd(server, 500):
        time.sleep(3)


def slow_readers(server):
    """50 clients that pipeline 2,000 requests each and read nothing."""
    with Crowd(server, 50) as crowd:
        for _ in range(20):
            crowd.say(GET * 100)
        time.sleep(3)


def cut_off(server):
    """200 clients that reset the connection in the middle of a request, or before its answer."""
    for number in range(200):
        with server.connect() as connection:
            connection.sendall(POST[: 1 + number] if number % 2 else POST)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def burst(server):
    """500 requests at one moment, each on a connection of its own: every one is answered."""
    with Crowd(server, 500) as crowd:
        for connection in crowd.connections:
            connection.settimeout(20)
            connection.sendall(POST.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answers = [connection.recv(4_096) for connection in crowd.connections]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def test_six_kinds_of_hostile_clients(serve, report):
    server = serve(PID).ready()
    base = server.fds()
    workers, stalls, failed = server.workers(), {}, []
    for scenario in (slowloris, slow_body, idle, slow_readers, cut_off, burst):
        with Traffic(server.port, POST, rate=50, timeout=10) as good:
            scenario(server)
        stalls[scenario.__name__] = good.slowest()
        failed += good.failed
    back = until(lambda: all(abs(n - base[pid]) <= 2 for pid, n in server.fds().items()))
    said = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stalls.items())
    report(
        "R4",
        "slowloris 200, slow body 100, idle 500, slow reader 50 x 2000, cut 200, burst 500",
        f"0 good requests failed, no stall > {STALL} s, descriptors back",
        f"{len(failed)} failed; {said}",
    )
    assert failed == []
    assert server.workers() == workers
    assert max(stalls.values()) <= STALL, stalls
    assert back, (base, server.fds())


def _seconds_until_closed(connection, drip=b"", patience=20.0):
    """Return the seconds until the server closes a connection, and what it said before."""
    began, said = time.monotonic(), b""
    while time.monotonic() - began < patience:
        if drip:
            with contextlib.suppress(OSError):
                connection.send(drip)
        if select.select([connection], [], [], 0.2)[0]:
            try:
                data = connection.recv(65_536)
            except ConnectionError:
                data = b""
            if not data:
                return time.monotonic() - began, said
            said += data
    return patience, said


def test_what_takes_too_long_is_ended(serve, report):
    limits = Limits()
    assert limits.header_timeout <= 15
    assert limits.first_byte_timeout <= 30
    times = {"FIRST_BYTE": 2, "HEADER": 2, "BODY": 3, "IDLE": 2, "SEND": 2}
    server = serve(PID, **{f"MODELYARD_SERVE_{k}_TIMEOUT": v for k, v in times.items()}).ready()
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"
    measured = {}
    for what, before, drip, answer, limit in (
        ("silent", b"", b"", b"", 2),
        ("slow first line", b"GET /p", b"i", b"HTTP/1.1 408 ", 2),
        ("slow header", head, b"X-A: b\r\n", b"HTTP/1.1 408 ", 2),
        ("no end of headers", head, b"", b"HTTP/1.1 408 ", 2),
        ("slow body", head + b"Content-Length: 99999\r\n\r\n", b"x", b"HTTP/1.1 408 ", 3),
        ("slow chunks", head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"HTTP/1.1 408 ", 3),
        ("idle after an answer", GET, b"", b"HTTP/1.1 200 ", 2),
    ):
        with server.connect() as connection:
            connection.sendall(before)
            seconds, said = _seconds_until_closed(connection, drip)
        measured[what] = seconds
        assert said.startswith(answer), (what, said)
        assert bool(said) == bool(answer), (what, said)
        # A look every half second, and 2 s in which it throws away what still comes.
        assert limit - 0.5 <= seconds <= limit + 3.5, (what, seconds)
    said = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in measured.items())
    report("R5", "slow headers, silence, slow bodies are ended", f"by their limit, {times}", said)


def test_a_client_that_does_not_take_its_answer_is_cut_off(serve):
    server = serve(LARGE, MODELYARD_SERVE_SEND_TIMEOUT=2).ready()
    base = server.sockets()
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(POST)
        assert until(lambda: server.sockets() != base), base
        assert until(lambda: server.sockets() == base, 8), (base, server.sockets())


def test_more_than_can_be_done(serve, report):
    """100 requests/s are what two workers with a model of 20 ms can do."""
    server = serve(SLEEPER, MODELYARD_SERVE_MAX_QUEUE=8).ready()
    with Traffic(server.port, POST, connections=14, rate=0) as peak:
        time.sleep(4)
    capacity = len(peak.records) / 4
    with (
        Traffic(server.port, GET, connections=2, rate=20) as pings,
        Traffic(server.port, POST, connections=100, rate=5 * capacity) as load,
    ):
        time.sleep(1)
        begin = time.monotonic()
        time.sleep(10)
        end = time.monotonic()
    goodput = load.rate(begin, end)
    refused = load.results[429]
    report(
        "R12",
        "overload, 5 times the capacity for 10 s",
        "only 200 and 429, a 429 in < 0.25 s (p99), goodput >= 90 %, p99 of accepted <= 2x, /ping < 1 s",
        f"{dict(load.results)}, 429 in {load.percentile(0.99, 429) * 1e3:.0f} ms, "
        f"goodput {goodput:.0f} of {capacity:.0f}/s, p99 {load.percentile(0.99) * 1e3:.0f} "
        f"after {peak.percentile(0.99) * 1e3:.0f} ms, ping {pings.slowest() * 1e3:.0f} ms",
    )
    assert set(load.results) == {200, 429}
    assert refused > 0
    assert goodput >= 0.9 * capacity
    assert load.percentile(0.99, 429) < 0.25
    assert load.percentile(0.99) <= 2 * peak.percentile(0.99)
    assert pings.failed == []
    assert pings.slowest() < 1.0


def test_a_refusal_says_when_to_come_again(serve):
    server = serve(SLEEPER, workers=1, MODELYARD_SERVE_MAX_QUEUE=1).ready()
    with Crowd(server, 8) as crowd:
        crowd.say(POST)
        answers = []
        for connection in crowd.connections:
            connection.settimeout(20)
            answers.append(connection.recv(4_096))
    refused = [answer for answer in answers if b" 429 " in answer[:20]]
    assert refused
    for answer in refused:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nretry-after: 1" in head.lower()
        assert json.loads(body)["code"] == "queue_full"


@pytest.mark.torch
def test_thirty_thousand_requests(serve, tmp_path, report):
    server = serve(MODELYARD_SERVE_BODY_TIMEOUT="5").ready()
    closing = [
        case for case in corpus(tmp_path / "canary") if not case.slow and isinstance(case.request, bytes)
    ]
    random.Random(1).shuffle(closing)
    kinds = (
        post(b"[[1, 2], [3, 4]]"),
        post(b"1,2\n3,4\n", "text/csv"),
        post(b"[1, 2]", accept="application/x-npy"),
        post(b"[NaN]"),
        post(b"[1,", accept="text/csv"),
        post(b"[1]", "video/mp4"),
        post(accept="text/html"),
        post(b"", "text/csv"),
        post(b"\x93NUMPY", "application/x-npy"),
        GET,
        GET.replace(b"/ping", b"/nothing"),
    )

    def go(count, cases):
        """Send `count` requests on connections that are kept, and meanwhile those cases."""
        with Traffic(server.port, *kinds, connections=8, rate=0) as mixed:
            for number, case in enumerate(itertools.islice(cases, count // 20)):
                exchange(server.port, case.request, ends=case.ends, patience=30, number=number)
            seconds = count / 2_000
            time.sleep(seconds)
        return mixed

    cases = itertools.cycle(closing)
    go(5_000, cases)
    before, fds, workers = server.rss(), server.fds(), server.workers()
    sent, results = 0, {}
    while sent < 30_000:
        mixed = go(10_000, cases)
        sent += len(mixed.records) + 500
        results = {kind: results.get(kind, 0) + count for kind, count in mixed.results.items()}
    assert server.workers() == workers
    back = until(lambda: all(abs(n - fds[pid]) <= 2 for pid, n in server.fds().items()))
    growth = {pid: (now - before[pid]) / MIB for pid, now in server.rss().items()}
    report(
        "R13",
        f"{sent} good and bad requests",
        "RSS growth <= 20 MiB, descriptors +-2, no zombies",
        f"{', '.join(f'{mib:+.1f} MiB' for mib in growth.values())}; {server.fds()} after {fds}; "
        f"{len(server.zombies())} zombies",
    )
    assert set(results) == {200, 400, 404, 406, 415}
    assert max(growth.values()) <= 20
    assert back, (fds, server.fds())
    assert server.zombies() == []
