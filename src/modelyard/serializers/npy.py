"""NPY: numpy's own format, without the pickles that numpy allows in it."""

import ast
import io
import math
from functools import lru_cache
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.lazy import lazy_module
from modelyard.serializers._arrays import NUMBERS, as_array
from modelyard.serializers._strict import strict_option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.

MAX_HEADER = 10_000
"""Bytes. A real header has about a hundred, and Python's parser is not made for hostile text."""

DTYPES = NUMBERS | {"c8", "c16"}
"""The dtypes that are written and read, in either byte order."""

_Order = Literal["C", "F"]
_MAGIC = b"\x93NUMPY"
_HEADER_START = {_MAGIC + b"\x01\x00": 10, _MAGIC + b"\x02\x00": 12, _MAGIC + b"\x03\x00": 12}


@attrs.frozen
class NpyCodec:
    """application/x-npy: one array with its dtype and shape. Never a pickle, in either direction.

    ``strict="2.0.25"`` writes what SageMaker's toolkit makes of a tensor: float64 for floats, int64
    for integers that fit it, complex128 for complex numbers.
    """

    name: ClassVar[str] = "npy"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-npy",)
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    strict: str = strict_option()

    def encode(self, value: object) -> bytes:
        """Return an array, a scalar or nested lists as NPY, the dtype kept. Raises `EncodeError`."""
        array = as_array(value)
        if self.strict:
            array = _widened(array)
        if array.dtype.str[1:] not in DTYPES:
            raise EncodeError(
                "NPY is written for booleans, integers, floats and complex numbers; "
                f"this {type(value).__name__} makes an array of {array.dtype}"
            )
        order: _Order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        data = array.T if order == "F" else np.asarray(array, order="C")
        # Joined from the array's own memory, where `tobytes` would copy it once more.
        return b"".join((_header(array.shape, array.dtype, order), data.data))

    def decode(self, body: bytes) -> "npt.NDArray[Any]":
        """Return the array, its dtype kept, in native byte order. Raises `DecodeError`.

        It is a read-only view of `body`, unless its bytes had to be converted (booleans, the other
        byte order): then it is a copy, and writable.
        """
        layout = _layout(*_split(body))
        left = len(body) - layout.offset
        if left != layout.size:
            raise DecodeError(f"the NPY header announces {layout.size} bytes of data, and {left} follow")
        try:
            array = np.ndarray(layout.shape, layout.stored, body, layout.offset, None, layout.order)
        except ValueError as error:
            raise DecodeError(f"numpy refuses the shape in the NPY header: {error}") from error
        return array if layout.in_place else array.astype(layout.dtype)


# -- writing -----------------------------------------------------------------------------------

_WIDEST = {"f": "f8", "i": "i8", "u": "i8", "c": "c16"}


def _widened(array: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
    """Return the array in the dtype of Python's own numbers."""
    known = array.dtype.str[1:] in DTYPES and array.dtype.str[1:] != "u8"
    return array.astype(_WIDEST[array.dtype.kind]) if known and array.dtype.kind in _WIDEST else array


@lru_cache(maxsize=256)
def _header(shape: tuple[int, ...], dtype: "np.dtype[Any]", order: _Order) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": order == "F", "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


# -- reading -----------------------------------------------------------------------------------


@attrs.frozen
class _Layout:
    """What a header says: `size` bytes from `offset` on, `stored` as one dtype to be read as another.

    `in_place`: they can be used where they lie.
    """

    offset: int
    size: int
    shape: tuple[int, ...]
    order: _Order
    stored: "np.dtype[Any]"
    dtype: "np.dtype[Any]"
    in_place: bool


def _split(body: bytes) -> tuple[bytes, int]:
    """Return all that stands before the data, and where in it the header's text starts."""
    start = _HEADER_START.get(body[:8])
    if start is None:
        raise DecodeError("not an NPY document: no \\x93NUMPY with a version from 1.0 to 3.0 at its start")
    length = int.from_bytes(body[8:start], "little")
    if length > MAX_HEADER:
        raise DecodeError(f"the NPY header has {length} bytes; at most {MAX_HEADER} are read")
    if start + length > len(body):
        raise DecodeError("the document ends within the NPY header")
    return body[: start + length], start


# A client sends one shape over and over; its header is parsed once.
@lru_cache(maxsize=256)
def _layout(head: bytes, start: int) -> _Layout:
    fields = _fields(head[start:])
    dtype, shape = _dtype(fields["descr"]), _shape(fields["shape"])
    if type(fields["fortran_order"]) is not bool:
        raise DecodeError("fortran_order in the NPY header is neither True nor False")
    # A boolean of any byte but 0 and 1 is undefined behaviour in whatever computes with it.
    stored = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    target = dtype.newbyteorder("=")
    return _Layout(
        offset=len(head),
        size=math.prod(shape) * dtype.itemsize,
        shape=shape,
        order="F" if fields["fortran_order"] else "C",
        stored=stored,
        dtype=target,
        in_place=stored == target and len(head) % target.alignment == 0,
    )


def _fields(text: bytes) -> dict[str, Any]:
    try:
        fields = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise DecodeError("the NPY header is not a Python literal") from error
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise DecodeError("the NPY header does not consist of descr, fortran_order and shape")
    return fields


def _dtype(descr: object) -> "np.dtype[Any]":
    if not isinstance(descr, str) or descr[descr[:1] in ("<", ">", "|", "=") :] not in DTYPES:
        raise DecodeError(
            f"the dtype {shortened(descr)} is not read from NPY: only booleans, integers, floats and "
            "complex numbers are, never objects, strings, dates or structures"
        )
    return np.dtype(descr)


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise DecodeError("the shape in the NPY header is not a tuple of lengths")
    return shape
