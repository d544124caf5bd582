"""Writing archives whose bytes depend on names, contents and x bits, and on nothing else.

No owner, no time, two modes, and entries only of those folders that are empty. The format is GNU's
and not PAX, because busybox reads a file of 8 GiB and more as empty where its size stands in a PAX
header.
"""

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from modelyard.core.contracts import Bundle
from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.deflate import Compressor, compressor, crc32
from modelyard.plugins.packagers.entries import Entry, EntryKind, Names, name_fault, shown
from modelyard.plugins.packagers.lanes import Chunks
from modelyard.plugins.packagers.splice import neutral_entry
from modelyard.plugins.packagers.whole_files import making

_BLOCK = 512
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
"""A gzip header of Unix without time and file name."""

_SHORT = 100
_MAX_OCTAL = 8 << 30
_SHORT_HEADER = (
    b"%b%b\0"
    + b"0000000\0" * 2
    + b"%b\0"
    + b"0" * 11
    + b"\0%b\0 0"
    + bytes(_SHORT)
    + b"ustar  \0"
    + bytes(247)
)
"""Name, mode, owners, size, time, checksum, type, target, magic, and nothing of the rest."""
_CHECKSUM = sum(_SHORT_HEADER % (b"", b"", b"", b" " * 6)) + sum(b" " * 2) - sum(b"\0 ")
"""What is in the checksum of every such header, its own field counted as eight spaces."""

_TYPES = {EntryKind.FILE: tarfile.REGTYPE, EntryKind.FOLDER: tarfile.DIRTYPE, EntryKind.LINK: tarfile.LNKTYPE}


def write_archive(
    path: Path, entries: Iterable[Entry], *, level: int, max_entries: int | None = None
) -> Bundle:
    """Write the entries to `path`, which appears whole or not at all. Raises `PackagingError`.

    The digest is that of the tar.
    """
    with making(path) as file:
        names = Names()
        file.write(_HEADER)
        with Section(file, names, compressor(level, fast=False), max_entries) as section:
            section.add(entries)
            section.end_tar()
        file.write(struct.pack("<II", section.crc, section.raw & 0xFFFFFFFF))
    return Bundle(path, section.digest, len(names.files), path.stat().st_size)


class Section:
    """A tar, or the first part of one, on its way through a compressor into a file."""

    def __init__(self, file: BinaryIO, names: Names, deflater: Compressor, max_entries: int | None) -> None:
        self._file = file
        self._names = names
        self._deflater = deflater
        self._max_entries = max_entries
        self._sha256 = hashlib.sha256()
        self._chunks = Chunks(self._deflate, self._sum_up)
        self.crc = self.raw = self.deflated = 0

    def __enter__(self) -> Self:
        self._chunks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chunks.__exit__(kind, error, trace)

    @property
    def digest(self) -> str:
        """The SHA-256 of the tar, in hex, once it has ended."""
        return self._sha256.hexdigest()

    def add(self, entries: Iterable[Entry]) -> None:
        """Append files and links; note folders, and append those that stay empty. Raises `PackagingError`."""
        for entry in entries:
            self._check(entry)
            if entry.kind is not EntryKind.FOLDER:
                self._chunks.write(_header(entry))
            if entry.kind is EntryKind.FILE:
                self._write_content(entry)
        for name in self._names.take_empty_folders():
            self._chunks.write(_header(Entry(name, EntryKind.FOLDER)))

    def end_tar(self) -> None:
        """Write the end marker, and all that is still on its way."""
        self._chunks.write(bytes(2 * _BLOCK))
        self._chunks.close()
        self._write(self._deflater.flush())

    def end_prefix(self) -> None:
        """Write what makes this the prefix of any other tar (module `splice`)."""
        self._chunks.close()
        neutral = neutral_entry(self.crc)
        self._deflate(neutral)
        self.raw += len(neutral)
        self._write(self._deflater.flush(zlib.Z_FULL_FLUSH))

    def _check(self, entry: Entry) -> None:
        """Refuse what could not be unpacked again."""
        if fault := name_fault(entry.name):
            raise PackagingError(f"cannot pack {shown(entry.name)}: the name {fault}")
        if entry.kind is EntryKind.LINK and entry.target not in self._names.files:
            raise PackagingError(
                f"cannot pack {shown(entry.name)}: it is a link to {shown(entry.target)}, which is left out"
            )
        if not self._names.add(entry):
            raise PackagingError(f"cannot pack {shown(entry.name)}: it would be both a file and a folder")
        if self._max_entries is not None and len(self._names) > self._max_entries:
            raise PackagingError(
                f"cannot pack more than {self._max_entries:,} files and folders: keep data out of the "
                "source and pass it as a channel, or raise the packager's option max_entries"
            )

    def _write_content(self, entry: Entry) -> None:
        written = 0
        for chunk in entry.chunks:
            written += len(chunk)
            self._chunks.write(chunk)
        if written != entry.size:
            raise PackagingError(f"{shown(entry.name)} changed while it was packed")
        self._chunks.write(bytes(-written % _BLOCK))

    def _deflate(self, chunk: bytes) -> None:
        self._write(self._deflater.compress(chunk))

    def _sum_up(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self.crc = crc32(chunk, self.crc)
        self.raw += len(chunk)

    def _write(self, deflated: bytes) -> None:
        self.deflated += len(deflated)
        self._file.write(deflated)


def _header(entry: Entry) -> bytes:
    executable = entry.executable or entry.kind is EntryKind.FOLDER
    size = entry.size if entry.kind is EntryKind.FILE else 0
    name = entry.name.encode("utf-8", "surrogateescape")
    if entry.kind is EntryKind.FILE and len(name) < _SHORT and size < _MAX_OCTAL:
        return _short_header(name, size, executable=executable)
    info = tarfile.TarInfo(entry.name)
    info.type = _TYPES[entry.kind]
    info.mode = 0o755 if executable else 0o644
    info.linkname = entry.target
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _short_header(name: bytes, size: int, *, executable: bool) -> bytes:
    """Return what `tarfile` would for a file, in a fifth of the time: sources have thousands of them."""
    mode, length = b"0000755" if executable else b"0000644", b"%011o" % size
    checksum = b"%06o" % (_CHECKSUM + sum(name) + sum(mode) + sum(length))
    return _SHORT_HEADER % (name.ljust(_SHORT, b"\0"), mode, length, checksum)
