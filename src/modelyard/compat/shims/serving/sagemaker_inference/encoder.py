"""Bodies of answers from arrays."""

from collections.abc import Callable
from io import StringIO
from typing import Any

from modelyard_shim.formats import CSV, JSON, NPY, array_to_json, array_to_npy, choose

from sagemaker_inference import _lacking

__getattr__ = _lacking.attribute_of(__name__)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Return an array, or what can be made one, as a body. Raises `UnsupportedFormatError`."""
    encoded: str | bytes = choose(_ENCODERS, content_type, 406)(array_like)
    return encoded


def _array_to_csv(array_like: Any) -> str:
    import numpy as np

    stream = StringIO()
    np.savetxt(stream, array_like, delimiter=",", fmt="%s")
    return stream.getvalue()


_ENCODERS: dict[str, Callable[[Any], str | bytes]] = {
    NPY: array_to_npy,
    CSV: _array_to_csv,
    JSON: array_to_json,
}
