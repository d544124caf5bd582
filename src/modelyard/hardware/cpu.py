"""The CPU, with gloo between hosts."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.contracts import Host
from modelyard.core.errors import UserCodeError

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
        """Load the TorchScript model ``model.pt``, or else the only ``.pt`` or ``.pth`` file.

        This is the default ``model_fn`` of SageMaker's PyTorch model server. Raises `UserCodeError`.
        """
        import torch

        path = _model_file(model_dir)
        try:
            return torch.jit.load(str(path), map_location="cpu")
        except RuntimeError as error:
            raise UserCodeError(
                f"{path.name} is not a TorchScript model, and there is no model_fn to load it; save it with "
                "torch.jit.save, or define model_fn(model_dir) in the inference script"
            ) from error

    def place(self, value: object, index: int = 0) -> object:
        """Return a tensor for an array or a list of numbers; a module in evaluation mode, on the CPU.

        A list has no dtype of its own and becomes float32; an array keeps its dtype.
        """
        import numpy as np
        import torch

        if isinstance(value, torch.nn.Module):
            return value.to("cpu").eval()
        if isinstance(value, list):
            value = _numbers(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in _NUMERIC:
            return torch.from_numpy(_shareable(value))
        return value.to("cpu") if isinstance(value, torch.Tensor) else value

    def predict(self, model: Any, value: object) -> object:
        """Call the model in inference mode."""
        import torch

        with torch.inference_mode():
            return model(value)

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
    native = array.dtype.newbyteorder("=")
    if array.flags.writeable and array.dtype == native and all(stride >= 0 for stride in array.strides):
        return array
    return array.astype(native, order="C")


def _to_numpy(tensor: "torch.Tensor") -> object:
    import torch

    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return tensor.cpu().resolve_conj().resolve_neg().numpy()


def _model_file(model_dir: Path) -> Path:
    default = model_dir / "model.pt"
    if default.is_file():
        return default
    found = sorted(path for path in model_dir.iterdir() if path.suffix in (".pt", ".pth"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserCodeError(
            f"without a model_fn the model folder must hold model.pt, or exactly one .pt or .pth file; "
            f"it holds {names}. Define model_fn(model_dir) in the inference script"
        )
    return found[0]
