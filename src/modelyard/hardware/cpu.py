"""The CPU, with gloo between hosts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from modelyard.core.contracts import Host
from modelyard.hardware import batches, detection, modules, process_group, tensors


@attrs.frozen
class CpuHardware:
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

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return the interface that gloo binds to, and each process's share of the CPUs."""
        return {**process_group.interface(host, "GLOO"), **process_group.threads(host)}

    def load(self, model_dir: Path) -> object:
        """Load the model: ``model.pt``, another file of that stem, or the only one that can be a model.

        That is TorchScript, as in the default ``model_fn`` of SageMaker's PyTorch model server, or a
        program of `torch.export`. Raises `UserCodeError`.
        """
        return modules.load(model_dir, "cpu")

    def place(self, value: object, index: int = 0) -> object:
        """Return a tensor for an array or a list of numbers; a module in evaluation mode, on the CPU.

        A list has no dtype of its own and becomes float32; an array keeps its dtype. Of a dict, such as an
        NPZ file is, the arrays and tensors are placed.
        """
        return tensors.placed(value, tensors.to_host, tensors.module_to_host)

    def predict(self, model: Any, value: object) -> object:
        """Call the model in inference mode."""
        import torch

        with torch.inference_mode():
            return model(value)

    batch_key = staticmethod(batches.batch_key)
    stack = staticmethod(batches.stack)
    split = staticmethod(batches.split)

    def fetch(self, value: object) -> object:
        """Return tensors, also inside lists, tuples and dicts, as arrays; bfloat16 as float32."""
        return tensors.fetched(value)
