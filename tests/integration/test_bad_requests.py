"""The corpus of bad requests of ``nox -s chaos`` against the real server, without its slow cases."""

import pytest
from tests.chaos.corpus.everything import corpus
from tests.chaos.corpus.run import violations
from tests.chaos.server import Server
from tests.chaos.wire import exchange, post, problems

pytestmark = pytest.mark.torch

GROUPS = ("npy", "npz", "torch", "json", "csv", "pickle", "media", "http", "paths")


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    return tmp_path_factory.mktemp("canary") / "file"


@pytest.fixture(scope="module")
def cases(canary):
    return [case for case in corpus(canary) if not case.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("ml"), workers=1, MODELYARD_SERVE_BODY_TIMEOUT="2")
    try:
        yield server.ready()
    finally:
        server.end()


def test_every_case_is_in_a_group(cases):
    assert {case.group for case in cases} == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_bad_requests_are_answered_and_do_no_harm(server, cases, canary, group):
    workers = server.workers()
    found, _ = violations(server, [case for case in cases if case.group == group], clients=2)
    assert not found, "\n".join(found)
    assert server.workers() == workers
    assert not canary.exists()


@pytest.mark.parametrize(
    ("want", "answers", "secrets", "said"),
    [
        ({400}, 1, (), "status 200, not [400]"),
        ({200}, 0, (), "1 answers to one request"),
        ({200}, 1, (b"1.0",), "a leak"),
    ],
)
def test_what_is_wrong_with_an_answer_is_found(server, want, answers, secrets, said):
    (problem,) = problems(exchange(server.port, post()), want, answers=answers, secrets=secrets)
    assert said in problem
