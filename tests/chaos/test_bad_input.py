"""R1-R3: whatever a client sends, it gets an answer of its own fault, and nobody else notices."""

import socket

import pytest
from tests.chaos import fuzz
from tests.chaos.corpus.everything import corpus
from tests.chaos.corpus.run import violations
from tests.chaos.server import until
from tests.chaos.traffic import Traffic
from tests.chaos.wire import CLOSED, exchange, local_secrets, post, problems

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

MIB = 1024 * 1024
MEMORY = 768 * MIB
"""Per worker: malloc keeps up to 256 MiB of what bodies of 5 MB and more have needed, and torch is in it."""


def test_a_corpus_of_bad_requests(serve, tmp_path, report):
    canary = tmp_path / "canary"
    server = serve(MODELYARD_SERVE_BODY_TIMEOUT="10").ready()
    workers, fds = server.workers(), server.fds()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        cases = corpus(canary, elsewhere.getsockname()[1])
        with Traffic(server.port, post(b"[1, 2]"), rate=40) as good:
            found, slowest = violations(server, cases, clients=3)
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    largest = max(server.rss().values())
    groups = len({case.group for case in cases})
    report(
        "R1",
        f"{len(cases)} bad requests of {groups} groups",
        "0 violations",
        f"{len(found)}, slowest {slowest[0][0]:.1f} s ({slowest[0][1]}), {largest // MIB} MiB per worker",
    )
    report(
        "R2", "40 good requests/s beside them", "0 failed; p99 <= 1 s here (60 ms on cores of its own)", good
    )
    assert not found, "\n".join(found[:50])
    assert not canary.exists()
    assert server.workers() == workers
    assert largest < MEMORY
    assert until(lambda: _back_to(fds, server.fds())), (fds, server.fds())
    assert good.failed == []
    assert good.percentile(0.99) <= 1.0


def test_good_requests_that_were_tampered_with(serve, report):
    server = serve(MODELYARD_SERVE_BODY_TIMEOUT="10").ready()
    assert server.ask(body=b"[1]", headers={"content-type": "application/json"})[0] == 200
    workers, secrets = server.workers(), local_secrets(server.base)
    want = frozenset({CLOSED, *range(200, 500)})
    found, slowest = [], 0.0
    for seed in (1, 2, 3):
        for number, request in enumerate(fuzz.requests(seed, 2_000)):
            outcome = exchange(server.port, request, ends=True)
            slowest = max(slowest, outcome.seconds)
            wrong = problems(outcome, want, answers=1_000, secrets=secrets)
            found += [f"seed {seed}, request {number}: {said}; {request[:500]!r}" for said in wrong]
    report("R3", "fuzz, 3 seeds of 2000", "0 of 5xx, hang, leak", f"{len(found)}, slowest {slowest:.2f} s")
    assert not found, "\n".join(found[:50])
    assert server.workers() == workers


def test_requests_by_the_document_and_against_it(serve, report):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from tests.chaos.conformance import breaches, operations

    server = serve(MODELYARD_SERVE_BODY_TIMEOUT="10").ready()
    workers = server.workers()
    found = [breach for operation in operations(server.port) for breach in breaches(operation, examples=300)]
    report(
        "R3",
        "schemathesis, 300 requests by the document and 300 against it, per operation",
        "0 breaches",
        len(found),
    )
    assert not found, "\n\n".join(found)
    assert server.workers() == workers


def _back_to(base, now):
    return base.keys() == now.keys() and all(abs(now[pid] - count) <= 3 for pid, count in base.items())
