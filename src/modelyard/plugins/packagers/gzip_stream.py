"""The gzip format, read once from front to back, with the place and the checksum of every member.

The standard library's reader does not say where a member begins and ends, which is what it takes to
copy one.
"""

import struct
from typing import BinaryIO

import attrs

from modelyard.plugins.packagers.deflate import Decompressor, crc32, decompressor, errors
from modelyard.plugins.packagers.splice import MAX_HEADER, parse_index

MAGIC = b"\x1f\x8b"
_CHUNK = 256 << 10
_HEAD = struct.Struct("<2sBB6x")
_TRAILER = struct.Struct("<II")
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 224
_DEFLATE = 8
_MAX_TEXT = 64 << 10


@attrs.frozen
class GzipMember:
    """Where in the file the deflated bytes are, and what they inflate to."""

    start: int
    stop: int
    raw: int
    crc: int


class GzipStream:
    """Inflates a file that begins with `MAGIC`. Raises ``EOFError`` and ``OSError``.

    ``members``: those that were read to their end; ``index``: what the first header says about the
    file, which nobody has checked.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""
        self._offset = 0
        self._inflater: Decompressor | None = None
        self._start = self._raw = self._crc = 0
        self.members: list[GzipMember] = []
        self._fill(MAX_HEADER)
        self.index = parse_index(self._buffer)

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        parts = []
        while size and (data := self._some(size)):
            parts.append(data)
            size -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        """Return 1 to `size` bytes, none only at the end."""
        while inflater := self._inflater or self._begin():
            if data := self._inflate(inflater, size):
                return data
        return b""

    def _inflate(self, inflater: Decompressor, size: int) -> bytes:
        self._need(1)
        try:
            data = inflater.decompress(self._buffer, size)
        except errors() as error:
            raise OSError(str(error)) from error
        left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        self._offset += len(self._buffer) - len(left)
        self._buffer = left
        self._raw += len(data)
        self._crc = crc32(data, self._crc)
        if inflater.eof:
            self._end()
        return data

    def _begin(self) -> Decompressor | None:
        """Start to inflate the next member; None at the end of the file, which may be padded with zeros."""
        if self.members:
            while self._fill(1) and not self._buffer.strip(b"\0"):
                self._take(len(self._buffer))
            self._take(len(self._buffer) - len(self._buffer.lstrip(b"\0")))
            if not self._buffer:
                return None
        magic, method, flags = _HEAD.unpack(self._take(_HEAD.size))
        if magic != MAGIC or method != _DEFLATE or flags & _RESERVED:
            raise OSError("there is no gzip header where one should be")
        if flags & _EXTRA:
            self._take(int.from_bytes(self._take(2), "little"))
        for flag in (_NAME, _COMMENT):
            if flags & flag:
                self._skip_text()
        if flags & _HEADER_CRC:
            self._take(2)
        self._start, self._raw, self._crc = self._offset, 0, 0
        self._inflater = decompressor()
        return self._inflater

    def _end(self) -> None:
        self._inflater = None
        self.members.append(GzipMember(self._start, self._offset, self._raw, self._crc))
        crc, size = _TRAILER.unpack(self._take(_TRAILER.size))
        if crc != self._crc:
            raise OSError("CRC check failed: some of its bytes have changed")
        if size != self._raw & 0xFFFFFFFF:
            raise OSError("it has not the length that it says")

    def _skip_text(self) -> None:
        self._fill(_MAX_TEXT)
        end = self._buffer.find(b"\0", 0, _MAX_TEXT)
        if end < 0:
            raise OSError("a text in its header has no end")
        self._take(end + 1)

    def _take(self, size: int) -> bytes:
        self._need(size)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        self._offset += size
        return taken

    def _need(self, size: int) -> None:
        if not self._fill(size):
            raise EOFError("it ends in the middle")

    def _fill(self, size: int) -> bool:
        """Have at least `size` bytes in the buffer; False where there are not so many."""
        while len(self._buffer) < size:
            chunk = self._file.read(_CHUNK)
            if not chunk:
                return False
            self._buffer += chunk
        return True
