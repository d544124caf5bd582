"""Arrays in the formats of requests and answers, as the toolkits' encoders and decoders have them.

What differs: nothing is unpickled, what a client got wrong is the client's error, and a media type may
have parameters and upper case. numpy is imported when an array is made.
"""

import contextlib
import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

JSON = "application/json"
CSV = "text/csv"
OCTET_STREAM = "application/octet-stream"
ANY = "*/*"
NPY = "application/x-npy"
NPZ = "application/x-npz"
UTF8_TYPES = [JSON, CSV]


class ClientError(ValueError):
    """What was sent cannot be read. ``status_code``: what the server answers."""

    status_code = 400


class UnsupportedFormatError(Exception):
    """There is no encoder or decoder for a media type. ``status_code``: what the server answers."""

    def __init__(self, content_type: str, status_code: int = 415) -> None:
        super().__init__(
            f"content type {content_type} is not supported: write an input_fn that reads it, "
            "or an output_fn that writes it"
        )
        self.status_code = status_code


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what is wrong with a body, a document of the format `name`, into a `ClientError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, EOFError, OverflowError, RecursionError, csv.Error) as error:
        raise ClientError(f"the body is not {name}: {error}") from error


# -- arrays from bodies ------------------------------------------------------------------------


def npy_to_numpy(npy_array: bytes) -> "np.ndarray[Any, Any]":
    """Return the array of an NPY document. Raises `ClientError`; arrays of objects are not read."""
    import numpy as np

    with reading("NPY"):
        stream = BytesIO(npy_array)
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        # numpy makes room for what the header says, whatever follows it.
        if math.prod(shape) * dtype.itemsize > len(npy_array):
            raise ValueError(f"it has {len(npy_array)} bytes, and its header says {shape} of {dtype}")
        array: np.ndarray[Any, Any] = np.load(BytesIO(npy_array), allow_pickle=False)
        return array


def json_to_numpy(string_like: str | bytes, dtype: Any = None) -> "np.ndarray[Any, Any]":
    """Return the array of a JSON document. Raises `ClientError`."""
    import numpy as np

    with reading("JSON"):
        return np.array(json.loads(string_like), dtype=dtype)


def npz_to_sparse(npz_bytes: bytes) -> Any:
    """Return the sparse matrix that scipy has saved. Raises `ClientError`."""
    import importlib

    sparse = importlib.import_module("scipy.sparse")  # Which has no types.
    with reading("NPZ"):
        return sparse.load_npz(BytesIO(npz_bytes))


def text_of(body: str | bytes) -> StringIO:
    """Return a body to be read line by line."""
    return StringIO(body if isinstance(body, str) else bytes(body).decode("utf-8"))


# -- bodies from arrays ------------------------------------------------------------------------


def array_to_npy(array_like: Any) -> bytes:
    """Return an array as an NPY document."""
    import numpy as np

    buffer = BytesIO()
    np.save(buffer, array_like, allow_pickle=False)
    return buffer.getvalue()


def array_to_json(array_like: Any) -> str:
    """Return an array, or values with arrays in them, as JSON."""

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")

    return json.dumps(array_like, default=plain)


# -- by media type -----------------------------------------------------------------------------


def choose(functions: Mapping[str, Callable[[Any], Any]], content_type: str, status: int) -> Any:
    """Return the function of a media type. Raises `UnsupportedFormatError`."""
    function = functions.get((content_type or "").partition(";")[0].strip().lower())
    if function is None:
        raise UnsupportedFormatError(content_type, status)
    return function
