"""What a client is told of an endpoint that is gone."""

import contextlib
import os
import threading

import pytest

from modelyard.core.errors import EndpointFailedError
from modelyard.core.listening import listen
from modelyard.core.plans import EndpointPlan, ModelSource, ProviderRef
from modelyard.plugins.backends.local import handles
from modelyard.plugins.backends.local.handles import LocalEndpointHandle
from modelyard.plugins.backends.local.records import Records

PLAN = EndpointPlan(
    "gone", ModelSource("file:///model"), ProviderRef("local"), ProviderRef("cpu"), ProviderRef("tarball")
)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "home")


@pytest.fixture
def endpoint(records):
    """An endpoint in service, whose guard lives: its record, and the socket at which it listens."""
    record, lease = records.add("endpoint", "gone", "InService", PLAN.to_json())
    with contextlib.closing(listen("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        records.annotate(record.id, host=host, port=port)
        yield record, listening
    os.close(lease)


def ask(records, record):
    handle = LocalEndpointHandle(records, record, timeout=5.0)
    with pytest.raises(EndpointFailedError) as raised:
        handle.invoke(b"[1]", content_type="a/b", accept="a/b")
    return raised.value.reason


def test_why_a_server_has_ended_is_told_though_its_guard_says_so_later(records, endpoint, monkeypatch):
    """The client may see that it is gone before the guard does."""
    record, listening = endpoint
    listening.close()

    def says(_seconds):
        records.move(record.id, "Failed", since=("InService",), reason="the model server ended")

    monkeypatch.setattr(handles.time, "sleep", says)
    assert ask(records, record) == "the model server ended"


def test_a_guard_that_says_nothing_is_not_waited_for_long(records, endpoint, monkeypatch):
    record, listening = endpoint
    listening.close()
    monkeypatch.setattr(handles, "_SAID_WITHIN", 0.0)
    assert ask(records, record).startswith("it cannot be reached: ")


def test_an_endpoint_that_still_listens_is_not_waited_for(records, endpoint, monkeypatch):
    record, listening = endpoint
    monkeypatch.setattr(handles.time, "sleep", lambda _: pytest.fail("it has waited"))
    hanging_up = threading.Thread(target=lambda: listening.accept()[0].close())
    hanging_up.start()
    assert ask(records, record).startswith("it cannot be reached: ")
    hanging_up.join()
