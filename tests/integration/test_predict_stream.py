"""Answers that come piece by piece, from an endpoint of this machine."""

import pytest

from modelyard import PyTorchModel
from modelyard.core.contracts import StreamingEndpoint
from modelyard.core.errors import EndpointError, InvocationError

SCRIPT = """
import os
import time


def model_fn(model_dir):
    return None


def transform_fn(model, body, content_type, accept):
    body = bytes(body)
    if body == b"refuse":
        raise ValueError("not this")
    return pieces(body)


def pieces(body):
    yield "first "
    if body == b"die":
        os._exit(9)
    while body == b"for ever":
        time.sleep(0.01)
        yield "and again "
    yield "last"
"""


@pytest.fixture
def predictor(tmp_path, modelyard_home, plugins):
    (tmp_path / "inference.py").write_text(SCRIPT)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("none")
    model = PyTorchModel(str(tmp_path / "model"), entry_point=str(tmp_path / "inference.py"), plugins=plugins)
    with model.deploy() as predictor:
        predictor.content_type = predictor.accept = "text/plain"
        yield predictor


def test_a_stream_from_an_endpoint_of_this_machine(predictor):
    assert isinstance(predictor.handle, StreamingEndpoint)
    pieces = list(predictor.predict_stream("go"))
    assert b"".join(pieces) == b"first last"
    assert len(pieces) == 2

    endless = predictor.predict_stream("for ever")
    assert [next(endless), next(endless)] == [b"first ", b"and again "]
    endless.close()
    assert predictor.predict("go") == "first last", "the worker is not free again"

    with pytest.raises(InvocationError, match="not this"):
        next(predictor.predict_stream("refuse"))

    broken = predictor.predict_stream("die")
    assert next(broken) == b"first "
    with pytest.raises(EndpointError, match="the answer of endpoint 'pytorch.*broke off: .*log is "):
        next(broken)
