"""The CPU, with gloo between hosts."""

from typing import ClassVar

import attrs

from modelyard.hardware import detection, tensors
from modelyard.hardware.torch import StackedInputs, TorchHardware


@attrs.frozen
class CpuHardware(TorchHardware, StackedInputs):
    """The host's processor as one device, which all of torch's threads share."""

    name: ClassVar[str] = "cpu"
    device_type: ClassVar[str] = "cpu"
    collectives: ClassVar[tuple[str, ...]] = ("gloo", "mpi")
    instance_types: ClassVar[tuple[str, ...]] = ("local", "ml.c*", "ml.m*", "ml.r*", "ml.t[0-9]*")

    def device_count(self) -> int:
        """Return 1."""
        return 1

    def describe(self) -> str:
        """Return how many CPUs there are, and why it is they that are used."""
        return f"{detection.cpus().said}; {detection.gpus().said}"

    def place(self, value: object, index: int = 0) -> object:
        """Return what `TorchHardware.place` returns, on the CPU."""
        return tensors.placed(value, tensors.to_host, tensors.module_to_host)
