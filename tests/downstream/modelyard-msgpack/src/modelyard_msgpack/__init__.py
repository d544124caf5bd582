"""A codec for modelyard: MessagePack."""

from collections.abc import Iterable
from typing import ClassVar

import attrs

from modelyard import hookimpl
from modelyard.core.contracts import Codec
from modelyard.core.errors import DecodeError, EncodeError

MODELYARD_CONTRACT = "1.0"

_ARRAY = 78
"""The extension type of an array: its dtype as numpy spells it, its shape and its bytes, packed."""

_DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")


@attrs.frozen
class MsgpackCodec:
    """application/msgpack: plain Python, with numpy arrays anywhere in it; lists stay lists."""

    name: ClassVar[str] = "msgpack"
    media_types: ClassVar[tuple[str, ...]] = ("application/msgpack", "application/x-msgpack")
    suffixes: ClassVar[tuple[str, ...]] = (".msgpack",)

    def encode(self, value: object) -> bytes:
        """Return the value as one document. Raises `EncodeError`."""
        import msgpack

        try:
            return bytes(msgpack.packb(value, default=_packed))
        except (TypeError, ValueError, OverflowError) as error:
            raise EncodeError(f"a {type(value).__name__} has no form in MessagePack: {error}") from error

    def decode(self, body: bytes) -> object:
        """Return the value of a document; its arrays are read-only views of `body`. Raises `DecodeError`."""
        import msgpack

        try:
            value: object = msgpack.unpackb(body, ext_hook=_unpacked, strict_map_key=False, timestamp=3)
        except (TypeError, ValueError, OverflowError) as error:
            raise DecodeError(f"not a MessagePack document: {error}") from error
        return value


def _packed(value: object) -> object:
    import msgpack
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    array = np.asarray(value)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.str not in _DTYPES:
        raise TypeError(f"neither is a {type(value).__name__} plain Python nor is it an array of numbers")
    return msgpack.ExtType(_ARRAY, msgpack.packb((array.dtype.str, array.shape, array.tobytes())))


def _unpacked(code: int, packed: bytes) -> object:
    import msgpack
    import numpy as np

    dtype, shape, content = msgpack.unpackb(packed)
    if code != _ARRAY or dtype not in _DTYPES:
        raise ValueError(f"extension type {code} is not an array of numbers")
    return np.frombuffer(content, dtype).reshape(tuple(shape))


@hookimpl
def modelyard_register_codecs() -> Iterable[type[Codec]]:
    """Return the codec."""
    return (MsgpackCodec,)
