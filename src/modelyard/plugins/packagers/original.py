"""What there is to know about a model archive before it gets other code."""

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attrs

from modelyard.core.errors import PackagingError
from modelyard.plugins.packagers.entries import Entry, EntryKind, is_below
from modelyard.plugins.packagers.lanes import Chunks
from modelyard.plugins.packagers.manifest import check_unchanged
from modelyard.plugins.packagers.model_archive import Body
from modelyard.plugins.packagers.safe_tar import Limits, entries_in, opened, read_archive
from modelyard.plugins.packagers.splice import (
    CODE,
    HEADER_SIZE,
    LAST_BLOCK,
    MAX_CODE,
    MAX_HEADER,
    TRAILER_SIZE,
    Index,
    is_flushed,
    parse_index,
)
from modelyard.plugins.packagers.tar_reader import ArchiveStream


@attrs.frozen
class Original:
    """A model archive that was looked into.

    ``status``: the file's, at that time; ``body``: the model without its code, where that can be copied as
    it is; ``code``: the entries of its code, None where they have to stay where they are.
    """

    archive: Path
    status: os.stat_result
    body: Body | None
    code: tuple[Entry, ...] | None

    def entries(self, limits: Limits) -> Iterator[Entry]:
        """Yield all entries. Raises `PackagingError`, also where it is another archive by now."""
        yield from read_archive(self.archive, limits)
        check_unchanged(self.archive, self.status, self.archive.stat())


def examine(model: Path, limits: Limits, *, whole_code: bool) -> Original:
    """Look into a model archive: only at its index if that is true, else from front to back.

    `whole_code`: what the archive has of code is needed, and not only whether it has some. Raises
    `PackagingError` for damage, `UnsafeArchiveError` for what must not be unpacked.
    """
    try:
        status = model.stat()
        with model.open("rb") as file:
            found = _by_index(model, file, status, limits)
    except OSError as error:
        raise PackagingError(f"cannot read archive '{model}': {error.strerror}") from error
    return found or _by_scan(model, status, limits, whole_code=whole_code)


def _by_index(model: Path, file: BinaryIO, status: os.stat_result, limits: Limits) -> Original | None:
    """Return what the index says, where all that it says about the code is true."""
    index = parse_index(file.read(MAX_HEADER))
    if index is None or index.has_much_code:
        return None
    file.seek(max(0, status.st_size - TRAILER_SIZE))
    if not index.fits(status.st_size, file.read(TRAILER_SIZE)):
        return None
    file.seek(HEADER_SIZE)
    code = code_in(file.read(index.prefix), index, model, limits)
    if code is None:
        return None
    return Original(model, status, Body(model, status, index.start, index), code.entries)


def code_in(deflated: bytes, index: Index, model: Path, limits: Limits) -> "Code | None":
    """Return the code in the prefix of `model`, None where the prefix is not what the index says."""
    tar = _prefix(deflated, index)
    if tar is None:
        return None
    code = Code()
    try:
        # The end marker is seen only where the prefix leaves nothing open that the model would go on with.
        tar += bytes(tarfile.BLOCKSIZE)
        for entry in entries_in(ArchiveStream(model, io.BytesIO(tar), len(tar)), limits):
            if not code.take(entry):
                return None
    except PackagingError:
        return None  # A scan says what is wrong with it.
    return code


def _prefix(deflated: bytes, index: Index) -> bytes | None:
    """Return the tar in a prefix, None where it is not what the index says."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflater.decompress(deflated, index.prefix_raw + 1)
        ends = not inflater.eof and (not deflated or is_flushed(deflated))
        ends = ends and not inflater.decompress(LAST_BLOCK) and inflater.eof
    except zlib.error:
        return None
    # Blocks of zeros would end the tar before the model.
    is_tar = len(raw) == index.prefix_raw and (not raw or any(raw[-tarfile.BLOCKSIZE :]))
    return raw if ends and is_tar and zlib.crc32(raw) == 0 else None


def _by_scan(model: Path, status: os.stat_result, limits: Limits, *, whole_code: bool) -> Original:
    sha256, files, code = hashlib.sha256(), set[str](), Code()
    has_code = False
    found = partial(Original, model, status)
    with opened(model, limits) as stream, Chunks(sha256.update) as chunks:
        stream.observer = chunks.write
        for entry in entries_in(stream, limits):
            if entry.kind is not EntryKind.FOLDER:
                files.add(entry.name)
            if not is_below(entry.name, (CODE,)):
                continue
            has_code = True
            if not whole_code:
                return found(None, ())
            if not code.take(entry):
                return found(None, None)
        chunks.close()
        if has_code:
            return found(None, code.entries)
        return found(_body(model, status, stream, len(files), sha256.hexdigest()), ())


def _body(model: Path, status: os.stat_result, stream: ArchiveStream, files: int, digest: str) -> Body | None:
    """Return the body of an archive without code that was read to its end, if it is one gzip member."""
    members = stream.gzip.members if stream.gzip else []
    if len(members) != 1:
        return None
    (member,) = members
    index = Index(0, 0, 0, member.stop - member.start, member.raw, files, member.crc, digest)
    return Body(model, status, member.start, index)


class Code:
    """The code of an archive, in memory."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._size = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of it, each as a file or a folder."""
        return tuple(self._entries.values())

    def take(self, entry: Entry) -> bool:
        """Note an entry below the folder ``code``; False for what cannot be had without the rest."""
        if not is_below(entry.name, (CODE,)) or (entry.name == CODE and entry.kind is not EntryKind.FOLDER):
            return False
        self._size += entry.size
        if self._size > MAX_CODE or (entry.kind is EntryKind.LINK and entry.target not in self._entries):
            return False
        self._entries[entry.name] = self._held(entry)
        return True

    def _held(self, entry: Entry) -> Entry:
        match entry.kind:
            case EntryKind.LINK:
                return attrs.evolve(self._entries[entry.target], name=entry.name)
            case EntryKind.FILE:
                return attrs.evolve(entry, chunks=tuple(entry.chunks))
            case EntryKind.FOLDER:
                return entry
