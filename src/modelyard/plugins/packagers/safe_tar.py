"""Unpacking of archives that nobody vouches for.

The standard library's ``filter="data"`` has been bypassed about once a quarter, lets bombs and
truncated files pass, and is missing from the Python 3.11.2 that Debian 12 ships. What is allowed
here is little instead: regular files and folders below one folder, under names that `name_fault`
finds nothing in. Links are never made: one whose target is an earlier file of the archive becomes a
copy of it, any other is refused. Devices, pipes and sparse files are refused; of the modes only the
owner's x bit is kept. Where a name comes twice the later file counts, as in every reader of tar.
"""

import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.entries import (
    Entry,
    EntryKind,
    Names,
    canonical_name,
    is_below,
    name_fault,
    shown,
)
from modelyard.plugins.packagers.splice import CODE
from modelyard.plugins.packagers.tar_reader import CHUNK, ArchiveStream, open_archive, read_tar

_KEPT_FREE = 1 << 30
_RATIO_APPLIES_ABOVE = 64 << 20
_FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINK_TYPES = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@attrs.frozen
class Limits:
    """How much one archive may unpack to: bytes, entries, and bytes per byte of the archive.

    ``max_bytes`` None: what fits on the disk so that 1 GiB of it stays free. The ratio counts from
    64 MiB on, so that small and very regular archives pass.
    """

    max_bytes: int | None
    max_entries: int
    max_ratio: int

    def by_ratio(self, archive_size: int) -> int:
        """Return how many bytes an archive of this size may unpack to by the ratio."""
        return max(_RATIO_APPLIES_ABOVE, archive_size * self.max_ratio)


def read_archive(archive: Path, limits: Limits) -> Iterator[Entry]:
    """Yield the entries of a ``.tar`` or ``.tar.gz``, in their order, checked one by one.

    Raises `UnsafeArchiveError` for what must not be unpacked and `PackagingError` for damage; both
    can come as late as after the last entry.
    """
    with opened(archive, limits) as stream:
        yield from entries_in(stream, limits)


@contextmanager
def opened(archive: Path, limits: Limits) -> Iterator[ArchiveStream]:
    """Open an archive for `entries_in`. Raises `PackagingError`."""
    with open_archive(archive, limits.by_ratio(archive.stat().st_size if archive.is_file() else 0)) as stream:
        yield stream


def entries_in(stream: ArchiveStream, limits: Limits) -> Iterator[Entry]:
    """Yield the entries of an archive that is open, as `read_archive` does."""
    guard = _Guard(stream, limits)
    for info, chunks in read_tar(stream):
        if entry := guard.admit(info, chunks):
            yield entry


class _Guard:
    """Admits the members of one archive by the rules at the top of this module."""

    def __init__(self, stream: ArchiveStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        index = stream.gzip and stream.gzip.index
        self._code_ends = index.prefix_raw if index else None
        self._names = Names()
        self._sizes: dict[str, int] = {}
        self._entries = 0
        self._bytes = 0

    def admit(self, info: tarfile.TarInfo, chunks: Iterator[bytes]) -> Entry | None:
        """Return the member as an entry, None for the archive's root. Raises `UnsafeArchiveError`."""
        entry = self._entry(info, self._name(info.name), chunks)
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise self._stream.unsafe(f"has over {self._limits.max_entries:,} entries (option max_entries)")
        # SDK v2 writes the root of its model archives too, with an empty name.
        if entry.kind is EntryKind.FOLDER and not entry.name:
            return None
        if not entry.name:
            raise self._stream.unsafe("has a file without a name")
        if not self._names.add(entry):
            raise self._stream.unsafe(f"has {shown(entry.name)} both as a file and as a folder")
        if self._is_hidden_code(entry):
            raise self._stream.unsafe(f"has {shown(entry.name)} where its own index says that no code is")
        self._count_bytes(entry)
        return entry

    def _entry(self, info: tarfile.TarInfo, name: str, chunks: Iterator[bytes]) -> Entry:
        if info.isdir():
            return Entry(name, EntryKind.FOLDER)
        if info.type in _LINK_TYPES:
            return self._link(info, name)
        if info.type in _FILE_TYPES:
            return Entry(name, EntryKind.FILE, info.size, bool(info.mode & 0o100), chunks)
        raise self._stream.unsafe(f"has {shown(name)}, a device, a pipe, a sparse file or the like")

    def _link(self, info: tarfile.TarInfo, name: str) -> Entry:
        target = info.linkname
        if info.issym() and not target.startswith("/"):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        target = self._name(target)
        if target not in self._names.files or target == name:
            raise self._stream.unsafe(
                f"has a link, {shown(name)}, whose target {shown(info.linkname)} is no earlier file of "
                "the archive; pack it without links (tar --dereference --hard-dereference)"
            )
        return Entry(name, EntryKind.LINK, self._sizes[target], target=target)

    def _name(self, raw: str) -> str:
        if fault := name_fault(raw):
            raise self._stream.unsafe(f"has the name {shown(raw)}, which {fault}")
        return canonical_name(raw)

    def _is_hidden_code(self, entry: Entry) -> bool:
        """Tell whether code was put behind an index, so that whoever replaces the code would miss it."""
        if self._code_ends is None or not is_below(entry.name, (CODE,)):
            return False
        return self._stream.position > self._code_ends

    def _count_bytes(self, entry: Entry) -> None:
        self._sizes[entry.name] = entry.size
        self._bytes += entry.size
        if self._limits.max_bytes is not None and self._bytes > self._limits.max_bytes:
            raise self._stream.unsafe(
                f"unpacks to more than {self._limits.max_bytes:,} bytes: the option max_unpacked_bytes, "
                "without it the free disk space less 1 GiB"
            )
        if self._bytes > self._stream.limit:
            raise self._stream.unsafe("unpacks to far more than its size (option max_ratio)")


def unpack_archive(archive: Path, into: Path, limits: Limits) -> None:
    """Unpack into the new or empty folder `into`, which appears whole or not at all.

    Raises `UnsafeArchiveError` and `PackagingError`, the latter also where `into` cannot be written.
    """
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with _appearing(into) as folder, _open_tree(folder) as tree:
            for entry in read_archive(archive, _on_disk(limits, folder)):
                tree.add(entry)
    except OSError as error:
        raise PackagingError(f"cannot unpack '{archive}' into '{into}': {error}") from error


def _on_disk(limits: Limits, folder: Path) -> Limits:
    if limits.max_bytes is not None:
        return limits
    return attrs.evolve(limits, max_bytes=max(0, shutil.disk_usage(folder).free - _KEPT_FREE))


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a sibling to write into, which becomes `folder` at the end and goes away on an error."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PackagingError(f"cannot unpack into '{folder}': it exists and is not an empty folder")
    part = folder.with_name(f"{folder.name}.{os.urandom(4).hex()}.part")
    part.mkdir()
    try:
        yield part
        # Replaces an empty folder, and fails where somebody has put something into it meanwhile.
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part)
        raise


@contextmanager
def _open_tree(root: Path) -> Iterator["_Tree"]:
    descriptor = os.open(root, _OPEN_FOLDER)
    try:
        yield _Tree(descriptor)
    finally:
        os.close(descriptor)


class _Tree:
    """Writes below one folder, opening each part of a name by itself and never through a link."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._written: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Make the folder or the file of an entry."""
        match entry.kind:
            case EntryKind.FOLDER:
                with self._folder(entry.name.split("/")):
                    pass
            case EntryKind.LINK:
                self._copy(entry)
            case EntryKind.FILE:
                self._write(entry.name, entry.chunks, 0o755 if entry.executable else 0o644)

    def _copy(self, entry: Entry) -> None:
        *parents, leaf = entry.target.split("/")
        with self._folder(parents) as folder:
            descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as source:
            mode = os.fstat(descriptor).st_mode & 0o777
            self._write(entry.name, iter(lambda: source.read(CHUNK), b""), mode)

    def _write(self, name: str, chunks: Iterable[bytes], mode: int) -> None:
        *parents, leaf = name.split("/")
        with self._folder(parents) as folder:
            # Never another name that is the same for this file system, which may not tell A from a.
            if name in self._written:
                os.unlink(leaf, dir_fd=folder)
            self._written.add(name)
            descriptor = os.open(leaf, _CREATE_FILE, mode, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(chunks)

    @contextmanager
    def _folder(self, parts: Iterable[str]) -> Iterator[int]:
        """Open the folder of that name, made where it is missing, for as long as the block lasts."""
        with ExitStack() as opened:
            descriptor = self._root
            for part in parts:
                descriptor = _opened_or_made(part, descriptor)
                opened.callback(os.close, descriptor)
            yield descriptor


def _opened_or_made(name: str, parent: int) -> int:
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
