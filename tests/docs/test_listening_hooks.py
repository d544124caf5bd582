"""The middleware of ``docs/how-to/listen-and-wrap.md`` in a real endpoint, installed as its end says."""

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from modelyard import PyTorchModel
from modelyard.core.errors import InvocationError
from modelyard.core.http import Request, Response
from modelyard.core.manager import AUTOLOAD, PluginManager

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "listen-and-wrap.md"
SCRIPT = """
import json

def model_fn(model_dir):
    return sum

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(value, model):
    return model(value)

def output_fn(prediction, accept):
    return json.dumps(prediction), accept
"""


def module_of(name):
    """Return the source of a module that the page shows."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# file: {name}.py\n"))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"')]


@pytest.fixture
def handler():
    """Return what puts the middleware around a handler."""
    module = ModuleType("request_log")
    exec(module_of("request_log"), vars(module))
    plugins = PluginManager(strict=True)
    plugins.register(module)
    return plugins.wrap_handler


class TestAnAnswerThatIsStreamed:
    @staticmethod
    def streaming(request):
        return Response(b"1", chunks=iter([b"23", b"456"]))

    def test_is_logged_when_it_has_ended(self, handler, capsys):
        answer = handler(self.streaming)(Request(b"x"))
        assert next(answer.chunks) == b"23"
        assert capsys.readouterr().err == ""
        assert list(answer.chunks) == [b"456"]
        (line,) = lines_of(capsys.readouterr().err)
        assert (line["event"], line["sent"]) == ("request", 6)

    def test_is_logged_when_the_client_leaves(self, handler, capsys):
        answer = handler(self.streaming)(Request(b"x"))
        next(answer.chunks)
        answer.chunks.close()
        (line,) = lines_of(capsys.readouterr().err)
        assert line["sent"] == 3


def test_a_real_endpoint_logs_its_requests(tmp_path, modelyard_home, monkeypatch):
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "request_log.py").write_text(module_of("request_log"))
    info = site / "acme_listening-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-listening\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\nrequest-log = request_log\n")
    monkeypatch.delenv(AUTOLOAD, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text(SCRIPT)
    assert "request_log" not in sys.modules, "the endpoint has it, not this process"
    with PyTorchModel(model, plugins=PluginManager.builtin()).deploy() as predictor:
        predictor.content_type = predictor.accept = "application/json"
        assert predictor.predict([1, 2]) == 3
        with pytest.raises(InvocationError, match="answered 500"):
            predictor.predict("no numbers")
        answered, failed = lines_of("\n".join(predictor.handle.logs()))
    assert (answered["status"], answered["received"], answered["sent"]) == (200, 5, 1)
    assert (failed["status"], failed["received"]) == (500, 12)
    assert answered["id"] != failed["id"]
