"""What scripts import of the framework: the environment of a training job, and names for serving.

One script often trains and serves. What only its serving functions use can be imported, and says what
to do when it is used.
"""

from types import ModuleType
from typing import Any

from modelyard_shim import Environment

from sagemaker_containers import _lacking, training_env

__all__ = ["content_types", "env", "training_env"]

_FOR_SERVING = ("encoders", "errors", "functions", "modules", "server", "transformer", "worker")


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(f"{__name__}.{name}")
    module.__dict__.update(content, __getattr__=_lacking.attribute_of(module.__name__))
    return module


env = _module("env", TrainingEnv=Environment)
content_types = _module(
    "content_types",
    JSON="application/json",
    CSV="text/csv",
    OCTET_STREAM="application/octet-stream",
    ANY="*/*",
    NPY="application/x-npy",
    UTF8_TYPES=["application/json", "text/csv"],
)
globals().update((name, _module(name)) for name in _FOR_SERVING)
__getattr__ = _lacking.attribute_of(__name__)
