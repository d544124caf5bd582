"""Hardware for modelyard: accelerators that the CPU simulates, with a process-group backend of their own."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from modelyard import hookimpl
from modelyard.core.contracts import Hardware, Host
from modelyard.hardware.torch import StackedInputs, TorchHardware

MODELYARD_CONTRACT = "1.0"

COUNT = "SIMULATED_DEVICES"
"""The variable that says how many devices this machine has; 1 without it."""


@attrs.frozen
class SimulatedHardware(TorchHardware, StackedInputs):
    """As many devices as ``SIMULATED_DEVICES`` says, which compute on the CPU."""

    name: ClassVar[str] = "simulated"
    device_type: ClassVar[str] = "cpu"
    collectives: ClassVar[tuple[str, ...]] = ("simccl", "gloo")
    instance_types: ClassVar[tuple[str, ...]] = ("local_simulated",)

    def device_count(self) -> int:
        """Return what the variable says, and 0 where that is no number."""
        said = os.environ.get(COUNT, "1")
        return int(said) if said.isdecimal() else 0

    def describe(self) -> str:
        """Return how many there are, and how that is known."""
        return f"{self.device_count()} simulated devices, as {COUNT}={os.environ.get(COUNT)} says"

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return what gloo needs, which carries simccl, and how many devices there are."""
        return {**super().environ(host), COUNT: str(self.device_count())}


@hookimpl
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return the hardware."""
    return (SimulatedHardware,)


def register_backend() -> None:
    """Make ``init_process_group("simccl")`` known; torch calls it, by the entry point ``torch.backends``."""
    import torch.distributed as dist

    if dist.is_available() and "simccl" not in dist.Backend.backend_list:
        dist.Backend.register_backend("simccl", _gloo, devices=["cpu"])


def _gloo(store: Any, rank: int, size: int, timeout: Any) -> Any:
    from torch.distributed import ProcessGroupGloo

    return ProcessGroupGloo(store, rank, size, timeout=timeout)
