"""The built-in launchers keep the contract."""

from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.testing.launchers import LauncherContract


class TestProcessLauncher(LauncherContract):
    launcher = ProcessLauncher()
