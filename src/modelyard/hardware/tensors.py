"""Between what codecs read and what torch computes with, whatever the device."""

import sys
from typing import TYPE_CHECKING, Any, Protocol

from modelyard.hardware.modules import evaluating

if TYPE_CHECKING:
    import numpy as np
    import torch

_NUMERIC = "biufc"
"""numpy's kinds of dtype that torch has tensors of; text and objects are nothing to place."""


class Mover(Protocol):
    """Brings tensors and modules onto a device."""

    def move(self, device: Any, tensor: Any) -> Any:
        """Return the tensor on the device."""
        ...

    def move_module(self, device: Any, module: Any) -> Any:
        """Return the module on the device."""
        ...


def placed(value: object, mover: Mover, device: Any) -> object:
    """Return tensors for arrays and lists of numbers, moved; a module, moved and in evaluation mode.

    A list has no dtype of its own and becomes float32; an array keeps its dtype. Of a dict, such as an
    NPZ file is, the arrays and tensors are placed. Anything else is returned as it is.
    """
    import numpy as np
    import torch

    if isinstance(value, list):
        value = _numbers(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _NUMERIC:
            return value
        return mover.move(device, torch.from_numpy(_shareable(value)))
    if isinstance(value, torch.Tensor):
        return mover.move(device, value)
    if isinstance(value, dict):
        return _placed_items(value, mover, device)
    if isinstance(value, torch.nn.Module):
        return evaluating(mover.move_module(device, value))
    return value


def _placed_items(values: dict[Any, object], mover: Mover, device: Any) -> object:
    import numpy as np
    import torch

    found = {
        key: placed(value, mover, device)
        for key, value in values.items()
        if isinstance(value, (np.ndarray, torch.Tensor))
    }
    return {**values, **found} if found else values


def fetched(value: object) -> object:
    """Return tensors, also inside lists, tuples and dicts, as arrays; bfloat16 as float32."""
    torch = sys.modules.get("torch")
    if torch is None:  # A model of another kind: nothing can be a tensor.
        return value
    if isinstance(value, torch.Tensor):
        return _to_numpy(value)
    if isinstance(value, dict):
        return {key: fetched(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fetched(item) for item in value]
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
