"""Tensors by safetensors, without torch."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.errors import DecodeError, EncodeError, NotAcceptableError, UnsupportedMediaTypeError
from modelyard.core.lazy import lazy_module
from modelyard.serializers._arrays import NUMBERS, as_array

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.

ONLY = "tensor"
"""What a tensor without a name is called."""

MAX_HEADER = 1024 * 1024
"""Bytes: some ten thousand tensors."""

_DTYPES = {
    "BOOL": "|b1",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "|u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_MISSING = "application/x-torch needs the package safetensors: pip install 'modelyard[torch]'"


@attrs.frozen
class TorchCodec:
    """application/x-torch: tensors by name, in the format of safetensors. Nothing in it can run.

    One tensor alone is called ``tensor``; a document that holds nothing else is that tensor. Tensors
    are read as numpy arrays, bfloat16 as float32.
    """

    name: ClassVar[str] = "torch"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-torch",)
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)

    def encode(self, value: object) -> bytes:
        """Return a dict of arrays, or one array, as safetensors, the dtypes kept. Raises `EncodeError`."""
        tensors = value if isinstance(value, Mapping) else {ONLY: value}
        for name in tensors:
            if not isinstance(name, str) or name == "__metadata__":
                raise EncodeError(f"{name!r:.100} is not a name for a tensor")
        arrays = {name: _storable(array) for name, array in tensors.items()}
        try:
            document = _safetensors("numpy", NotAcceptableError).save(arrays)
        # A lone surrogate in a name, say; the errors of safetensors have no type but Exception in common.
        except NotAcceptableError:
            raise
        except Exception as error:
            raise EncodeError(f"safetensors does not write the tensors: {error}") from error
        return bytes(document)

    def decode(self, body: bytes) -> "dict[str, npt.NDArray[Any]] | npt.NDArray[Any]":
        """Return the tensors by name as writable arrays, or the only one where that is ``tensor``.

        Raises `DecodeError`.
        """
        length = int.from_bytes(body[:8], "little")
        if length > MAX_HEADER:
            raise DecodeError(f"the header of the tensors has {length} bytes; at most {MAX_HEADER} are read")
        deserialize = _safetensors("", UnsupportedMediaTypeError).deserialize
        try:
            found = deserialize(body)
        except Exception as error:
            raise DecodeError(f"not a document of safetensors: {error!s:.200}") from error
        tensors = {name: _array(name, tensor) for name, tensor in found}
        return tensors[ONLY] if tensors.keys() == {ONLY} else tensors


def _safetensors(part: str, missing: type[Exception]) -> Any:
    """Return a module of safetensors. Raises `missing` where it is not installed."""
    try:
        return import_module(f"safetensors.{part}".rstrip("."))
    except ImportError as error:
        raise missing(_MISSING) from error


def _storable(value: object) -> "npt.NDArray[Any]":
    array = as_array(value)
    if array.dtype.str[1:] not in NUMBERS:
        raise EncodeError(
            f"tensors are written of booleans, integers and floats; this {type(value).__name__} makes an "
            f"array of {array.dtype}"
        )
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _array(name: str, tensor: Mapping[str, Any]) -> "npt.NDArray[Any]":
    dtype, data = tensor["dtype"], tensor["data"]
    if dtype == "BF16":
        return _widened(data).reshape(tensor["shape"])
    if dtype not in _DTYPES:
        raise DecodeError(f"the tensor {name!r:.100} is of {dtype}, which numpy has no array of")
    stored = np.dtype(_DTYPES[dtype])
    # A boolean of any byte but 0 and 1 is undefined behaviour in whatever computes with it.
    raw = np.frombuffer(data, np.uint8 if stored.kind == "b" else stored)
    array = raw.astype(stored.newbyteorder("="), copy=not raw.flags.writeable)
    return array.reshape(tensor["shape"])


def _widened(data: bytes) -> "npt.NDArray[np.float32]":
    """Return bfloat16 numbers as float32, of which they are the upper half."""
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
