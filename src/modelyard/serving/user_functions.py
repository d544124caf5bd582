"""The user's functions: found, imported, their signatures read once.

The names, their arguments and the rule for ``context`` are those of SageMaker's PyTorch model
server (sagemaker-inference ``transformer.py``): a function that takes one positional parameter more
than its slot has is handed the context. Unlike there, a further parameter with a default is only
handed it when it is called ``context``, and a keyword-only ``context`` works.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from modelyard.core.errors import UserCodeError
from modelyard.core.log import get_logger

_log = get_logger(__name__)

Function = Callable[..., Any]
"""A user's function in a common form: its arguments, and always the context as the last one."""

_SLOTS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_PACKAGING = (
    "The archive must hold the model's files at its top and the script in code/: make it inside the model's "
    "folder (cd my_model && tar czvf ../model.tar.gz *), not from its parent, and look with "
    "tar tvf model.tar.gz"
)


@attrs.frozen
class UserFunctions:
    """What the inference script defines; None where it leaves a step to the default."""

    model_fn: Function | None = None
    input_fn: Function | None = None
    predict_fn: Function | None = None
    output_fn: Function | None = None
    transform_fn: Function | None = None


def load(model_dir: Path, program: str | None) -> UserFunctions:
    """Return the functions of `program` in ``code/`` or in `model_dir` itself.

    Without a program ``inference.py`` is looked for, and its absence leaves everything to the
    defaults. Raises `UserCodeError` for a program that is named and missing, a module that cannot
    be imported, and functions that do not go together.
    """
    found_at = _find((model_dir / "code", model_dir), program or "inference.py")
    if found_at is None and program:
        raise UserCodeError(
            f"{program} is neither in code/ nor at the top of the model archive. {_PACKAGING}"
        )
    if found_at is None:
        return UserFunctions()
    folder, path = found_at
    if (folder / "requirements.txt").is_file():
        _log.warning("requirements.txt is not installed: the endpoint uses the packages of this environment")
    module = _import(path, folder)
    found = {name: getattr(module, name, None) for name in _SLOTS}
    functions = UserFunctions(
        **{name: with_context(function, name, _SLOTS[name]) for name, function in found.items() if function}
    )
    steps = [name for name in ("input_fn", "predict_fn", "output_fn") if found[name]]
    if functions.transform_fn and steps:
        raise UserCodeError(
            f"{path.name} defines transform_fn and {', '.join(steps)}: transform_fn does all three steps, so "
            "define either it or them"
        )
    return functions


def with_context(function: Any, name: str, slots: int) -> Function:
    """Return `function` in a form that takes `slots` arguments and the context.

    Raises `UserCodeError` where it can be called neither with nor without the context.
    """
    if not callable(function):
        raise UserCodeError(f"{name} must be a function, not {function!r}")
    if inspect.iscoroutinefunction(function):
        raise UserCodeError(f"{name} is async: it would be called without being awaited; use a plain def")
    signature = inspect.signature(function)
    positional = [p for p in signature.parameters.values() if p.kind in _POSITIONAL]
    required = [p for p in positional if p.default is p.empty]
    context = signature.parameters.get("context")
    given, named = slots, {}
    wrapped: Function = lambda *args: function(*args[:-1])  # noqa: E731 - one of three forms
    if context is not None and context.kind is context.KEYWORD_ONLY:
        named = {"context": None}
        wrapped = lambda *args: function(*args[:-1], context=args[-1])  # noqa: E731 - as above
    elif len(required) == slots + 1 or (len(positional) > slots and positional[slots].name == "context"):
        given, wrapped = slots + 1, function
    try:
        signature.bind(*range(given), **named)
    except TypeError as error:
        raise UserCodeError(
            f"{name}{signature} does not fit: it is called with {slots} arguments, "
            f"or with {slots + 1} where it takes the context ({error})"
        ) from error
    return wrapped


def _find(folders: Iterable[Path], program: str) -> tuple[Path, Path] | None:
    """Return the folder that holds `program`, also given without its ``.py``, and the file."""
    candidates = ((folder, folder / name) for folder in folders for name in (program, f"{program}.py"))
    return next(((folder, path) for folder, path in candidates if path.is_file()), None)


def _import(path: Path, folder: Path) -> ModuleType:
    """Import the file as a module of its own name; its folder is first on the path as for a script.

    `folder` follows, which is another one for a program such as ``pkg/inference.py``.
    """
    name = path.stem if path.stem not in sys.modules else f"modelyard_user_{path.stem}"
    sys.path[:0] = dict.fromkeys((str(path.parent), str(folder)))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path.name} is not a Python file: the program of an endpoint must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
