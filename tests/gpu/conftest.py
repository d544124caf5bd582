"""The tests of this folder need a GPU, and a torch that can use it; else they are skipped, and say why."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelyard.hardware import detection

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and (reason := missing()):
            item.add_marker(pytest.mark.skip(reason=reason))


@cache
def missing():
    """Return what is missing, or nothing where CUDA works, whatever the driver's programs say."""
    if find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return ""
    found = detection.gpus()
    return f"torch {torch.__version__} cannot use it: {found.said}" if found.count else found.said


@pytest.fixture
def torch():
    """torch, whose current GPU is the first one again after the test."""
    import torch

    yield torch
    torch.cuda.set_device(0)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Wait longer for a server: torch for GPUs takes its time to be imported, and so does CUDA to start."""
    monkeypatch.setattr("tests.model_server.PATIENCE", 90.0)
