"""The built-in hardware keeps the contract."""

from modelyard.hardware.cpu import CpuHardware
from modelyard.hardware.cuda import CudaHardware
from modelyard.hardware.elastic_inference import ElasticInferenceHardware
from modelyard.hardware.trainium import TrainiumHardware
from modelyard.testing.hardware import HardwareContract


class TestCpuHardware(HardwareContract):
    hardware = CpuHardware()


class TestCudaHardware(HardwareContract):
    hardware = CudaHardware()


class TestElasticInferenceHardware(HardwareContract):
    hardware = ElasticInferenceHardware()


class TestTrainiumHardware(HardwareContract):
    hardware = TrainiumHardware()
