"""The built-in hardware keeps the contract."""

from modelyard.hardware.cpu import CpuHardware
from modelyard.testing.hardware import HardwareContract


class TestCpuHardware(HardwareContract):
    hardware = CpuHardware()
