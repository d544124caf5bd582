"""Writing archives whose bytes depend on names, contents and x bits, and on nothing else.

No owner, no time, two modes, and entries only of those folders that are empty. The format is GNU's
and not PAX, because busybox reads a file of 8 GiB and more as empty where its size stands in a PAX
header.
"""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelyard.core.contracts import Bundle
from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.entries import Entry, EntryKind, Names, name_fault, shown

_BLOCK = 512
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
"""Asks zlib for a gzip header, in which it puts no time and no file name, unlike `gzip.GzipFile`
the same system byte under every version of Python."""

_TYPES = {EntryKind.FILE: tarfile.REGTYPE, EntryKind.FOLDER: tarfile.DIRTYPE, EntryKind.LINK: tarfile.LNKTYPE}


def write_archive(
    path: Path, entries: Iterable[Entry], *, level: int, max_entries: int | None = None
) -> Bundle:
    """Write the entries to `path`, which appears whole or not at all. Raises `PackagingError`."""
    try:
        with _appearing(path) as file:
            archive = _CanonicalTar(file, level, max_entries)
            for entry in entries:
                archive.add(entry)
            archive.close()
        return Bundle(path, archive.digest, archive.files, path.stat().st_size)
    except OSError as error:
        raise PackagingError(f"cannot make '{path}': {error}") from error


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which becomes `path` at the end and goes away on an error."""
    part = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _CanonicalTar:
    """Compresses a tar while it is made, and takes the digest of what goes into the compressor."""

    def __init__(self, file: BinaryIO, level: int, max_entries: int | None) -> None:
        self._file = file
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP_CONTAINER)
        self._sha256 = hashlib.sha256()
        self._names = Names()
        self._max_entries = max_entries

    @property
    def digest(self) -> str:
        """The SHA-256 of the tar, in hex."""
        return self._sha256.hexdigest()

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(self._names.files)

    def add(self, entry: Entry) -> None:
        """Append a file or a link; note a folder. Raises `PackagingError`."""
        self._check(entry)
        if entry.kind is EntryKind.FOLDER:
            return
        self._write(_header(entry))
        if entry.kind is EntryKind.FILE:
            self._write_content(entry)

    def close(self) -> None:
        """Write the folders that stayed empty, the end marker and the checksum."""
        for name in self._names.empty_folders():
            self._write(_header(Entry(name, EntryKind.FOLDER)))
        self._write(bytes(2 * _BLOCK))
        self._file.write(self._compressor.flush())

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
            self._write(chunk)
        if written != entry.size:
            raise PackagingError(f"{shown(entry.name)} changed while it was packed")
        self._write(bytes(-written % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        self._file.write(self._compressor.compress(data))


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.name)
    info.type = _TYPES[entry.kind]
    info.mode = 0o755 if entry.executable or entry.kind is EntryKind.FOLDER else 0o644
    info.linkname = entry.target
    info.size = entry.size if entry.kind is EntryKind.FILE else 0
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
