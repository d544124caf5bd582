"""The user's functions: found, imported, their signatures read once.

The names, their arguments and the rule for ``context`` are those of SageMaker's PyTorch model
server (sagemaker-inference ``transformer.py``): a function that takes one positional parameter more
than its slot has is handed the context. Unlike there, a further parameter with a default is only
handed it when it is called ``context``, and a keyword-only ``context`` works.
"""

import functools
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
from modelyard.serving.model.folder import ModelFolder
from modelyard.serving.waiting import parking

_log = get_logger(__name__)

Function = Callable[..., Any]
"""A user's function in a common form: its arguments, and always the context as the last one."""

_SLOTS = {
    "pre_model_fn": 1,
    "model_fn": 1,
    "model_warmup_fn": 2,
    "input_fn": 2,
    "predict_fn": 2,
    "batch_predict_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class UserFunctions:
    """What the inference script defines; None where it leaves a step to the default.

    ``module``: the script itself; ``are_async``: whether one of the functions is ``async def``.
    """

    module: ModuleType | None = attrs.field(default=None, eq=False)
    are_async: bool = False
    pre_model_fn: Function | None = None
    model_fn: Function | None = None
    model_warmup_fn: Function | None = None
    input_fn: Function | None = None
    predict_fn: Function | None = None
    batch_predict_fn: Function | None = None
    output_fn: Function | None = None
    transform_fn: Function | None = None

    @property
    def leaves_the_model_to_us(self) -> bool:
        """Whether nothing of the user's own calls the model, so that it may be moved to its device."""
        return not (self.predict_fn or self.batch_predict_fn or self.transform_fn)

    @property
    def predict_is_async(self) -> bool:
        """Whether ``predict_fn`` is an ``async def``."""
        return _is_async(getattr(self.module, "predict_fn", None))


def load(folder: ModelFolder) -> UserFunctions:
    """Return the functions of the folder's script; none, where all is left to the defaults.

    Raises `UserCodeError` for functions that do not go together, and what the script raises.
    """
    if folder.program is None:
        return UserFunctions()
    module = _import(folder.program, folder.import_path)
    found = {name: function for name in _SLOTS if (function := getattr(module, name, None))}
    functions = UserFunctions(
        module,
        any(map(_is_async, found.values())),
        **{name: with_context(function, name, _SLOTS[name]) for name, function in found.items()},
    )
    steps = [name for name in ("input_fn", "predict_fn", "batch_predict_fn", "output_fn") if name in found]
    if functions.transform_fn and steps:
        raise UserCodeError(
            f"{folder.program.name} defines transform_fn and {', '.join(steps)}: transform_fn does all the "
            "steps, so define either it or them"
        )
    return functions


def with_context(function: Any, name: str, slots: int) -> Function:
    """Return `function` in a form that takes `slots` arguments and the context.

    Raises `UserCodeError` where it can be called neither with nor without the context.
    """
    if not callable(function):
        raise UserCodeError(f"{name} must be a function, not {function!r}")
    if _is_async(function):
        function = _waited(function)
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


def _is_async(function: Any) -> bool:
    """Tell whether a call of `function` gives something to be awaited, or to be iterated while waiting."""
    call = getattr(function, "func", function)  # of a partial
    if not inspect.isroutine(call):
        call = type(call).__call__
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _waited(function: Any) -> Function:
    """Return an async function as a plain one, which waits while other requests go on."""

    @functools.wraps(function, updated=())
    def waited(*args: Any, **named: Any) -> Any:
        given = function(*args, **named)
        return parking.wait(given) if inspect.isawaitable(given) else parking.iterate(given)

    return waited


def _import(path: Path, import_path: Iterable[Path]) -> ModuleType:
    """Import the file as a module of its own name, with the folders of `import_path` first on the path."""
    name = path.stem if path.stem not in sys.modules else f"modelyard_user_{path.stem}"
    sys.path[:0] = map(str, import_path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101 - a script's name ends in .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
