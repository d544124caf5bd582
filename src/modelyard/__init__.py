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
    from modelyard.inputs import FileSystemInput, ShuffleConfig, TrainingInput
    from modelyard.model import Model, PyTorchModel
    from modelyard.predictor import Predictor
    from modelyard.session import LocalSession, Session, get_execution_role

_HOMES = {
    "Estimator": "modelyard.estimator",
    "FileSystemInput": "modelyard.inputs",
    "LocalSession": "modelyard.session",
    "Model": "modelyard.model",
    "ModelyardError": "modelyard.core.errors",
    "PluginManager": "modelyard.core.manager",
    "Predictor": "modelyard.predictor",
    "PyTorch": "modelyard.estimator",
    "PyTorchModel": "modelyard.model",
    "Session": "modelyard.session",
    "ShuffleConfig": "modelyard.inputs",
    "TrainingInput": "modelyard.inputs",
    "__version__": "modelyard.__about__",
    "get_execution_role": "modelyard.session",
    "hookimpl": "modelyard.core.hookspecs",
}

# As `_HOMES`, for what SDK v1 had at its top; not among the names that are shown.
_OLD_HOMES = {"RealTimePredictor": "modelyard.predictor", "s3_input": "modelyard.inputs"}

__all__ = [
    "Estimator",
    "FileSystemInput",
    "LocalSession",
    "Model",
    "ModelyardError",
    "PluginManager",
    "Predictor",
    "PyTorch",
    "PyTorchModel",
    "Session",
    "ShuffleConfig",
    "TrainingInput",
    "__version__",
    "get_execution_role",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _OLD_HOMES:
        return getattr(import_module(_OLD_HOMES[name]), name)  # Which says that it is old.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
