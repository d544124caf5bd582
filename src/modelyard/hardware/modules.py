"""Model files that are complete in themselves, and what torch's modules do differently from each other."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core.errors import UserCodeError

if TYPE_CHECKING:
    import torch

_FORCED: Mapping[str, str | None] = {
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": None,
}
"""`torch.export.load` would unpickle anything where ``weights_only`` fails."""


def load(model_dir: Path, device: str) -> object:
    """Load the model of a folder onto `device`: TorchScript, or a program of `torch.export`.

    Raises `UserCodeError` for what cannot be loaded, weights among it: nothing here knows their class.
    """
    # Hardware is counted in programs that load no model.
    from modelyard.core.model_files import ModelFormat, model_file, without_a_class

    file = model_file(model_dir)
    if file.format.is_weights:
        raise without_a_class(file.path)
    if file.format is ModelFormat.EXPORTED:
        return _exported(file.path)
    return torchscript(file.path, device)


def evaluating(module: "torch.nn.Module") -> "torch.nn.Module":
    """Return the module in evaluation mode; an exported program is in the one that it was exported in."""
    # Exported programs refuse: what they do is fixed.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    return module


def moved(device: "torch.device", module: "torch.nn.Module") -> "torch.nn.Module":
    """Move a module, with the constants and the devices in its programs: they were made on the CPU."""
    import torch

    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            _script_onto(device, part)
        elif isinstance(part, torch.fx.GraphModule):
            _graph_onto(device, part)
    return module.to(device)


def _script_onto(device: "torch.device", part: Any) -> None:
    """Move what TorchScript holds, piece by piece: its own `to` and `map_location` do not know XLA."""
    held = *part.named_parameters(recurse=False), *part.named_buffers(recurse=False)
    for name, tensor in held:
        setattr(part, name, tensor.detach().to(device))
    for node in _constants(part):
        if node.kindOf("value") == "t":
            node.t_("value", node.t("value").to(device))
        elif node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))


def _constants(part: Any) -> list[Any]:
    try:
        graph = part.graph
    except RuntimeError:  # A list of modules has no `forward`.
        return []
    # That of `None` has no value.
    return [node for node in graph.findAllNodes("prim::Constant") if node.hasAttribute("value")]


def _graph_onto(device: "torch.device", part: Any) -> None:
    """Move an exported program's constants, which are no buffers, and have it make its tensors there."""
    import torch

    for name, value in list(vars(part).items()):
        if isinstance(value, torch.Tensor):
            setattr(part, name, value.to(device))
    for node in part.graph.nodes:
        if "device" in node.kwargs:
            node.update_kwarg("device", device)
    part.recompile()


def torchscript(path: Path, device: str) -> "torch.jit.ScriptModule":
    """Load a model that ``torch.jit.save`` wrote. Raises `UserCodeError` for another."""
    import torch

    try:
        return torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise UserCodeError(
            f"{path.name} is not a TorchScript model, and there is no model_fn to load it; save it with "
            "torch.jit.save, or define model_fn(model_dir) in the inference script"
        ) from error


def _exported(path: Path) -> object:
    """Load a program of `torch.export`, if nothing in it is code of another kind."""
    import torch

    _check_exported(path)
    try:
        with _environ(_FORCED):
            return torch.export.load(path).module()
    # torch raises whatever the code that meets the fault happens to raise.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserCodeError(
            f"{path.name} is not a program that torch {torch.__version__} can load "
            f"({type(error).__name__}: {reason}); save it with torch.export.save of the same version, or "
            "define model_fn(model_dir) in the inference script"
        ) from error


def _check_exported(path: Path) -> None:
    from modelyard.core.model_files import zip_entries

    entries = zip_entries(path)
    foreign = {
        "is compiled (AOTInductor)": any("/data/aotinductor/" in name for name in entries),
        "holds pickled objects": any("/opaque_obj_" in name for name in entries),
    }
    for what, present in foreign.items():
        if present:
            raise UserCodeError(
                f"{path.name} {what}, which is code of any kind and not loaded by itself: save the program "
                "with torch.export.save, or define model_fn(model_dir) in the inference script"
            )


@contextlib.contextmanager
def _environ(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Have the process's variables changed for the time of the block; None: without that variable."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
