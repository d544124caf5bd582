"""ZIP archives in memory, read without trust.

`zipfile` believes what an archive says of itself, and inflates before it knows how much that makes.
Here all that an archive announces is looked at first, and it is held to it afterwards.
"""

import struct
import zlib
from collections.abc import Iterator

import attrs

from modelyard.core.errors import DecodeError

MAX_MEMBERS = 1000

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DEFLATED = 8
_UTF8 = 0x0800
# How hard it was compressed; its sizes stand behind it as well. What is left of the flags is encryption.
_HARMLESS = _UTF8 | 0x0006 | 0x0008


@attrs.frozen
class _Entry:
    """What the directory says of a member: `stored` bytes that make `size`; `offset`: of its header."""

    name: str
    raw_name: bytes
    deflated: bool
    crc: int
    stored: int
    size: int
    offset: int


def members(body: bytes, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of every member.

    `max_bytes`: of all contents together, uncompressed. Raises `DecodeError` before anything is
    inflated where the archive announces more, and for a member that is not what was announced.
    """
    entries, start = _directory(body)
    total = sum(entry.size for entry in entries)
    if total > max_bytes:
        raise DecodeError(f"the archive makes {total} bytes uncompressed; at most {max_bytes} are read")
    for entry in entries:
        yield entry.name, _content(body, start, entry)


def _directory(body: bytes) -> tuple[list[_Entry], int]:
    """Return the entries of the directory, and where it starts; it stands at the very end."""
    end = len(body) - _END.size
    if end < 0 or not body.startswith(b"PK"):
        raise DecodeError("not a ZIP archive")
    signature, _, _, _, count, size, start, comment = _END.unpack_from(body, end)
    if signature != b"PK\x05\x06" or comment or start + size != end:
        raise DecodeError("the archive does not end with its directory: is it complete?")
    if count > MAX_MEMBERS:
        raise DecodeError(f"the archive has {count} members; at most {MAX_MEMBERS} are read")
    entries, position = [], start
    for _ in range(count):
        entry, position = _entry(body, position, end)
        entries.append(entry)
    if position != end:
        raise DecodeError("the directory of the archive is damaged")
    if len({entry.name for entry in entries}) != count:
        raise DecodeError("the archive has two members of one name")
    return entries, start


def _entry(body: bytes, position: int, end: int) -> tuple[_Entry, int]:
    """Return the entry at `position`, and where the next one starts."""
    name_at = position + _ENTRY.size
    if name_at > end:
        raise DecodeError("the directory of the archive is damaged")
    fields = _ENTRY.unpack_from(body, position)
    signature, flags, method = fields[0], fields[3], fields[4]
    crc, stored, size, name_length, extra, comment = fields[7:13]
    next_at = name_at + name_length + extra + comment
    if signature != b"PK\x01\x02" or next_at > end:
        raise DecodeError("the directory of the archive is damaged")
    if flags & ~_HARMLESS or method not in (0, _DEFLATED):
        raise DecodeError("a member of the archive is encrypted, or compressed in a way that is not read")
    raw_name = body[name_at : name_at + name_length]
    try:
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise DecodeError("the name of a member of the archive is not UTF-8") from error
    return _Entry(name, raw_name, method == _DEFLATED, crc, stored, size, fields[-1]), next_at


def _content(body: bytes, start: int, entry: _Entry) -> bytes:
    """Return what a member holds. `start`: of the directory, which no member reaches into."""
    name_at = entry.offset + _LOCAL.size
    if name_at > start:
        raise DecodeError(f"the member {entry.name!r:.100} is not where the archive says")
    signature, *_, name_length, extra = _LOCAL.unpack_from(body, entry.offset)
    data_at = name_at + name_length + extra
    there = signature == b"PK\x03\x04" and body[name_at : name_at + name_length] == entry.raw_name
    if not there or data_at + entry.stored > start:
        raise DecodeError(f"the member {entry.name!r:.100} is not where the archive says")
    data = body[data_at : data_at + entry.stored]
    content = _inflated(data, entry.size) if entry.deflated else data
    if len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise DecodeError(f"the member {entry.name!r:.100} is not what the archive says")
    return content


def _inflated(data: bytes, size: int) -> bytes:
    """Return what `data` makes; no more than a byte beyond `size`, which is one too many already."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise DecodeError(f"a member of the archive cannot be uncompressed: {error}") from error
    return content if inflater.eof and not inflater.unused_data else b""
