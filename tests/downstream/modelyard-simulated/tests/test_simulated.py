import pytest
from modelyard_simulated import SimulatedHardware

from modelyard.testing import HardwareContract, PluginContract


class TestSimulatedHardware(HardwareContract):
    hardware = SimulatedHardware()

    @pytest.mark.parametrize(("said", "count"), [("4", 4), ("0", 0), ("many", 0)])
    def test_the_variable_says_how_many(self, monkeypatch, said, count):
        monkeypatch.setenv("SIMULATED_DEVICES", said)
        assert self.hardware.device_count() == count
        assert said in self.hardware.describe()


class TestPlugin(PluginContract):
    plugin = "simulated"
