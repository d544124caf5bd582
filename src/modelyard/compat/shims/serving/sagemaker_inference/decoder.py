"""Arrays from request bodies."""

from collections.abc import Callable
from typing import Any

from modelyard_shim.formats import (
    CSV,
    JSON,
    NPY,
    NPZ,
    choose,
    json_to_numpy,
    npy_to_numpy,
    npz_to_sparse,
    reading,
    text_of,
)

from sagemaker_inference import _lacking

__getattr__ = _lacking.attribute_of(__name__)


def decode(obj: str | bytes, content_type: str) -> Any:
    """Return the array that a request's body holds. Raises `ClientError` and `UnsupportedFormatError`."""
    return choose(_DECODERS, content_type, 415)(obj)


def _csv_to_numpy(string_like: str | bytes, dtype: Any = None) -> Any:
    import numpy as np

    with reading("CSV"):
        array = np.genfromtxt(text_of(string_like), dtype=dtype, delimiter=",", encoding="utf-8")
        kinds = {field.kind for field, *_ in (array.dtype.fields or {}).values()}
        if kinds and kinds <= set("biuf"):
            # The toolkit gives records for columns of whole and of broken numbers, which no model takes.
            array = np.genfromtxt(text_of(string_like), delimiter=",", encoding="utf-8")
        return array


_DECODERS: dict[str, Callable[[Any], Any]] = {
    NPY: npy_to_numpy,
    CSV: _csv_to_numpy,
    JSON: json_to_numpy,
    NPZ: npz_to_sparse,
}
