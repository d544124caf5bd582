"""The CPU, with gloo between hosts."""

import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.contracts import Host
from modelyard.hardware import batches, modules

if TYPE_CHECKING:
    import numpy as np
    import torch

_NUMERIC = "biufc"
"""numpy's kinds of dtype that torch has tensors of; text and objects are nothing to place."""


@attrs.frozen
class CpuHardware:
    """The host's processor as one device, which all of torch's threads share."""

    name: ClassVar[str] = "cpu"
    device_type: ClassVar[str] = "cpu"
    collectives: ClassVar[tuple[str, ...]] = ("gloo",)
    instance_types: ClassVar[tuple[str, ...]] = ("local", "ml.c*", "ml.m*", "ml.r*", "ml.t[0-9]*")

    def device_count(self) -> int:
        """Return 1."""
        return 1

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return the interface that gloo binds to, where there is more than one host."""
        return {"GLOO_SOCKET_IFNAME": host.network_interface} if len(host.names) > 1 else {}

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
        import numpy as np
        import torch

        if isinstance(value, list):
            value = _numbers(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in _NUMERIC:
            return torch.from_numpy(_shareable(value))
        if isinstance(value, dict):
            return self._placed_items(value)
        if isinstance(value, torch.nn.Module):
            return modules.evaluating(value.to("cpu"))
        return value.to("cpu") if isinstance(value, torch.Tensor) else value

    def _placed_items(self, values: dict[Any, object]) -> object:
        import numpy as np
        import torch

        placed = {
            key: self.place(value)
            for key, value in values.items()
            if isinstance(value, (np.ndarray, torch.Tensor))
        }
        return {**values, **placed} if placed else values

    def predict(self, model: Any, value: object) -> object:
        """Call the model in inference mode."""
        import torch

        with torch.inference_mode():
            return model(value)

    def batch_key(self, value: object) -> Hashable | None:
        """Return what inputs that can be stacked have in common: tensors, alone or in a container."""
        return batches.batch_key(value)

    def stack(self, values: Sequence[object]) -> tuple[object, Sequence[int]]:
        """Return inputs of one `batch_key`, joined along the first dimension, and the rows of each."""
        return batches.stack(values)

    def split(self, prediction: object, sizes: Sequence[int]) -> Sequence[object]:
        """Return a prediction's rows, cut by `sizes`. Raises ``ValueError`` if it has not that many."""
        return batches.split(prediction, sizes)

    def fetch(self, value: object) -> object:
        """Return tensors, also inside lists, tuples and dicts, as arrays; bfloat16 as float32."""
        torch = sys.modules.get("torch")
        if torch is None:  # A model of another kind: nothing can be a tensor.
            return value
        if isinstance(value, torch.Tensor):
            return _to_numpy(value)
        if isinstance(value, dict):
            return {key: self.fetch(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fetch(item) for item in value]
        return value


def _numbers(values: list[Any]) -> object:
    """Return nested lists of numbers as a float32 array, and any other list as it is."""
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError:  # Its rows are of different lengths.
        return values
    return array.astype("float32") if array.dtype.kind in "biuf" else values


def _shareable(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return the array if torch can share its memory, else a copy that it can."""
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="), order="C")
    if array.flags.writeable and all(stride >= 0 for stride in array.strides):
        return array
    return array.copy()


def _to_numpy(tensor: "torch.Tensor") -> object:
    """Return a tensor of any kind as an array; one of rows of different lengths as a list of arrays."""
    if tensor.is_nested:
        return [_to_numpy(row) for row in tensor.unbind()]
    try:
        return tensor.numpy(force=True)
    except TypeError:
        return _ordinary(tensor).numpy(force=True)


def _ordinary(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor that numpy does not know as one that it does: dense, of a dtype of numpy's."""
    import torch

    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype is torch.complex32:
        return tensor.to(torch.complex64)
    known = (torch.float16, torch.float32, torch.float64)
    return tensor.float() if tensor.is_floating_point() and tensor.dtype not in known else tensor
