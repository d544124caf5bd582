"""The built-in plugins keep the contract of plugins, which third parties' are held to."""

import pytest

from modelyard.core.discovery import BUILTIN_PLUGINS
from modelyard.testing import PluginContract


class TestBuiltInPlugins(PluginContract):
    @pytest.fixture(autouse=True, params=BUILTIN_PLUGINS)
    def _plugin(self, request):
        self.plugin = request.param
