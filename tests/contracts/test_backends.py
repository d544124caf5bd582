"""The built-in backends keep the contract."""

import pytest

from modelyard.plugins.backends.local.backend import LocalBackend
from modelyard.testing import BackendContract


@pytest.mark.usefixtures("modelyard_home")
class TestLocalBackend(BackendContract):
    backend_class = LocalBackend
