"""SDK v2's serializers, as facades over the registered codecs: what becomes of the data of a request.

Files and buffers are read and sent as they are, and so are bytes. None of them ever writes a pickle.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.compat.codec_facade import CodecFacade, reader
from modelyard.core.errors import EncodeError

if TYPE_CHECKING:
    import numpy.typing as npt

Body = str | bytes
_EMPTY = "Cannot serialize empty array."
_BYTES = (bytes, bytearray, memoryview)


class BaseSerializer:
    """What a serializer of one's own may inherit from: ``CONTENT_TYPE`` and ``serialize(data)``."""

    CONTENT_TYPE: Any = "application/octet-stream"

    def serialize(self, data: Any) -> Any:
        """Return what is sent for `data`. Raises `EncodeError`, which is a ``ValueError``."""
        raise NotImplementedError

    def __call__(self, data: Any) -> Any:
        """Return what `serialize` returns: how SDK v1 called it."""
        return self.serialize(data)


class SimpleBaseSerializer(BaseSerializer):
    """A serializer of one content type, which its maker chooses."""

    def __init__(self, content_type: str = "application/json") -> None:
        self.content_type = content_type

    @property
    def CONTENT_TYPE(self) -> str:  # noqa: N802 - SDK v2's name  # type: ignore[override]
        """The Content-Type of the request."""
        return self.content_type


class CodecSerializer(CodecFacade, SimpleBaseSerializer):
    """Whatever the codec of its content type writes."""

    def serialize(self, data: Any) -> Any:
        """Return the data as a document of the content type. Raises `EncodeError`."""
        if read := reader(data):
            return read()
        return bytes(data) if isinstance(data, _BYTES) else self._written(data)

    def _written(self, data: Any) -> Body:
        return self._codec(self.content_type).encode(data)


class NumpySerializer(CodecSerializer):
    """Arrays and lists as NPY, lists in ``dtype``."""

    def __init__(self, dtype: Any = None, content_type: str = "application/x-npy") -> None:
        super().__init__(content_type)
        self.dtype = dtype

    def _written(self, data: Any) -> Body:
        array = self._array(data)
        if array.size == 0:
            raise EncodeError(_EMPTY)
        return self._codec("application/x-npy").encode(array)

    def _array(self, data: Any) -> "npt.NDArray[Any]":
        import numpy as np

        try:
            return np.asarray(data, self.dtype if isinstance(data, list) else None)
        except (TypeError, ValueError) as error:
            raise EncodeError(f"a {type(data).__name__} is not an array: {error}") from error


class JSONSerializer(CodecSerializer):
    """Plain Python and arrays as JSON."""

    def __init__(self, content_type: str = "application/json") -> None:
        super().__init__(content_type)

    def _written(self, data: Any) -> Body:
        return self._codec("application/json").encode(data).decode("utf-8")


class JSONLinesSerializer(CodecSerializer):
    """The items of a list as one JSON document per line; a text is such a document already."""

    def __init__(self, content_type: str = "application/jsonlines") -> None:
        super().__init__(content_type)

    def _written(self, data: Any) -> Body:
        if isinstance(data, str):
            return data
        lines = data if hasattr(data, "__array__") or isinstance(data, list | tuple) else list(data)
        return self._codec("application/jsonlines").encode(lines).decode("utf-8").removesuffix("\n")


class CSVSerializer(CodecSerializer):
    """Rows as CSV: a flat list is one row, and a text is a row already."""

    def __init__(self, content_type: str = "text/csv") -> None:
        super().__init__(content_type)

    def _written(self, data: Any) -> Body:
        return "\n".join(map(_csv_row, _rows(data)))


def _rows(data: Any) -> Iterable[Any]:
    """Return the rows of what holds rows, and anything else as the only row."""
    if isinstance(data, str | dict) or not (_is_sequence(data) and hasattr(data, "__len__") and len(data)):
        return [data]
    first = data[0]
    holds_rows = _is_sequence(first) and (hasattr(data, "__setitem__") or not isinstance(first, str))
    return list(data) if holds_rows else [data]


def _is_sequence(value: object) -> bool:
    # A scalar of numpy's has both methods, and no length.
    if getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__iter__") and hasattr(value, "__getitem__")


def _csv_row(row: Any) -> str:
    if isinstance(row, str):
        return row
    cells = row.ravel().tolist() if hasattr(row, "ravel") else row
    if not hasattr(cells, "__len__"):
        raise EncodeError(f"a row of CSV is a list, an array or a text, not a {type(row).__name__}")
    if not len(cells):
        raise EncodeError(_EMPTY)
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().rstrip("\r\n")


class IdentitySerializer(SimpleBaseSerializer):
    """The data as they are."""

    def __init__(self, content_type: str = "application/octet-stream") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return `data`."""
        return data


class StringSerializer(SimpleBaseSerializer):
    """A text as UTF-8."""

    def __init__(self, content_type: str = "text/plain") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return the text's bytes. Raises `EncodeError` for what is no text."""
        if not isinstance(data, str):
            raise EncodeError(f"a text is expected, not a {type(data).__name__}")
        return data.encode("utf-8")


class LibSVMSerializer(SimpleBaseSerializer):
    """A text in the format of LibSVM, or a file of it."""

    def __init__(self, content_type: str = "text/libsvm") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> Any:
        """Return the text. Raises `EncodeError` for anything else."""
        if isinstance(data, str):
            return data
        if read := reader(data):
            return read()
        raise EncodeError(f"LibSVM's format is a text or a file of it, not a {type(data).__name__}")


class DataSerializer(SimpleBaseSerializer):
    """The content of the file of a path; bytes as they are."""

    def __init__(self, content_type: str = "file-path/raw-bytes") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return the bytes. Raises `EncodeError` for a file that cannot be read, and for anything else."""
        if isinstance(data, _BYTES):
            return bytes(data)
        if not isinstance(data, str | Path):
            raise EncodeError(f"a path or bytes are expected, not a {type(data).__name__}")
        try:
            return Path(data).read_bytes()
        except OSError as error:
            raise EncodeError(f"cannot read '{data}': {error.strerror}") from error


class SparseMatrixSerializer(SimpleBaseSerializer):
    """A sparse matrix of SciPy as NPZ."""

    def __init__(self, content_type: str = "application/x-npz") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return what ``scipy.sparse.save_npz`` writes. Raises `EncodeError` for anything else."""
        try:
            from scipy import sparse
        except ImportError as error:
            raise EncodeError("sparse matrices need SciPy: pip install scipy") from error
        if not sparse.issparse(data):
            raise EncodeError(f"a sparse matrix of SciPy is expected, not a {type(data).__name__}")
        buffer = io.BytesIO()
        sparse.save_npz(buffer, data)
        return buffer.getvalue()


class TorchTensorSerializer(CodecFacade, SimpleBaseSerializer):
    """A tensor as NPY, which is what SDK v2 sends as ``tensor/pt``."""

    def __init__(self, content_type: str = "tensor/pt") -> None:
        super().__init__(content_type)

    def serialize(self, data: Any) -> bytes:
        """Return the tensor's numbers. Raises `EncodeError` for what is no tensor."""
        if not hasattr(data, "detach"):
            raise EncodeError(f"a tensor of torch is expected, not a {type(data).__name__}")
        return self._codec("application/x-npy").encode(data.detach().cpu().numpy())


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
