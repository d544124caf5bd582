"""Between numpy arrays and plain numbers: what the built-in codecs have in common."""

import struct
from functools import lru_cache
from itertools import chain
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.lazy import lazy_module

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.

# By numpy's name without the byte order. Standard sizes: with struct's native ones a number that is
# too large for float32 becomes infinity.
_STRUCT_CODES = {
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
NUMBERS = frozenset({"b1", *_STRUCT_CODES})
"""The dtypes that every codec writes, as numpy spells them after the byte order."""


def as_array(value: object) -> "npt.NDArray[Any]":
    """Return `value` as an array of whatever dtype numpy gives it. Raises `EncodeError`."""
    try:
        return np.asarray(value)
    # An object's own `__array__` may raise anything.
    except Exception as error:
        raise EncodeError(f"a {type(value).__name__} is not an array: {error}") from error


def native(array: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
    """Return an array of `NUMBERS` as orjson writes it: contiguous, native, no half floats, not 0-d."""
    half = array.dtype.str[1:] == "f2"
    return np.ascontiguousarray(array, np.float32 if half else array.dtype.newbyteorder("="))


def flatten(data: object) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists and their items in one list; a scalar has the shape ().

    Raises `DecodeError` for ragged lists. What the items are is not looked at: `pack` does that.
    """
    if type(data) is not list:
        return (), [data]
    shape: tuple[int, ...] = (len(data),)
    while data and type(data[0]) is list:
        shape += (len(data[0]),)
        # A batch of one is the usual request, and nothing of it needs to be copied.
        data = data[0] if len(data) == 1 else _joined(data, shape)
    return shape, data


def _joined(lists: list[Any], shape: tuple[int, ...]) -> list[Any]:
    width = shape[-1]
    if set(map(type, lists)) != {list} or set(map(len, lists)) != {width}:
        raise DecodeError(f"ragged: not every item on axis {len(shape) - 2} is a list of {width}")
    return list(chain.from_iterable(lists))


def pack(shape: tuple[int, ...], numbers: list[Any], dtype: str) -> "npt.NDArray[Any]":
    """Return a new array of `shape` holding `numbers`, plain Python ones, in C order.

    Raises `DecodeError` for an item that is not a number or does not fit `dtype`: an integer dtype
    takes 2.0 but not 2.5.
    """
    target, code = _packing(dtype)
    if not code:
        return pack(shape, numbers, "float64").astype(target)
    try:
        array = np.empty(shape, target)
    except ValueError as error:
        raise DecodeError(f"lists nested {len(shape)} deep are not an array: {error}") from error
    buffer: Any = array  # which it is, though numpy's types say so only from Python 3.12 on
    # struct is twice as fast as numpy here, and strict where numpy is not: numpy would read the
    # string "1", and let 1e300 become the float32 infinity.
    try:
        struct.pack_into(f"={len(numbers)}{code}", buffer, 0, *numbers)
    except (struct.error, OverflowError):
        fitting = [_fitting(number, target, code) for number in numbers]
        struct.pack_into(f"={len(numbers)}{code}", buffer, 0, *fitting)
    return array


@lru_cache(maxsize=64)
def _packing(dtype: str) -> "tuple[np.dtype[Any], str]":
    """Return the dtype and struct's code for it, empty where struct has none."""
    target = np.dtype(dtype)
    return target, _STRUCT_CODES.get(target.str[1:], "") if target.isnative else ""


def _fitting(number: object, dtype: "np.dtype[Any]", code: str) -> float:
    """Return `number` in the type that struct wants for `dtype`. Raises `DecodeError`."""
    if not isinstance(number, int | float):
        raise DecodeError(f"{shortened(number)} is not a number")
    exact = int(number) if dtype.kind in "iu" and number == number // 1 else number
    try:
        struct.pack(f"={code}", exact)
    except (struct.error, OverflowError) as error:
        raise DecodeError(f"{number} does not fit {dtype}") from error
    return exact
