"""SageMaker's way of training and serving PyTorch models, with every part a plugin.

The public names are imported when they are first used, so ``import modelyard`` costs nothing.
"""

TYPE_CHECKING = False  # Type checkers take it for typing's own, whose import is all that importing us costs.
if TYPE_CHECKING:
    from modelyard.__about__ import __version__
    from modelyard.core.errors import ModelyardError
    from modelyard.core.hookspecs import hookimpl
    from modelyard.core.manager import PluginManager
    from modelyard.estimator import Estimator, PyTorch
    from modelyard.inputs import ShuffleConfig, TrainingInput
    from modelyard.model import Model, PyTorchModel
    from modelyard.predictor import Predictor

_HOMES = {
    "Estimator": "modelyard.estimator",
    "Model": "modelyard.model",
    "ModelyardError": "modelyard.core.errors",
    "PluginManager": "modelyard.core.manager",
    "Predictor": "modelyard.predictor",
    "PyTorch": "modelyard.estimator",
    "PyTorchModel": "modelyard.model",
    "ShuffleConfig": "modelyard.inputs",
    "TrainingInput": "modelyard.inputs",
    "__version__": "modelyard.__about__",
    "hookimpl": "modelyard.core.hookspecs",
}

__all__ = [
    "Estimator",
    "Model",
    "ModelyardError",
    "PluginManager",
    "Predictor",
    "PyTorch",
    "PyTorchModel",
    "ShuffleConfig",
    "TrainingInput",
    "__version__",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
