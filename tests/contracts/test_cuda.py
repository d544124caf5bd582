"""CUDA keeps the contract of hardware. In a file of its own, since a kind of hardware can be left out."""

import pytest

from modelyard.testing import HardwareContract

cuda = pytest.importorskip("modelyard.hardware.cuda", reason="this copy has no hardware cuda")


class TestCudaHardware(HardwareContract):
    hardware = cuda.CudaHardware()
