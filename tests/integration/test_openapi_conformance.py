"""The real server keeps to its own OpenAPI document: schemathesis asks by it, and judges the answers."""

import pytest
from tests.chaos.server import Server

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from tests.chaos.conformance import breaches, operations

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("ml"), workers=1, MODELYARD_SERVE_BODY_TIMEOUT="2")
    try:
        yield server.ready()
    finally:
        server.end()


def test_every_operation_does_what_the_document_says(server):
    found = [breach for operation in operations(server.port) for breach in breaches(operation, examples=20)]
    assert not found, "\n\n".join(found)
    assert server.ping() == 200


def test_the_document_has_every_path(server):
    paths = {operation.path for operation in operations(server.port)}
    assert {"/ping", "/invocations", "/metrics", "/docs", "/execution-parameters"} <= paths
