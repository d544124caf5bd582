"""The tar format, read once from front to back in bounded memory, with every damage reported.

The standard library's reader stops in silence at a damaged header, never looks behind the end
marker (so that the checksum of a gzip file goes unread and a truncated download passes), and loads
extended headers of any size. Only its parser of single headers is used here. What Python, GNU tar and
libarchive read as different files is damage too: no program writes that, and nobody could say which of
them is the model.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from modelyard.core.errors import PackagingError, UnsafeArchiveError
from modelyard.plugins.packagers.gzip_stream import MAGIC, GzipStream

CHUNK = 1 << 20
_BLOCK = 512
_MAX_EXTENDED = 1 << 20
"""Bytes of extended headers before one member: far more than names need."""
_PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]{1,255})=")
_PAX_SIZE = re.compile(r"[0-9]{1,19}")
_GNU_NAMES = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_EXTENSIONS = (*_GNU_NAMES, tarfile.XHDTYPE, tarfile.XGLTYPE)
_TYPE, _MAGIC, _PREFIX = slice(156, 157), slice(257, 263), slice(345, 500)
_POSIX = b"ustar\0"

Member = tuple[tarfile.TarInfo, Iterator[bytes]]
"""A header with its extensions applied, and the content in chunks."""


class Readable(Protocol):
    """Something to read from, with all the bytes that were asked for except at the end."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        ...


class ArchiveStream:
    """The bytes of one archive, decompressed where it is gzip, and at most `limit` of them.

    ``gzip``: what decompresses it, if anything does; ``position``: how many bytes were read;
    ``observer``: is shown all of them.
    """

    def __init__(self, archive: Path, stream: Readable, limit: int) -> None:
        self._archive = archive
        self._stream = stream
        self._left = limit
        self.limit = limit
        self.gzip = stream if isinstance(stream, GzipStream) else None
        self.position = 0
        self.observer: Callable[[bytes], object] | None = None

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end. Raises `PackagingError`."""
        try:
            data = self._stream.read(size)
        except (EOFError, OSError) as error:
            raise self.damaged(str(error)) from error
        self.position += len(data)
        self._left -= len(data)
        if self._left < 0:
            raise self.unsafe("decompresses to far more than its size (option max_ratio)")
        if self.observer is not None:
            self.observer(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes. Raises `PackagingError` where the archive ends before."""
        data = self.read(size)
        if len(data) < size:
            raise self.damaged("it ends in the middle")
        return data

    def damaged(self, why: str) -> PackagingError:
        """Return the error for an archive that cannot be read."""
        return PackagingError(f"archive '{self._archive}' is damaged, or neither .tar nor .tar.gz: {why}")

    def unsafe(self, why: str) -> UnsafeArchiveError:
        """Return the error for an archive that must not be unpacked."""
        return UnsafeArchiveError(f"archive '{self._archive}' is not safe to unpack: it {why}")


@contextmanager
def open_archive(archive: Path, limit: int) -> Iterator[ArchiveStream]:
    """Open a ``.tar`` or ``.tar.gz``, told apart by content. Raises `PackagingError`."""
    try:
        file = archive.open("rb")
    except OSError as error:
        raise PackagingError(f"cannot read archive '{archive}': {error.strerror}") from error
    with file:
        compressed = file.peek(len(MAGIC)).startswith(MAGIC)
        yield ArchiveStream(archive, GzipStream(file) if compressed else file, limit)


def read_tar(stream: ArchiveStream) -> Iterator[Member]:
    """Yield the members of a tar in their order, then read on to the very end of the file.

    What is left of a member's content is skipped when the next one is asked for. Raises
    `PackagingError` for damage anywhere, `UnsafeArchiveError` for oversized extended headers.
    """
    while (found := _extended(stream)) is not None:
        info, extended = found
        _apply(stream, info, extended)
        chunks = _content(stream, info.size)
        yield info, chunks
        for _ in chunks:
            pass
    _read_to_end(stream)


def _extended(stream: ArchiveStream) -> tuple[tarfile.TarInfo, dict[str, str]] | None:
    """Return the next member's header and what extended headers say about it, None at the end marker."""
    extended: dict[str, str] = {}
    before: list[bytes] = []
    size = 0
    while (info := _header(stream, is_extended=bool(before))) is not None:
        if info.type not in _EXTENSIONS:
            return info, extended
        size += _BLOCK + info.size
        if size > _MAX_EXTENDED:
            raise stream.unsafe(f"has extended headers of more than {_MAX_EXTENDED:,} bytes")
        if not _may_follow(info.type, before):
            raise stream.damaged("a member has several extended headers, of which readers choose one")
        if info.type != tarfile.XGLTYPE:
            before.append(info.type)
        extended |= _extension(stream, info)
    if before:
        raise stream.damaged("it ends with an extended header")
    return None


def _may_follow(kind: bytes, before: Sequence[bytes]) -> bool:
    """Tell whether an extended header may stand behind others: but for GNU's two, each stands alone."""
    return not before or (kind in _GNU_NAMES and before[0] in _GNU_NAMES and kind not in before)


def _header(stream: ArchiveStream, *, is_extended: bool) -> tarfile.TarInfo | None:
    """Return the next header, or None at the end marker."""
    block = stream.read_exactly(_BLOCK)
    if not any(block):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise stream.damaged(str(error)) from error
    if info.size < 0:
        raise stream.damaged(f"a member has {info.size} bytes")
    # For GNU times, in its incremental archives, and what is sparse; Python adds it to the name.
    has_more = any(block[_PREFIX]) and block[_MAGIC] != _POSIX and info.type != tarfile.GNUTYPE_SPARSE
    # In the oldest archives a slash makes a folder; for Python even one in a name that is not its own.
    is_folder = info.isdir() and block[_TYPE] == tarfile.AREGTYPE and is_extended
    if has_more or is_folder:
        raise stream.damaged("a member is another one for other readers")
    return info


def _content(stream: ArchiveStream, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = stream.read_exactly(min(left, CHUNK))
        left -= len(chunk)
        yield chunk
    stream.read_exactly(-size % _BLOCK)


def _extension(stream: ArchiveStream, info: tarfile.TarInfo) -> dict[str, str]:
    """Return what an extended header says about the next member."""
    data = b"".join(_content(stream, info.size))
    if info.type in _GNU_NAMES:
        return {_GNU_NAMES[info.type]: _text(data.partition(b"\0")[0])}
    said = list(_pax_records(stream, data))
    records = dict(said)
    if len(records) < len(said):
        raise stream.damaged("an extended header says twice what a member is called")
    if info.type == tarfile.XGLTYPE and records:
        raise stream.unsafe(f"sets {', '.join(sorted(records))} for all members at once")
    return records


def _pax_records(stream: ArchiveStream, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the records that matter here: names, sizes and sparse files."""
    position = 0
    while position < len(data):
        match = _PAX_RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or end <= match.end() or data[end - 1 : end] != b"\n":
            raise stream.damaged("an extended header makes no sense")
        key = _text(match[2])
        if key in ("path", "linkpath", "size") or key.startswith("GNU.sparse."):
            yield key, _text(data[match.end() : end - 1])
        position = end


def _apply(stream: ArchiveStream, info: tarfile.TarInfo, extended: dict[str, str]) -> None:
    info.name = extended.get("path", info.name)
    info.linkname = extended.get("linkpath", info.linkname)
    size = extended.get("size", str(info.size))
    if not _PAX_SIZE.fullmatch(size):
        raise stream.damaged(f"a member has {size[:40]!r} bytes")
    info.size = int(size)
    if any(key.startswith("GNU.sparse.") for key in extended):
        info.type = tarfile.GNUTYPE_SPARSE
    # Readers disagree on whether such content is there, and so on where the next header starts.
    if info.size and not info.isreg():
        raise stream.damaged("a member that is no file has content")
    # A folder for GNU tar, and a hard link for libarchive.
    if info.isreg() and (info.name.endswith("/") or "linkpath" in extended):
        raise stream.damaged("a file has the name of a folder, or a link's target")


def _read_to_end(stream: ArchiveStream) -> None:
    while chunk := stream.read(CHUNK):
        if chunk.count(0) < len(chunk):
            raise stream.damaged("there is data behind its end marker, which most readers would lose")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
