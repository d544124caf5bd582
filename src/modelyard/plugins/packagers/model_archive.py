"""Writing model archives: the code in front, and behind it a model that can be copied (module `splice`)."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import attrs

from modelyard.core.contracts import Bundle, Splice
from modelyard.plugins.packagers.canonical_tar import Section
from modelyard.plugins.packagers.deflate import compressor
from modelyard.plugins.packagers.entries import Entry, Names, is_below
from modelyard.plugins.packagers.manifest import check_unchanged
from modelyard.plugins.packagers.splice import (
    CODE,
    HEADER_SIZE,
    Index,
    Prefix,
    padding,
    unindexed_header,
)
from modelyard.plugins.packagers.whole_files import copy_range, making


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
    with making(path) as file:
        names = Names()
        prefix = _write_prefix(file, code, names, level, max_entries)
        with Section(file, names, compressor(level, fast=True), max_entries) as section:
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
    with making(path) as file, body.archive.open("rb") as model:
        check_unchanged(body.archive, body.status, os.fstat(model.fileno()))
        room = None if max_entries is None else max_entries - old.body_files
        prefix = _write_prefix(file, code, Names(), level, room)
        copy_range(model, body.start, old.body, file)
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
    with Section(file, names, compressor(level, fast=False), max_entries) as section:
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
