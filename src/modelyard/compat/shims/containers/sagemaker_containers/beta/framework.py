"""What scripts import of the framework: the environment of a training job, and the tools for serving.

One script often trains and serves. What neither of them uses can be imported all the same, and says what
to do when it is used.
"""

from types import ModuleType
from typing import Any

from modelyard_shim import Environment, formats

from sagemaker_containers import _lacking, _serving, training_env

__all__ = ["content_types", "encoders", "env", "errors", "training_env", "worker"]

_OTHERS = ("functions", "modules", "server", "transformer")


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(f"{__name__}.{name}")
    module.__dict__.update(content, __getattr__=_lacking.attribute_of(module.__name__))
    return module


env = _module("env", TrainingEnv=Environment)
content_types = _module(
    "content_types",
    JSON=formats.JSON,
    CSV=formats.CSV,
    OCTET_STREAM=formats.OCTET_STREAM,
    ANY=formats.ANY,
    NPY=formats.NPY,
    UTF8_TYPES=formats.UTF8_TYPES,
)
encoders = _module(
    "encoders",
    encode=_serving.encode,
    decode=_serving.decode,
    array_to_npy=formats.array_to_npy,
    npy_to_numpy=formats.npy_to_numpy,
    array_to_json=formats.array_to_json,
    json_to_numpy=formats.json_to_numpy,
    array_to_csv=_serving.array_to_csv,
    csv_to_numpy=_serving.csv_to_numpy,
)
errors = _module(
    "errors", ClientError=formats.ClientError, UnsupportedFormatError=formats.UnsupportedFormatError
)
worker = _module("worker", Response=_serving.Response)
globals().update((name, _module(name)) for name in _OTHERS)
__getattr__ = _lacking.attribute_of(__name__)
