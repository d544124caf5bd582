"""Plain data as pickles: written, and read by an unpickler that can make nothing else."""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.log import get_logger
from modelyard.serializers.npy import DTYPES

if TYPE_CHECKING:
    import numpy.typing as npt

_log = get_logger(__name__)

# What torch.save writes: a ZIP archive, or before torch 1.6 this number as the first of several pickles.
_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
_SAFE_TORCH = (2, 10)
# Building an object of any class, what is kept elsewhere, and numbers instead of names for classes.
_NOT_PLAIN = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"}


class NotPlainError(DecodeError):
    """The pickle asks for more than plain data."""


# -- writing -----------------------------------------------------------------------------------


@lru_cache
def _named() -> tuple[object, ...]:
    """Return what a pickle may name; numpy's own: to have an array or a scalar made again."""
    numpys = (np.ndarray, np.dtype, np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0])
    return (*numpys, *_CLASSES.values(), bytearray)


def dump(value: object) -> bytes:
    """Return plain data as a pickle of protocol 4. Raises what a value raises that cannot be one."""
    buffer = io.BytesIO()
    _PlainPickler(buffer, 4).dump(value)
    return buffer.getvalue()


class _PlainPickler(pickle.Pickler):
    """Writes what `_PlainUnpickler` reads."""

    def reducer_override(self, value: Any) -> Any:
        """Let pass what is plain; called for all but Python's own containers, texts and numbers."""
        if type(value) is np.ndarray or isinstance(value, np.generic):
            plain = value.dtype.str[1:] in DTYPES
        elif isinstance(value, np.dtype):
            plain = value.str[1:] in DTYPES
        else:
            plain = type(value) in _CLASSES.values() or any(value is own for own in _named())
        if not plain:
            raise EncodeError(f"pickles are written of plain data, not of a {type(value).__name__}")
        return NotImplemented


# -- reading -----------------------------------------------------------------------------------


def load(body: bytes, *, unrestricted: bool = False) -> object:
    """Return what a pickle holds, whole; `unrestricted`: which may run any code.

    Raises `NotPlainError` and whatever a damaged or made-up pickle comes across.
    """
    read = _load_torch if body.startswith(_TORCH) else _load_plain
    return _Finisher(len(body), {}).of(read(body, unrestricted=unrestricted))


def _load_plain(body: bytes, *, unrestricted: bool) -> object:
    if unrestricted:
        return pickle.loads(body)  # noqa: S301 - the codec was made with trusted=True and unrestricted=True
    _check_opcodes(body)
    # Python 2 wrote the bytes of an array as text, one character for each.
    return _PlainUnpickler(io.BytesIO(body), encoding="latin-1").load()


def _load_torch(body: bytes, *, unrestricted: bool) -> object:
    try:
        import torch
    except ImportError as error:
        raise DecodeError("what torch.save writes is read with torch, which is not installed") from error
    _warn_of(torch.__version__)
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=not unrestricted)
    except pickle.UnpicklingError as error:
        raise NotPlainError("torch does not read the document with weights_only=True") from error


@lru_cache(maxsize=1)
def _warn_of(version: str) -> None:
    """Log once what is known of this version of torch."""
    if tuple(map(int, version.split(".")[:2])) < _SAFE_TORCH:
        _log.warning("torch before 2.10 lets a file run code despite weights_only=True", torch=version)


def _check_opcodes(body: bytes) -> None:
    """Raise `DecodeError` for a pickle that is cut short or asks for more than it has reason to."""
    end = 0
    for opcode, argument, place in pickletools.genops(body):
        if opcode.name in _NOT_PLAIN:
            raise NotPlainError(f"the pickle does {opcode.name}, which plain data has no need of")
        # The unpickler makes a list of as many places as the largest number that it is to remember.
        if opcode.name.endswith("PUT") and cast(int, argument) > len(body):
            raise DecodeError("the pickle numbers its objects beyond their count")
        end = (place or 0) + 1
    if end != len(body):
        raise DecodeError("something follows the end of the pickle")


class _PlainUnpickler(pickle.Unpickler):
    """Makes nothing but what the table `_MAKERS` names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what makes an object of the class. Raises `NotPlainError` for one that is not plain."""
        if cls := _CLASSES.get((module, name)):
            return cls
        if maker := _MAKERS.get((module.replace("numpy.core", "numpy._core"), name)):
            return _Call(maker)
        asked = f"{module}.{name}"
        raise NotPlainError(f"the pickle asks for {asked!r:.100}, which is not plain data")


@attrs.define(eq=False)
class _Call:
    """Calls a function. A new one each time: a pickle may set attributes of what it has found."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


@attrs.define
class _Dtype:
    """Stands for a numpy dtype, whose own ``__setstate__`` believes too much."""

    dtype: "np.dtype[Any]"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise DecodeError("a dtype in the pickle has no byte order")
        self.dtype = self.dtype.newbyteorder(order)


@attrs.define
class _Array:
    """Stands for an array until all of it is there."""

    array: "npt.NDArray[Any] | None" = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _dtype(code: str, *_: object) -> _Dtype:
    if code not in DTYPES:
        raise DecodeError(f"the pickle has an array of {code!r:.100}, which is not of numbers")
    return _Dtype(np.dtype(code))


def _array(data: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: str) -> "npt.NDArray[Any]":
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or not all(type(n) is int and n >= 0 for n in shape):
        raise DecodeError("an array in the pickle has no shape, or no bytes")
    if order not in ("C", "F") or math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise DecodeError("an array in the pickle is not as large as its shape says")
    # A boolean of any byte but 0 and 1 is undefined behaviour in whatever computes with it.
    stored = np.dtype(np.uint8) if dtype.dtype.kind == "b" else dtype.dtype
    flat = np.frombuffer(raw, stored).astype(dtype.dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    return _array(data, dtype, (), "C")[()]


def _bytes_of(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DecodeError("the pickle has bytes in an encoding that no pickler uses")
    return text.encode("latin-1")


def _bytearray(*parts: Any) -> bytearray:
    if any(isinstance(part, int) for part in parts):
        raise DecodeError("a bytearray in the pickle is a length without bytes")
    return bytearray(*parts)


_CLASSES = {
    (module, cls.__name__): cls for module in ("builtins", "__builtin__") for cls in (set, frozenset, complex)
} | {("collections", "OrderedDict"): OrderedDict}
_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    # How the older protocols write no bytes at all.
    ("builtins", "bytes"): lambda: b"",
    ("__builtin__", "bytes"): lambda: b"",
    ("builtins", "bytearray"): _bytearray,
    ("__builtin__", "bytearray"): _bytearray,
    ("_codecs", "encode"): _bytes_of,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _array,
}


# -- what was read -----------------------------------------------------------------------------


@attrs.define
class _Finisher:
    """Puts arrays where something stands for them. ``size``: of the pickle, in bytes."""

    size: int
    done: dict[int, object]

    def of(self, value: Any) -> Any:
        """Return the value itself, changed in place, or what it stands for."""
        if id(value) not in self.done:
            self.done[id(value)] = value
            self.done[id(value)] = self._made(value)
        return self.done[id(value)]

    def _made(self, value: Any) -> Any:
        if isinstance(value, _Array):
            if value.array is None:
                raise DecodeError("an array in the pickle has no content")
            return value.array
        if isinstance(value, _Dtype):
            return value.dtype
        if isinstance(value, list):
            value[:] = map(self.of, value)
        elif isinstance(value, dict):
            for key, item in value.items():
                value[key] = self.of(item)
        elif type(value) is tuple:
            return tuple(map(self.of, value))
        elif type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
            return self._from_torch(value)
        return value

    def _from_torch(self, tensor: Any) -> Any:
        """Return a tensor as an array. A few bytes can claim to be a tensor of any size: not these."""
        import torch

        if tensor.numel() * tensor.element_size() > self.size:
            raise DecodeError("a tensor in the document is larger than the document")
        tensor = tensor.detach()
        if tensor.dtype is torch.bfloat16:
            tensor = tensor.float()
        return tensor.cpu().resolve_conj().resolve_neg().numpy()
