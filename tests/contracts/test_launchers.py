"""The built-in launchers keep the contract."""

from importlib.util import find_spec

from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.plugins.launchers.torchrun import TorchrunLauncher
from modelyard.testing import LauncherContract


class TestProcessLauncher(LauncherContract):
    launcher = ProcessLauncher()


class TestTorchrunLauncher(LauncherContract):
    launcher = TorchrunLauncher(processes_per_host=2)
    can_run = find_spec("torch") is not None
