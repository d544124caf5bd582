"""What runs on XLA's CPU runtime: `nox -s xla` installs torch_xla, and the torch that it needs."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    if find_spec("torch_xla") is None:
        reason = "torch_xla is not installed"
    elif os.environ.get("PJRT_DEVICE") != "CPU":
        reason = "PJRT_DEVICE is not CPU"
    else:
        return
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason=reason))
