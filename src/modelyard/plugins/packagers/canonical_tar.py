"""Writing archives whose bytes depend on names, contents and x bits, and on nothing else.

No owner, no time, two modes, and entries only of those folders that are empty. The format is GNU's
and not PAX, because busybox reads a file of 8 GiB and more as empty where its size stands in a PAX
header.
"""

import hashlib
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import attrs

from modelyard.core.contracts import Bundle, Splice
from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.deflate import Compressor, compressor, crc32
from modelyard.plugins.packagers.entries import Entry, EntryKind, Names, is_below, name_fault, shown
from modelyard.plugins.packagers.lanes import Chunks
from modelyard.plugins.packagers.manifest import check_unchanged
from modelyard.plugins.packagers.splice import (
    CODE,
    HEADER_SIZE,
    Index,
    Prefix,
    neutral_entry,
    padding,
    unindexed_header,
)

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

_COPIED = 64 << 20
_TYPES = {EntryKind.FILE: tarfile.REGTYPE, EntryKind.FOLDER: tarfile.DIRTYPE, EntryKind.LINK: tarfile.LNKTYPE}


def write_archive(
    path: Path, entries: Iterable[Entry], *, level: int, max_entries: int | None = None
) -> Bundle:
    """Write the entries to `path`, which appears whole or not at all. Raises `PackagingError`.

    The digest is that of the tar.
    """
    with _making(path) as file:
        names = Names()
        file.write(_HEADER)
        with _Section(file, names, compressor(level, fast=False), max_entries) as section:
            section.add(entries)
            section.end_tar()
        file.write(struct.pack("<II", section.crc, section.raw & 0xFFFFFFFF))
    return Bundle(path, section.digest, len(names.files), path.stat().st_size)


def write_model(
    path: Path,
    code: Iterable[Entry],
    rest: Iterable[Entry],
    *,
    level: int,
    max_entries: int | None = None,
) -> Bundle:
    """Write a model archive whose code can be replaced later without reading the rest (module `splice`).

    ``code``: entries below ``code/``; where some of them have to come with the `rest`, nothing can be
    replaced. `path` appears whole or not at all. Raises `PackagingError`.
    """
    with _making(path) as file:
        names = Names()
        prefix = _write_prefix(file, code, names, level, max_entries)
        with _Section(file, names, compressor(level, fast=True), max_entries) as section:
            watched = _Watched(rest)
            section.add(watched)
            section.end_tar()
        files = len(names.files) - prefix.files
        index = prefix.index(section.deflated, section.raw, files, section.crc, section.digest)
        _finish(file, index, indexed=not watched.touches_code)
    return _model_bundle(path, index, prefix)


@attrs.frozen
class Body:
    """The model in an archive: where its deflated bytes start, and what there is to say about them.

    ``status``: that of the archive, when this was found out.
    """

    archive: Path
    status: os.stat_result
    start: int
    index: Index


def write_spliced(
    path: Path, code: Iterable[Entry], body: Body, *, level: int, max_entries: int | None = None
) -> Bundle:
    """Write a model archive of `code` and a model that is copied as it is. Raises `PackagingError`.

    `path` appears whole or not at all, and may be the archive itself.
    """
    old = body.index
    with _making(path) as file, body.archive.open("rb") as model:
        check_unchanged(body.archive, body.status, os.fstat(model.fileno()))
        room = None if max_entries is None else max_entries - old.body_files
        prefix = _write_prefix(file, code, Names(), level, room)
        _copy(model, body.start, old.body, file)
        check_unchanged(body.archive, body.status, os.fstat(model.fileno()))
        index = prefix.index(old.body, old.body_raw, old.body_files, old.crc, old.body_digest)
        _finish(file, index)
    return _model_bundle(path, index, prefix)


def splice(code: Iterable[Entry], old: Index, *, level: int, max_entries: int, at_least: int) -> Splice:
    """Return what is to be put around the body of the archive with the index `old` to give it `code`.

    `at_least`: bytes that come before the body. Raises `PackagingError`.
    """
    file = io.BytesIO()
    prefix = _write_prefix(file, code, Names(), level, max_entries - old.body_files)
    file.write(padding(at_least - len(file.getvalue())))
    deflated = file.getvalue()[HEADER_SIZE:]
    index = old.with_prefix(Prefix(deflated, prefix.raw), prefix.files)
    digest = _model_digest(prefix.digest, index.body_digest)
    files = index.prefix_files + index.body_files
    return Splice(index.header + deflated, old.start, old.stop, index.trailer, digest, files)


def _model_bundle(path: Path, index: Index, prefix: "_WrittenPrefix") -> Bundle:
    digest = _model_digest(prefix.digest, index.body_digest)
    return Bundle(path, digest, index.prefix_files + index.body_files, path.stat().st_size)


def _model_digest(code: str, body: str) -> str:
    """Return the digest of a model: of two digests, so that it is known without reading the body."""
    return hashlib.sha256(bytes.fromhex(code + body)).hexdigest()


@attrs.frozen
class _WrittenPrefix:
    """What was written before a body. ``digest``: of the tar of the code, as the user has it."""

    deflated: int
    raw: int
    files: int
    digest: str

    def index(self, body: int, raw: int, files: int, crc: int, digest: str) -> Index:
        """Return the index of the whole, with what there is to say about the body."""
        return Index(self.deflated, self.raw, self.files, body, raw, files, crc, digest)


def _write_prefix(
    file: BinaryIO, code: Iterable[Entry], names: Names, level: int, max_entries: int | None
) -> _WrittenPrefix:
    """Write room for a header and, where there is code, the prefix (see the module `splice`)."""
    file.write(bytes(HEADER_SIZE))
    # zlib, for the same bytes with and without isal, and because code is small.
    with _Section(file, names, compressor(level, fast=False), max_entries) as section:
        section.add(code)
        if not names:
            return _WrittenPrefix(0, 0, 0, section.digest)
        section.end_prefix()
    return _WrittenPrefix(section.deflated, section.raw, len(names.files), section.digest)


def _finish(file: BinaryIO, index: Index, *, indexed: bool = True) -> None:
    file.write(index.trailer)
    file.seek(0)
    file.write(index.header if indexed else unindexed_header())


class _Watched:
    """Entries that go by; ``touches_code``: whether one of them is code, or a link to some."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.touches_code = False

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.touches_code |= _touches_code(entry)
            yield entry


def _touches_code(entry: Entry) -> bool:
    """Tell whether an entry is code or depends on it."""
    return is_below(entry.name, (CODE,)) or is_below(entry.target, (CODE,))


def _copy(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    """Append `size` bytes from `start` on; the kernel copies them where it can."""
    target.flush()
    source.seek(start)
    left = size
    while left and (copied := _copied_by_kernel(source, start + size - left, left, target)):
        left -= copied
    source.seek(start + size - left)
    target.seek(0, os.SEEK_END)
    while left:
        data = source.read(min(left, 1 << 20))
        if not data:
            raise PackagingError(f"the model '{source.name}' became shorter while it was copied")
        target.write(data)
        left -= len(data)


def _copied_by_kernel(source: BinaryIO, start: int, size: int, target: BinaryIO) -> int:
    """Append some bytes; return how many, 0 where the kernel or the file systems cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    with suppress(OSError):
        return os.copy_file_range(source.fileno(), target.fileno(), min(size, _COPIED), start)
    return 0


@contextmanager
def _making(path: Path) -> Iterator[BinaryIO]:
    try:
        with _appearing(path) as file:
            yield file
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


class _Section:
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
