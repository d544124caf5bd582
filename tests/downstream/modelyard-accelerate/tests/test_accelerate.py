from modelyard_accelerate import AccelerateLauncher

from modelyard.testing import LauncherContract, PluginContract


class TestAccelerateLauncher(LauncherContract):
    launcher = AccelerateLauncher()


class TestOneProcess(LauncherContract):
    launcher = AccelerateLauncher(processes_per_host=1)


class TestPlugin(PluginContract):
    plugin = "accelerate"
