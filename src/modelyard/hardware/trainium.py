"""AWS's Trainium and Inferentia through XLA, and XLA's runtime on the CPU."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.contracts import Command, Host
from modelyard.core.errors import InvalidPlanError
from modelyard.hardware import detection, options, process_group
from modelyard.hardware.detection import CPU_RUNTIME
from modelyard.hardware.torch import TorchHardware

if TYPE_CHECKING:
    import torch

_WORLDS_OF_ONE = (
    "XLA's runtime on the CPU (PJRT_DEVICE=CPU) makes a world of its own of each process, without an error: "
    "{processes} processes would train {processes} models that know nothing of each other. Use one process "
    "(instance_count=1 and processes_per_host=1) and CPU_NUM_DEVICES with SPMD for several devices, or "
    "hardware 'cpu' for several processes"
)


@attrs.frozen
class TrainiumHardware(TorchHardware):
    """NeuronCores, each for one process: what the scripts call ``xla``.

    With ``PJRT_DEVICE=CPU`` in the environment XLA computes on the CPU instead, and one process drives
    all of its devices.

    ``parallel_compile``: whether a job only compiles its graphs, all at once and ahead of the training
    (``neuron_parallel_compile``); so does ``RUN_NEURON_PARALLEL_COMPILE=1``, as in SageMaker's toolkit.

    Inputs of several requests are not stacked: XLA compiles a model anew for each number of rows.
    """

    name: ClassVar[str] = "trainium"
    device_type: ClassVar[str] = "xla"
    collectives: ClassVar[tuple[str, ...]] = ("xla", "gloo")
    instance_types: ClassVar[tuple[str, ...]] = ("ml.trn*", "ml.inf*")

    parallel_compile: bool = options.switch()

    def device_count(self) -> int:
        """Return how many processes can have a core of their own; 1 on the CPU."""
        return detection.neuron_cores().count

    def describe(self) -> str:
        """Return which NeuronCores there are, or why there is none."""
        return detection.neuron_cores().said

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return what XLA needs on `host` to use its NeuronCores; and each process's share of the CPUs.

        From torchrun's variables torch_xla itself makes those of Neuron's runtime.
        """
        return {
            "PJRT_DEVICE": "NEURON",
            **process_group.interface(host, "GLOO"),
            **process_group.fabric(host),
            **process_group.threads(host),
        }

    def prepare(self, command: Command, host: Host, environ: Mapping[str, str]) -> Command:
        """Return the command, with the compiler before it if it is asked for.

        Raises `InvalidPlanError` for several processes on XLA's CPU runtime.
        """
        processes = max(1, command.ranks) * len(host.names)
        if environ.get("PJRT_DEVICE") == CPU_RUNTIME and processes > 1:
            raise InvalidPlanError(_WORLDS_OF_ONE.format(processes=processes))
        if self.parallel_compile or environ.get("RUN_NEURON_PARALLEL_COMPILE") == "1":
            return attrs.evolve(command, argv=("neuron_parallel_compile", *command.argv))
        return command

    def worker_environ(self, index: int) -> Mapping[str, str]:
        """Return what gives a worker of an endpoint the core `index`, and no other, as its device 0."""
        if os.environ.get("PJRT_DEVICE") == CPU_RUNTIME:
            return {}
        cores = detection.core_numbers()
        own = {"NEURON_RT_VISIBLE_CORES": str(cores[index % len(cores)])} if cores else {}
        return {"PJRT_DEVICE": os.environ.get("PJRT_DEVICE", "NEURON"), **own}

    def device(self, index: int) -> "torch.device":
        """Return XLA's device: a worker sees its own core alone."""
        import torch_xla

        device: torch.device = torch_xla.device()
        return device

    def predict(self, model: Any, value: object) -> object:
        """Call the model without gradients and have XLA compute what it says.

        Not in inference mode, in which torch_xla fails where a model changes a buffer of its own.
        """
        import torch
        import torch_xla

        with torch.no_grad():
            prediction = model(value)
        torch_xla.sync()
        return prediction
