"""A codec for modelyard: the stream of Apache Arrow."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from modelyard import hookimpl
from modelyard.core.contracts import Codec
from modelyard.core.errors import DecodeError, EncodeError

MODELYARD_CONTRACT = "1.0"

_ONLY = "arr_0"
"""The column of an array alone, as in NPZ."""


@attrs.frozen
class ArrowCodec:
    """application/vnd.apache.arrow.stream: arrays by column, whose first dimension is the rows.

    One array alone is the column ``arr_0``, and a document of that column alone is the array.
    """

    name: ClassVar[str] = "arrow"
    media_types: ClassVar[tuple[str, ...]] = ("application/vnd.apache.arrow.stream",)
    suffixes: ClassVar[tuple[str, ...]] = (".arrows",)

    def encode(self, value: object) -> bytes:
        """Return the columns as one record batch. Raises `EncodeError`."""
        import pyarrow as pa

        columns = value if isinstance(value, Mapping) else {_ONLY: value}
        try:
            batch = pa.record_batch({name: _column(array) for name, array in columns.items()})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise EncodeError(f"a {type(value).__name__} is no columns for Arrow: {error}") from error
        return bytes(sink.getvalue())

    def decode(self, body: bytes) -> object:
        """Return the columns, those of numbers as views of `body` where they can be. Raises `DecodeError`."""
        import pyarrow as pa

        try:
            table = pa.ipc.open_stream(body).read_all()
            table.validate(full=True)  # What Arrow asks of who reads data that may be hostile.
            columns = {name: _array(table.column(name).combine_chunks()) for name in table.column_names}
        except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
            raise DecodeError(f"not columns in an Arrow stream: {error}") from error
        return columns[_ONLY] if columns.keys() == {_ONLY} else columns


def _column(value: object) -> Any:
    import numpy as np
    import pyarrow as pa

    array = np.asarray(value)
    if array.ndim < 2:
        return pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"a tensor of {array.dtype}")
    numbers = pa.array(array.astype(array.dtype.newbyteorder("="), copy=False).reshape(-1))
    rows = pa.FixedSizeListArray.from_arrays(numbers, math.prod(array.shape[1:]))
    return pa.fixed_shape_tensor(numbers.type, array.shape[1:]).wrap_array(rows)


def _array(column: Any) -> object:
    import pyarrow as pa

    tensor = isinstance(column, pa.FixedShapeTensorArray)
    if column.null_count or (tensor and column.storage.flatten().null_count):
        raise ValueError("a column has nulls, which no array of numbers has")
    array = column.to_numpy_ndarray() if tensor else column.to_numpy(zero_copy_only=False)
    return array if array.dtype.kind in "biuf" else column.to_pylist()


@hookimpl
def modelyard_register_codecs() -> Iterable[type[Codec]]:
    """Return the codec."""
    return (ArrowCodec,)
