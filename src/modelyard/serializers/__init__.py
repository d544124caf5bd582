"""Codecs: bytes of a media type to and from Python values.

The names of SDK v2's module are here as well, imported when they are first used:
``predictor.serializer = JSONSerializer()``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.compat.serializers import (
        BaseSerializer,
        CodecSerializer,
        CSVSerializer,
        DataSerializer,
        IdentitySerializer,
        JSONLinesSerializer,
        JSONSerializer,
        LibSVMSerializer,
        NumpySerializer,
        SimpleBaseSerializer,
        SparseMatrixSerializer,
        StringSerializer,
        TorchTensorSerializer,
    )

__all__ = [
    "BaseSerializer",
    "CSVSerializer",
    "CodecSerializer",
    "DataSerializer",
    "IdentitySerializer",
    "JSONLinesSerializer",
    "JSONSerializer",
    "LibSVMSerializer",
    "NumpySerializer",
    "SimpleBaseSerializer",
    "SparseMatrixSerializer",
    "StringSerializer",
    "TorchTensorSerializer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not at the top: the programs that load a codec have no use for these.
    from modelyard.compat import serializers

    return getattr(serializers, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
