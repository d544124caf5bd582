"""The packager of ``sourcedir.tar.gz`` and ``model.tar.gz``, in the layout that SageMaker reads."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import attrs

from modelyard.core.contracts import Bundle
from modelyard.core.errors import InvalidPlanError, PackagingError
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


def _check_level(_packager: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value not in range(10):
        raise InvalidPlanError(f"{attribute.name} must be a whole number from 0 to 9, not {value!r}")


def _check_limit(_packager: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value < 1:
        raise InvalidPlanError(f"{attribute.name} must be a whole number of at least 1, not {value!r}")


@attrs.frozen
class TarballPackager:
    """Archives as ``.tar.gz``: the same content gives the same bytes, whenever and wherever packed.

    ``compression_level``: gzip's, from 0 (store) to 9; weights hardly shrink and level 9 takes twice
    the time of 1. The other options limit what an archive may unpack to: ``max_unpacked_bytes``
    (None: the free disk space less 1 GiB), ``max_entries``, and ``max_ratio``, bytes per byte of the
    archive beyond 64 MiB.
    """

    name: ClassVar[str] = "tarball"

    compression_level: int = attrs.field(default=1, validator=_check_level)
    max_unpacked_bytes: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_limit)
    )
    max_entries: int = attrs.field(default=10_000, validator=_check_limit)
    max_ratio: int = attrs.field(default=200, validator=_check_limit)

    def pack_source(self, source: SourceCode, into: Path) -> Bundle:
        """Write ``sourcedir.tar.gz``: the content of the source folder and, beside it, the dependencies.

        Folders of version control, caches, environments and secrets are left out (`EXCLUDES`), but
        nothing of a ``source_dir`` that is an archive itself. Raises `PackagingError`.
        """
        with self._manifest(source, into) as files:
            return self._write(into / "sourcedir.tar.gz", entries_of(files))

    def pack_model(self, model: Path, source: SourceCode | None, into: Path) -> Bundle:
        """Write ``model.tar.gz``: the model's files on top and the source in ``code/``.

        As with SDK v2, a source folder replaces the model's own ``code/`` and an entry point alone
        is laid over it. Unlike there, dependencies are put beside the entry point, where training
        has them too, and not into ``code/lib/``. An archive is rewritten while it is read, so that
        its members keep their order; the new code comes last. Raises `PackagingError`.
        """
        with self._code(source, into) as code:
            replaced = _replaced(source, code)
            kept = (entry for entry in self._model_entries(model) if not is_below(entry.name, replaced))
            return self._write(into / "model.tar.gz", chain(kept, entries_of(code)))

    def pack_tree(self, folder: Path, archive: Path) -> Bundle:
        """Write the content of `folder` to `archive`. Raises `PackagingError`.

        What a job leaves is taken whole: links are followed wherever they lead, nothing is left out,
        and `max_entries` does not apply, for nobody wants to lose a trained model over any of these.
        """
        _make_folder(archive.parent)
        files = tree(existing(folder, "folder"), follow_out=True)
        return write_archive(archive, entries_of(files), level=self.compression_level)

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack a ``.tar`` or ``.tar.gz`` into the new or empty folder `into`.

        Raises `UnsafeArchiveError` for links out, devices, bombs and the like, and `PackagingError`
        for damage anywhere in the file.
        """
        _make_folder(into.parent)
        unpack_archive(archive, into, self._limits)

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
        _make_folder(into)
        with TemporaryDirectory(prefix=".source-", dir=into) as scratch:
            folder = Path(scratch, "content")
            self.unpack(location, folder)
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
        return read_archive(model, self._limits)

    def _write(self, path: Path, entries: Iterable[Entry]) -> Bundle:
        _make_folder(path.parent)
        return write_archive(path, entries, level=self.compression_level, max_entries=self.max_entries)

    @property
    def _limits(self) -> Limits:
        return Limits(self.max_unpacked_bytes, self.max_entries, self.max_ratio)


def _replaced(source: SourceCode | None, code: Manifest) -> set[str]:
    """Return what of the model gives way to `code`: all of its code, or what bears the same names."""
    if source is not None and source.source_dir is not None:
        return {_CODE}
    return {"/".join(name.split("/")[:2]) for name in code}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackagingError(f"cannot make the folder '{folder}': {error.strerror}") from error
