"""Models that are saved as weights alone: the user's script has their class."""

import inspect
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from modelyard.core.errors import UserCodeError
from modelyard.core.log import get_logger
from modelyard.core.model_files import ModelFormat, listed, model_file, without_a_class
from modelyard.serving.model.blame import blamed
from modelyard.serving.model.folder import ModelFolder

MODEL_CLASS = "model_class"
"""The name in a script of what is called for a model to put the weights into."""

_SOUND_TORCH = (2, 10)
"""The version from which ``weights_only`` keeps its promise: CVE-2026-24747 is fixed."""
_WRAPPERS = {
    "module.": "they were saved from DistributedDataParallel or DataParallel: save model.module.state_dict()",
    "_orig_mod.": "they were saved from torch.compile: save the state_dict of the model that was compiled",
}
_SHOWN = 6

_log = get_logger(__name__)

_Misfit = tuple[list[str], list[str]]
"""The names of a model's weights that the file lacks, and those of the file that the model has not."""


def load(folder: ModelFolder, script: ModuleType) -> object | None:
    """Return the script's model with the weights of the model's file; None where the file is no weights.

    The model is what ``model_class`` of the script gives, called without arguments; where there is no
    such name, an object of the one class of modules that is the user's own among the script's names. The
    weights are a safetensors file or a ``state_dict`` written by ``torch.save``, in which nothing but
    tensors is ever unpickled; they must be the model's, name by name. Raises `UserCodeError`.
    """
    try:
        file = model_file(folder.root)
    except UserCodeError:
        return None  # Hardware may know better, and otherwise says the same.
    if not file.format.is_weights:
        return None
    make = _maker(script, folder)
    if make is None:
        raise without_a_class(file.path)
    model = _made(make, folder)
    fill = _fill_from_safetensors if file.format is ModelFormat.SAFETENSORS else _fill_from_pickle
    missing, unexpected = fill(model, file.path)
    if missing or unexpected:
        raise UserCodeError(_misfit(file.path.name, type(model).__name__, missing, unexpected))
    return model


# -- the class -------------------------------------------------------------------------------------


def _maker(script: ModuleType, folder: ModelFolder) -> Callable[[], object] | None:
    """Return what makes the model; None where the script has nothing of the kind."""
    named = getattr(script, MODEL_CLASS, None)
    if named is not None and not callable(named):
        raise UserCodeError(f"{MODEL_CLASS} must be a class, or a function that makes the model: {named!r}")
    if named is not None:
        return _checked(named, MODEL_CLASS)
    classes = {value for value in vars(script).values() if _is_module_of(value, folder)}
    if len(classes) > 1:
        names = sorted(cls.__name__ for cls in classes)
        raise UserCodeError(
            f"which class do the weights belong to: {', '.join(names)}? Say it in the inference script: "
            f"{MODEL_CLASS} = {names[0]}"
        )
    return next((_checked(cls, cls.__name__) for cls in classes), None)


def _is_module_of(value: object, folder: ModelFolder) -> bool:
    """Tell whether a value is a class of torch modules that is the user's own."""
    import torch

    return isinstance(value, type) and issubclass(value, torch.nn.Module) and folder.defines(value)


def _checked(make: Callable[[], object], name: str) -> Callable[[], object]:
    """Return `make` if it can be called without arguments."""
    try:
        signature = inspect.signature(make)
    except ValueError:  # Of a builtin: the call will tell.
        return make
    try:
        signature.bind()
    except TypeError as error:
        raise UserCodeError(
            f"{name}{signature} takes arguments, which the weights do not tell: add a line such as "
            f"{MODEL_CLASS} = lambda: Net(10) to the inference script, or define model_fn(model_dir) there"
        ) from error
    return make


def _made(make: Callable[[], object], folder: ModelFolder) -> object:
    import torch

    with blamed("the model's class", folder):
        model = make()
    if not isinstance(model, torch.nn.Module):
        raise UserCodeError(f"{MODEL_CLASS} must make a torch.nn.Module, not {type(model).__name__}")
    return model


# -- the weights -----------------------------------------------------------------------------------


def _fill_from_safetensors(model: Any, path: Path) -> _Misfit:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_model
    except ImportError as error:
        raise UserCodeError(
            f"{path.name} needs the package safetensors: list it in code/requirements.txt, or run "
            "'pip install safetensors'"
        ) from error
    try:
        # Knows of weights that share their memory, of which the file has one name only.
        missing, unexpected = load_model(model, path, strict=False)
    except SafetensorError as error:
        raise UserCodeError(f"{path.name} is damaged, or no safetensors file: {error}") from error
    except RuntimeError as error:
        raise _of_other_sizes(model, path, error) from error
    return sorted(missing), sorted(unexpected)


def _fill_from_pickle(model: Any, path: Path) -> _Misfit:
    import torch

    _warn_of_old(torch.__version__)
    try:
        # Mapped into memory: the tensors are copied once, into the model.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserCodeError(
            f"{path.name} holds more than tensors, and is not unpickled, which could run any code: save "
            "model.state_dict() with torch.save, or define model_fn(model_dir) in the inference script"
        ) from error
    except Exception as error:  # A damaged file makes it raise nearly anything.
        raise UserCodeError(f"{path.name} cannot be read by torch.load: {_first_line(error)}") from error
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserCodeError(_no_state(path.name, state))
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _of_other_sizes(model, path, error) from error
    return found.missing_keys, found.unexpected_keys


def _warn_of_old(version: str) -> None:
    if tuple(map(int, version.split(".")[:2])) < _SOUND_TORCH:
        _log.warning(
            "this version of torch may run code that is hidden in a file of torch.save (CVE-2026-24747): "
            "install torch 2.10 or later, or save the weights as safetensors",
            version=version,
        )


def _of_other_sizes(model: Any, path: Path, error: RuntimeError) -> UserCodeError:
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    return UserCodeError(f"{path.name} does not fit {type(model).__name__}: {' '.join(lines[:_SHOWN])}")


def _no_state(name: str, state: object) -> str:
    what = type(state).__name__
    if isinstance(state, dict):
        what = f"a dict of {listed(map(str, state)) or 'nothing'}"
    return (
        f"{name} holds {what} and is no state_dict: save model.state_dict() itself, or define "
        "model_fn(model_dir) in the inference script"
    )


def _misfit(name: str, cls: str, missing: list[str], unexpected: list[str]) -> str:
    wrong = [
        f"{what}: {listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    hints = (hint for prefix, hint in _WRAPPERS.items() if unexpected and unexpected[0].startswith(prefix))
    return f"the weights in {name} are not those of {cls}: {'; '.join(wrong)}{'. '.join(['', *hints])}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
