"""The built-in hardware keeps the contract."""

from modelyard.hardware.cpu import CpuHardware
from modelyard.hardware.elastic_inference import ElasticInferenceHardware
from modelyard.hardware.trainium import TrainiumHardware
from modelyard.testing import HardwareContract


class TestCpuHardware(HardwareContract):
    hardware = CpuHardware()


class TestElasticInferenceHardware(HardwareContract):
    hardware = ElasticInferenceHardware()


class TestTrainiumHardware(HardwareContract):
    hardware = TrainiumHardware()
