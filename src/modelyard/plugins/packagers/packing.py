"""Packing source, models and trees: which files go where, read from folders and from archives."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from modelyard.core.contracts import Bundle, Splice
from modelyard.core.errors import PackagingError
from modelyard.core.log import get_logger
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.canonical_tar import write_archive
from modelyard.plugins.packagers.entries import Entry, is_below
from modelyard.plugins.packagers.ignoring import everything, filter_for
from modelyard.plugins.packagers.manifest import (
    Manifest,
    Selection,
    entries_of,
    existing,
    local_path,
    select,
    tree,
)
from modelyard.plugins.packagers.model_archive import splice, write_model, write_spliced
from modelyard.plugins.packagers.original import code_in, examine
from modelyard.plugins.packagers.safe_tar import Limits, unpack_archive
from modelyard.plugins.packagers.splice import CODE, HEADER_SIZE, parse_index

_MUCH_SOURCE = 50_000_000


@attrs.frozen
class Packing:
    """Writes archives. ``level``: gzip's; ``limits``: of the archives that are read on the way."""

    level: int
    limits: Limits

    def source(self, source: SourceCode, into: Path) -> Bundle:
        """Write ``sourcedir.tar.gz`` into the folder `into`. Raises `PackagingError`."""
        make_folder(into)
        with self._selection(source, into) as selection:
            bundle = write_archive(
                into / "sourcedir.tar.gz",
                entries_of(selection.files),
                level=self.level,
                max_entries=self.limits.max_entries,
            )
            _say(bundle, selection)
            return bundle

    def model(self, model: Path, source: SourceCode | None, into: Path) -> Bundle:
        """Write ``model.tar.gz`` into the folder `into`. Raises `PackagingError`.

        The model of an archive is copied as it is wherever it is certain that its code is elsewhere;
        else the archive is rewritten while it is read, so that its members keep their order.
        """
        make_folder(into)
        with self._code(source, into) as selection:
            replaced = _replaced(source, selection.files)
            path = into / "model.tar.gz"
            if existing(model, "model").is_dir():
                kept = {name: file for name, file in tree(model).items() if not is_below(name, replaced)}
                bundle = self._folder(path, {**kept, **selection.files}, self.limits.max_entries)
            else:
                bundle = self._archive(path, model, selection.files, replaced)
            if source is not None:
                _say(bundle, selection)
            return bundle

    def splice(
        self, archive: Path, head: bytes, size: int, trailer: bytes, source: SourceCode, at_least: int
    ) -> Splice | None:
        """Return what gives an archive that is elsewhere other code (see `TarballPackager.splice`)."""
        index = parse_index(head)
        if index is None or index.has_much_code or len(head) < index.start or not index.fits(size, trailer):
            return None
        old = code_in(head[HEADER_SIZE : index.start], index, archive, self.limits)
        if old is None:
            return None
        with (
            TemporaryDirectory(prefix="modelyard-") as scratch,
            self._code(source, Path(scratch)) as selection,
        ):
            replaced = _replaced(source, selection.files)
            kept = (entry for entry in old.entries if not is_below(entry.name, replaced))
            code = sorted(chain(kept, entries_of(selection.files)), key=_by_name)
            max_entries = self.limits.max_entries
            return splice(code, index, level=self.level, max_entries=max_entries, at_least=at_least)

    def tree(self, folder: Path, archive: Path) -> Bundle:
        """Write the content of `folder` to `archive`. Raises `PackagingError`."""
        make_folder(archive.parent)
        return self._folder(archive, tree(existing(folder, "folder"), follow_out=True), None)

    def _folder(self, path: Path, files: Manifest, max_entries: int | None) -> Bundle:
        is_folder = CODE in files and files[CODE].is_dir()
        code = {name: file for name, file in files.items() if _is_code(name, is_folder=is_folder)}
        rest = {name: file for name, file in files.items() if name not in code}
        return write_model(
            path, entries_of(code), entries_of(rest), level=self.level, max_entries=max_entries
        )

    def _archive(self, path: Path, model: Path, new: Manifest, replaced: set[str]) -> Bundle:
        original = examine(model, self.limits, whole_code=replaced != {CODE})
        level, max_entries = self.level, self.limits.max_entries
        if original.code is None:
            kept = (entry for entry in original.entries(self.limits) if not is_below(entry.name, replaced))
            everywhere = chain(kept, entries_of(new))
            return write_model(path, (), everywhere, level=level, max_entries=max_entries)
        old = (entry for entry in original.code if not is_below(entry.name, replaced))
        code = sorted(chain(old, entries_of(new)), key=_by_name)
        if original.body is not None:
            return write_spliced(path, code, original.body, level=level, max_entries=max_entries)
        rest = (entry for entry in original.entries(self.limits) if not is_below(entry.name, (CODE,)))
        return write_model(path, code, rest, level=level, max_entries=max_entries)

    @contextmanager
    def _selection(self, source: SourceCode, into: Path) -> Iterator[Selection]:
        """Give the files of `source`; those of an archive exist for as long as the block lasts."""
        if source.source_dir is None:
            yield select(source, None, everything())
            return
        location = existing(local_path(source.source_dir), "source_dir")
        if location.is_dir():
            yield select(source, location, filter_for(location))
            return
        with TemporaryDirectory(prefix=".source-", dir=into) as scratch:
            folder = Path(scratch, "content")
            unpack_archive(location, folder, self.limits)
            yield select(source, folder, everything())

    @contextmanager
    def _code(self, source: SourceCode | None, into: Path) -> Iterator[Selection]:
        if source is None:
            yield Selection({}, 0)
            return
        with self._selection(source, into) as selection:
            files = {f"{CODE}/{name}": path for name, path in selection.files.items()}
            yield attrs.evolve(selection, files=files)


def _is_code(name: str, *, is_folder: bool) -> bool:
    """Tell whether a name is for the code's part of an archive; a file called code is not."""
    return name.startswith(f"{CODE}/") or (is_folder and name == CODE)


def _by_name(entry: Entry) -> str:
    return entry.name


def _say(bundle: Bundle, selection: Selection) -> None:
    """Log what was packed, where anybody listens, and what is probably no source."""
    if bundle.path.name.startswith("source") and bundle.size > _MUCH_SOURCE:
        get_logger(__name__).warning(
            "the source is large: keep data out of it (.modelyardignore) and pass it as a channel",
            archive=str(bundle.path),
            bytes=bundle.size,
        )
    # Neither is imported for a line that nobody reads.
    logging = sys.modules.get("logging")
    if logging is None or not logging.getLogger("modelyard").isEnabledFor(logging.INFO):
        return
    sizes = {name: path.stat().st_size for name, path in selection.files.items() if path.is_file()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    get_logger(__name__).info(
        f"packed {bundle.path.name}",
        files=len(sizes),
        bytes=sum(sizes.values()),
        largest=largest,
        largest_bytes=sizes.get(largest, 0),
        left_out=selection.left_out,
        archive_bytes=bundle.size,
    )


def _replaced(source: SourceCode | None, code: Manifest) -> set[str]:
    """Return what of the model gives way to `code`: all of its code, or what bears the same names."""
    if source is not None and source.source_dir is not None:
        return {CODE}
    return {"/".join(name.split("/")[:2]) for name in code}


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises `PackagingError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackagingError(f"cannot make the folder '{folder}': {error.strerror}") from error
