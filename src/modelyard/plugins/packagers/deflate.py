"""Compressors: isal where it is installed and of use, else zlib.

Of float32 weights isal's level 1 leaves less than gzip's level 9, twenty times as fast. Its level 0
makes them larger, and its other levels are those of nobody: whoever asks for a level gets zlib's.
"""

import zlib
from functools import cache
from types import ModuleType
from typing import Protocol

_RAW = -zlib.MAX_WBITS
_FAST_LEVEL = 1


class Compressor(Protocol):
    """What `zlib.compressobj` returns."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what can be said so far."""
        ...

    def flush(self, mode: int = zlib.Z_FINISH, /) -> bytes:
        """Return the rest."""
        ...


class Decompressor(Protocol):
    """What `zlib.decompressobj` returns."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed data was seen."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was behind that end."""
        ...

    @property
    def unconsumed_tail(self) -> bytes:
        """What there was no room for."""
        ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        """Return at most that many bytes."""
        ...


def compressor(level: int, *, fast: bool) -> Compressor:
    """Return a compressor to raw deflate; with `fast`, isal's if that is the level that it is good at."""
    if fast and level == _FAST_LEVEL and (isal := _isal()):
        made: Compressor = isal.compressobj(level, zlib.DEFLATED, _RAW)
        return made
    return zlib.compressobj(level, zlib.DEFLATED, _RAW)


def decompressor() -> Decompressor:
    """Return a decompressor of raw deflate."""
    if isal := _isal():
        made: Decompressor = isal.decompressobj(_RAW)
        return made
    return zlib.decompressobj(_RAW)


def crc32(data: bytes, value: int = 0) -> int:
    """Return the CRC-32."""
    if isal := _isal():
        return int(isal.crc32(data, value))
    return zlib.crc32(data, value)


def errors() -> tuple[type[Exception], ...]:
    """Return what decompressors raise for data that is not deflated."""
    isal = _isal()
    return (zlib.error, isal.error) if isal else (zlib.error,)


@cache
def _isal() -> ModuleType | None:
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    module: ModuleType = isal_zlib
    return module
