"""What inference scripts use of the framework: encoders, and an answer with its media type."""

import csv
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, Self

from modelyard_shim.formats import (
    CSV,
    JSON,
    NPY,
    array_to_json,
    array_to_npy,
    choose,
    json_to_numpy,
    npy_to_numpy,
    reading,
    text_of,
)


class Response(tuple[Any, str]):  # noqa: SLOT001 - a tuple's subclass with attributes
    """An answer: a body and its media type, which is what a server takes from an ``output_fn``."""

    data: Any
    mimetype: str
    status_code: int
    headers: dict[str, str]

    def __new__(
        cls,
        response: Any = b"",
        accept: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        mimetype: str | None = None,
    ) -> Self:
        """Return an answer; `accept` says what it is where `mimetype` does not."""
        self = super().__new__(cls, (response, mimetype or accept or JSON))
        self.data, self.mimetype = self
        self.status_code, self.headers = status, dict(headers or {})
        return self


def decode(obj: str | bytes, content_type: str) -> Any:
    """Return the array that a request's body holds. Raises `ClientError` and `UnsupportedFormatError`."""
    return choose(_DECODERS, content_type, 415)(obj)


def encode(array_like: Any, content_type: str) -> str | bytes:
    """Return an array, or what can be made one, as a body. Raises `UnsupportedFormatError`."""
    encoded: str | bytes = choose(_ENCODERS, content_type, 406)(array_like)
    return encoded


def csv_to_numpy(string_like: str | bytes, dtype: Any = None) -> Any:
    """Return the array of a CSV document: of text where `dtype` is not given. Raises `ClientError`."""
    import numpy as np

    with reading("CSV"):
        array = np.array(list(csv.reader(text_of(string_like), strict=True))).squeeze()
        return array if dtype is None else array.astype(dtype)


def array_to_csv(array_like: Any) -> str:
    """Return an array as CSV, one with a single dimension as a column."""
    import numpy as np

    array = np.array(array_like)
    stream = StringIO()
    rows = array.reshape(-1, 1) if array.ndim == 1 else array
    csv.writer(stream, lineterminator="\n", strict=True).writerows(rows)
    return stream.getvalue()


_DECODERS: dict[str, Callable[[Any], Any]] = {NPY: npy_to_numpy, CSV: csv_to_numpy, JSON: json_to_numpy}
_ENCODERS: dict[str, Callable[[Any], str | bytes]] = {
    NPY: array_to_npy,
    CSV: array_to_csv,
    JSON: array_to_json,
}
