"""One worker's part of an endpoint."""

import json

import pytest

from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.model.folder import ModelFolder
from modelyard.serving.processes.board import Board, Phase
from modelyard.serving.settings import ServerSettings


@pytest.fixture
def board():
    return Board(2)


@pytest.fixture
def application(board, tmp_path):
    """The application of a worker whose model is not loaded yet."""
    folder = ModelFolder(tmp_path, tmp_path)
    endpoint = Endpoint(folder, ServerSettings(), PluginManager.builtin(), ProviderRef("cpu"))
    board.claim()
    return endpoint.application(0, 2, board)


async def ping(application):
    messages = []

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": "GET", "path": "/ping", "query_string": b"", "headers": []}
    await application(scope, None, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages[1:])


def asked(application):
    """Ask for ``/ping`` without an event loop: nothing is waited for."""
    asking = ping(application)
    with pytest.raises(StopIteration) as ended:
        asking.send(None)
    return ended.value.value


def test_a_worker_without_a_model_is_not_ready(application):
    status, body = asked(application)
    assert (status, json.loads(body)["code"]) == (503, "not_ready")


def test_it_says_that_the_endpoint_is_ready_where_a_sibling_is(application, board):
    sibling = board.claim()
    sibling.phase = Phase.READY
    sibling.beat()
    assert asked(application)[0] == 200


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.LOADED, Phase.DRAINING])
def test_a_sibling_that_takes_no_requests_does_not_count(application, board, phase):
    sibling = board.claim()
    sibling.phase = phase
    sibling.beat()
    assert asked(application)[0] == 503


def test_a_sibling_that_was_stopped_does_not_count(application, board):
    sibling = board.claim()
    sibling.phase = Phase.READY
    sibling._words[3] -= 10**9  # Its last sign of life was a second earlier.
    assert asked(application)[0] == 503
