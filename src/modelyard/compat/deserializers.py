"""SDK v2's deserializers, as facades over the registered codecs: what becomes of an answer.

Each closes the stream that it has read. None of them ever loads a pickle.
"""

import csv
import io
from typing import Any

from modelyard.compat.codec_facade import CodecFacade
from modelyard.core.errors import DecodeError, InvalidPlanError

Accept = str | tuple[str, ...]
_NPY, _NPZ, _JSON, _CSV = "application/x-npy", "application/x-npz", "application/json", "text/csv"


class BaseDeserializer:
    """What a deserializer of one's own may inherit from: ``ACCEPT`` and ``deserialize``."""

    ACCEPT: Any = ("*/*",)

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return what the stream's content says. Raises `DecodeError`, which is a ``ValueError``."""
        raise NotImplementedError

    def __call__(self, stream: Any, content_type: str) -> Any:
        """Return what `deserialize` returns: how SDK v1 called it."""
        return self.deserialize(stream, content_type)


class SimpleBaseDeserializer(BaseDeserializer):
    """A deserializer that asks for what its maker chooses."""

    def __init__(self, accept: Accept = "*/*") -> None:
        self.accept = accept

    @property
    def ACCEPT(self) -> tuple[str, ...]:  # noqa: N802 - SDK v2's name  # type: ignore[override]
        """What the request asks for."""
        return (self.accept,) if isinstance(self.accept, str) else tuple(self.accept)


def _content(stream: Any) -> bytes:
    try:
        content = stream.read()
    finally:
        stream.close()
    return content.encode("utf-8") if isinstance(content, str) else bytes(content)


def _text(stream: Any, encoding: str) -> str:
    try:
        return _content(stream).decode(encoding)
    except UnicodeDecodeError as error:
        raise DecodeError(f"the answer is not {encoding}: {error}") from error


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


class BytesDeserializer(SimpleBaseDeserializer):
    """The answer's bytes."""

    def deserialize(self, stream: Any, content_type: str = "*/*") -> bytes:
        """Return the bytes."""
        return _content(stream)


class StreamDeserializer(SimpleBaseDeserializer):
    """The stream itself and its content type; its reader closes it."""

    def deserialize(self, stream: Any, content_type: str = "*/*") -> tuple[Any, str]:
        """Return both."""
        return stream, content_type


class StringDeserializer(SimpleBaseDeserializer):
    """The answer as a text."""

    def __init__(self, encoding: str = "UTF-8", accept: Accept = _JSON) -> None:
        super().__init__(accept)
        self.encoding = encoding

    def deserialize(self, stream: Any, content_type: str = _JSON) -> str:
        """Return the text. Raises `DecodeError`."""
        return _text(stream, self.encoding)


class CSVDeserializer(SimpleBaseDeserializer):
    """The rows of CSV as lists of texts."""

    def __init__(self, encoding: str = "utf-8", accept: Accept = _CSV) -> None:
        super().__init__(accept)
        self.encoding = encoding

    def deserialize(self, stream: Any, content_type: str = _CSV) -> list[list[str]]:
        """Return the rows. Raises `DecodeError`."""
        try:
            return list(csv.reader(_text(stream, self.encoding).splitlines()))
        except csv.Error as error:
            raise DecodeError(f"not a CSV document: {error}") from error


class JSONDeserializer(CodecFacade, SimpleBaseDeserializer):
    """JSON as plain Python."""

    def __init__(self, accept: Accept = _JSON) -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str = _JSON) -> Any:
        """Return what the document says. Raises `DecodeError`."""
        return self._codec(_JSON).decode(_content(stream))


class JSONLinesDeserializer(CodecFacade, SimpleBaseDeserializer):
    """The lines of JSON Lines as a list."""

    def __init__(self, accept: Accept = "application/jsonlines") -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str = "application/jsonlines") -> Any:
        """Return the list. Raises `DecodeError`."""
        return self._codec("application/jsonlines").decode(_content(stream))


class NumpyDeserializer(CodecFacade, SimpleBaseDeserializer):
    """NPY, NPZ, JSON and CSV as arrays, those of the last two in ``dtype``."""

    def __init__(self, dtype: Any = None, accept: Accept = _NPY, allow_pickle: bool = False) -> None:  # noqa: FBT001, FBT002 - SDK v2's place
        if allow_pickle:
            raise InvalidPlanError(
                "allow_pickle: an answer is never unpickled, since a pickle runs code; have the endpoint "
                "answer with arrays of numbers"
            )
        super().__init__(accept)
        self.dtype = dtype

    def deserialize(self, stream: Any, content_type: str = _NPY) -> Any:
        """Return an array, for NPZ the arrays by name. Raises `DecodeError`."""
        body, essence = _content(stream), _essence(content_type)
        if essence == _NPY:
            return _writable(self._codec(_NPY).decode(body))
        if essence == _NPZ:
            return self._codec(_NPZ).decode(body)
        if essence == _JSON:
            return self._array(self._codec(_JSON).decode(body))
        if essence == _CSV:
            return self._array(self._toolkit_codecs.reading(_CSV).decode(body))
        raise DecodeError(f"{type(self).__name__} cannot read content type {content_type}.")

    def _array(self, value: Any) -> Any:
        import numpy as np

        try:
            return np.asarray(value, self.dtype)
        except (TypeError, ValueError) as error:
            raise DecodeError(f"the answer is not an array: {error}") from error


def _writable(array: Any) -> Any:
    """Return an array that its owner can write to, as SDK v2's are."""
    return array if array.flags.writeable else array.copy()


class PandasDeserializer(SimpleBaseDeserializer):
    """CSV and JSON as a data frame of pandas."""

    def __init__(self, accept: Accept = (_CSV, _JSON)) -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str) -> Any:
        """Return the data frame. Raises `DecodeError` for another content type, and without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise DecodeError("data frames need pandas: pip install pandas") from error
        readers = {_CSV: pd.read_csv, _JSON: pd.read_json}
        if (essence := _essence(content_type)) not in readers:
            raise DecodeError(f"{type(self).__name__} cannot read content type {content_type}.")
        try:
            return readers[essence](io.BytesIO(_content(stream)))
        except ValueError as error:
            raise DecodeError(f"not a table: {error}") from error


class TorchTensorDeserializer(CodecFacade, SimpleBaseDeserializer):
    """NPY as a tensor, which is what SDK v2 reads as ``tensor/pt``."""

    def __init__(self, accept: Accept = "tensor/pt") -> None:
        super().__init__(accept)

    def deserialize(self, stream: Any, content_type: str = "tensor/pt") -> Any:
        """Return the tensor. Raises `DecodeError`, also where torch is not installed."""
        try:
            import torch
        except ImportError as error:
            raise DecodeError("tensors need torch: pip install torch") from error
        return torch.from_numpy(_writable(self._codec(_NPY).decode(_content(stream))))


__all__ = [
    "BaseDeserializer",
    "BytesDeserializer",
    "CSVDeserializer",
    "JSONDeserializer",
    "JSONLinesDeserializer",
    "NumpyDeserializer",
    "PandasDeserializer",
    "SimpleBaseDeserializer",
    "StreamDeserializer",
    "StringDeserializer",
    "TorchTensorDeserializer",
]
