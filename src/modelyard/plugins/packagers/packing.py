"""Packing source, models and trees: which files go where, read from folders and from archives."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from modelyard.core.contracts import Bundle
from modelyard.core.errors import PackagingError
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.canonical_tar import write_archive
from modelyard.plugins.packagers.entries import Entry, is_below
from modelyard.plugins.packagers.manifest import (
    EXCLUDES,
    Manifest,
    entries_of,
    existing,
    local_path,
    source_manifest,
    tree,
)
from modelyard.plugins.packagers.safe_tar import Limits, read_archive, unpack_archive

_CODE = "code"


@attrs.frozen
class Packing:
    """Writes archives. ``level``: gzip's; ``limits``: of the archives that are read on the way."""

    level: int
    limits: Limits

    def source(self, source: SourceCode, into: Path) -> Bundle:
        """Write ``sourcedir.tar.gz`` into the folder `into`. Raises `PackagingError`."""
        with self._manifest(source, into) as files:
            return self._write(into / "sourcedir.tar.gz", entries_of(files))

    def model(self, model: Path, source: SourceCode | None, into: Path) -> Bundle:
        """Write ``model.tar.gz`` into the folder `into`. Raises `PackagingError`.

        An archive is rewritten while it is read, so that its members keep their order; the new code
        comes last.
        """
        with self._code(source, into) as code:
            replaced = _replaced(source, code)
            kept = (entry for entry in self._model_entries(model) if not is_below(entry.name, replaced))
            return self._write(into / "model.tar.gz", chain(kept, entries_of(code)))

    def tree(self, folder: Path, archive: Path) -> Bundle:
        """Write the content of `folder` to `archive`. Raises `PackagingError`."""
        make_folder(archive.parent)
        files = tree(existing(folder, "folder"), follow_out=True)
        return write_archive(archive, entries_of(files), level=self.level)

    @contextmanager
    def _manifest(self, source: SourceCode, into: Path) -> Iterator[Manifest]:
        """Give the files of `source`; those of an archive exist for as long as the block lasts."""
        if source.source_dir is None:
            yield source_manifest(source, None, EXCLUDES)
            return
        location = existing(local_path(source.source_dir), "source_dir")
        if location.is_dir():
            yield source_manifest(source, location, EXCLUDES)
            return
        make_folder(into)
        with TemporaryDirectory(prefix=".source-", dir=into) as scratch:
            folder = Path(scratch, "content")
            unpack_archive(location, folder, self.limits)
            yield source_manifest(source, folder, ())

    @contextmanager
    def _code(self, source: SourceCode | None, into: Path) -> Iterator[Manifest]:
        if source is None:
            yield {}
            return
        with self._manifest(source, into) as files:
            yield {f"{_CODE}/{name}": path for name, path in files.items()}

    def _model_entries(self, model: Path) -> Iterator[Entry]:
        if existing(model, "model").is_dir():
            return entries_of(tree(model))
        return read_archive(model, self.limits)

    def _write(self, path: Path, entries: Iterable[Entry]) -> Bundle:
        make_folder(path.parent)
        return write_archive(path, entries, level=self.level, max_entries=self.limits.max_entries)


def _replaced(source: SourceCode | None, code: Manifest) -> set[str]:
    """Return what of the model gives way to `code`: all of its code, or what bears the same names."""
    if source is not None and source.source_dir is not None:
        return {_CODE}
    return {"/".join(name.split("/")[:2]) for name in code}


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises `PackagingError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackagingError(f"cannot make the folder '{folder}': {error.strerror}") from error
