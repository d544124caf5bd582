"""The names of SDK v1, and those of v2 that mean nothing any more: the only place where they exist."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from modelyard.core.errors import InvalidPlanError

P = ParamSpec("P")
R = TypeVar("R")

RENAMED: Mapping[str, str] = {
    "train_instance_count": "instance_count",
    "train_instance_type": "instance_type",
    "train_volume_size": "volume_size",
    "train_volume_kms_key": "volume_kms_key",
    "train_max_run": "max_run",
    "train_max_wait": "max_wait",
    "train_use_spot_instances": "use_spot_instances",
    "image_name": "image_uri",
    "image": "image_uri",
    "distributions": "distribution",
    "endpoint": "endpoint_name",
}
"""Keywords of SDK v1, and what each of them is called since."""

WITHOUT_EFFECT: Mapping[str, str] = {
    "enable_cloudwatch_metrics": "CloudWatch has the containers' metrics anyway",
    "disable_profiler": "nothing is profiled unless profiler_config asks for it",
}
"""Keywords that SDK v1 or v2 took, and why they change nothing."""

OFF = frozenset({"debugger_hook_config"})
"""Keywords that SDK v2 takes False for, where leaving them out means the same here."""

REFUSED: Mapping[str, str] = {
    "compiler_config": "SageMaker Training Compiler has ended; use torch.compile in the script",
    "git_config": "clone the repository first, and give its folder as source_dir",
    "recipe_overrides": "recipes are not resolved here; give the recipe's script as entry_point, and the "
    "recipe beside it in source_dir",
    "rules": "Debugger's rules are not run; look for a number in the log with metric_definitions",
    "training_recipe": "recipes are not resolved here; give the recipe's script as entry_point, and the "
    "recipe beside it in source_dir",
    "use_compiled_model": "SageMaker Neo is not used; compile the model in model_fn",
}
"""Keywords of SDK v2 for what there is not, and what to do instead."""

CLASSES: Mapping[str, str] = {
    "RealTimePredictor": "Predictor",
    "s3_input": "TrainingInput",
}
"""Classes of SDK v1, and what each of them is called since."""

VALUES: Mapping[str, str] = {
    "csv_serializer": "CSVSerializer",
    "json_serializer": "JSONSerializer",
    "npy_serializer": "NumpySerializer",
    "csv_deserializer": "CSVDeserializer",
    "json_deserializer": "JSONDeserializer",
    "numpy_deserializer": "NumpyDeserializer",
}
"""Serializers and deserializers of SDK v1, and the classes that they are instances of since."""


def old_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` that also takes its keywords under the names of SDK v1, with a warning.

    Raises ``TypeError`` where a keyword is given under both names, and `InvalidPlanError` for one that
    asks for what there is not.
    """

    @functools.wraps(function)
    def renaming(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.keys() & _OLD:
            kwargs = _renamed(kwargs)  # type: ignore[assignment]
        return function(*args, **kwargs)

    return renaming


_OLD = RENAMED.keys() | WITHOUT_EFFECT.keys() | OFF | REFUSED.keys()


def _renamed(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in kwargs.items():
        if name in REFUSED:
            if value:
                raise InvalidPlanError(f"{name}: {REFUSED[name]}")
            continue
        if name in OFF and value is False:
            continue
        if name in WITHOUT_EFFECT:
            _deprecated(f"{name} has no effect: {WITHOUT_EFFECT[name]}; leave it out")
            continue
        new = RENAMED.get(name, name)
        if new != name:
            _deprecated(f"{name} is called {new} since SDK v2")
        if new in renamed or (new != name and new in kwargs):
            raise TypeError(f"{name} and {new} are one keyword: leave {name} out")
        renamed[new] = value
    return renamed


def _deprecated(message: str) -> None:
    # Past this module's three frames, to the line that says the old name.
    warnings.warn(message, DeprecationWarning, stacklevel=4)


def old_name(module: str, name: str, homes: Mapping[str, str]) -> object:
    """Return what a module of SDK v1 had under `name`, with a warning: for the module's ``__getattr__``.

    `homes`: by the new name, the module that has it. Raises ``AttributeError`` for any other name.
    """
    new = CLASSES.get(name) or VALUES.get(name)
    if new is None or new not in homes:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(homes[new]), new)
    instead = new if name in CLASSES else f"{new}()"
    warnings.warn(f"{module}.{name} is {instead} since SDK v2", DeprecationWarning, stacklevel=3)
    return found if name in CLASSES else found()
