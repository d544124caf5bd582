"""What is the same on every kind of device that torch knows: base classes for new kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelyard.core.contracts import Host
from modelyard.hardware import batches, modules, process_group, tensors

if TYPE_CHECKING:
    import torch


class TorchHardware:
    """A kind of device, for classes that say the rest: ``name``, ``device_type`` and `device_count`.

    ::

        @attrs.frozen
        class GaudiHardware(TorchHardware):
            name: ClassVar[str] = "gaudi"
            device_type: ClassVar[str] = "hpu"
            collectives: ClassVar[tuple[str, ...]] = ("hccl", "gloo")
            instance_types: ClassVar[tuple[str, ...]] = ("ml.dl*",)

            def device_count(self) -> int:
                return len(list(Path("/dev/accel").glob("accel[0-9]*")))

    What differs more overrides `device`, `move` or `move_module`. With `StackedInputs` as a second base the
    inputs of several requests are one call of the model.
    """

    __slots__ = ()

    name: ClassVar[str]
    device_type: ClassVar[str]
    collectives: ClassVar[tuple[str, ...]] = ("gloo",)
    instance_types: ClassVar[tuple[str, ...]] = ()

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return the interface that gloo binds to, and each process's share of the CPUs."""
        return {**process_group.interface(host, "GLOO"), **process_group.threads(host)}

    def load(self, model_dir: Path) -> object:
        """Load the model into the host's memory: `place` knows which device.

        The file is ``model.pt``, another one of that stem, or the only one that can be a model:
        TorchScript, as in the default ``model_fn`` of SageMaker's PyTorch model server, or a program of
        `torch.export`. Raises `UserCodeError`.
        """
        return modules.load(model_dir, "cpu")

    def place(self, value: object, index: int = 0) -> object:
        """Return a tensor for an array or a list of numbers; a module in evaluation mode; on a device.

        A list has no dtype of its own and becomes float32; an array keeps its dtype. Of a dict, such as an
        NPZ file is, the arrays and tensors are placed.
        """
        return tensors.placed(value, self, self.device(index))

    def device(self, index: int) -> "torch.device":
        """Return torch's name for the device `index`, by which it is used from now on."""
        import torch

        return torch.device(self.device_type, index)

    def move(self, device: "torch.device", tensor: "torch.Tensor") -> "torch.Tensor":
        """Return the tensor in the memory of a device."""
        return tensor.to(device)

    def move_module(self, device: "torch.device", module: "torch.nn.Module") -> "torch.nn.Module":
        """Return the module on a device, with the constants and devices in its programs."""
        return modules.moved(device, module)

    def predict(self, model: Any, value: object) -> object:
        """Call the model in inference mode."""
        import torch

        with torch.inference_mode():
            return model(value)

    def fetch(self, value: object) -> object:
        """Return tensors, also inside lists, tuples and dicts, as arrays; bfloat16 as float32."""
        return tensors.fetched(value)


class StackedInputs:
    """Inputs of several requests as one input, for devices to which the number of rows is all the same."""

    __slots__ = ()

    batch_key = staticmethod(batches.batch_key)
    stack = staticmethod(batches.stack)
    split = staticmethod(batches.split)
