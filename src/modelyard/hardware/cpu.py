"""The CPU, with gloo between hosts."""

from functools import cache
from typing import TYPE_CHECKING, ClassVar

import attrs

from modelyard.hardware import detection
from modelyard.hardware.torch import StackedInputs, TorchHardware

if TYPE_CHECKING:
    import torch


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

    def device(self, index: int) -> "torch.device":
        """Return the one that there is, whatever the index."""
        return _cpu()

    def move(self, device: "torch.device", tensor: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor in the memory of the CPU."""
        # Asked first: most are there, and to have torch find that out takes as long as to make a tensor.
        return tensor if tensor.is_cpu else tensor.cpu()

    def move_module(self, device: "torch.device", module: "torch.nn.Module") -> "torch.nn.Module":
        """Return the module in the memory of the CPU."""
        return module.to("cpu")


@cache
def _cpu() -> "torch.device":
    import torch

    return torch.device("cpu")
