"""Which files of the user's machine go into an archive, and under which names."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from modelyard.core import carrier
from modelyard.core.errors import PackagingError, did_you_mean
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.entries import MAX_LEVELS, Entry, EntryKind
from modelyard.plugins.packagers.ignoring import Filter, everything, filter_for
from modelyard.plugins.packagers.tar_reader import CHUNK

Manifest = Mapping[str, Path]
"""What goes into an archive, folders included: from the name there to the real path on this machine."""


def local_path(location: str) -> Path:
    """Return the path that a path or a ``file://`` URI names. Raises `PackagingError` for others."""
    if "://" not in location:
        return Path(location)
    path = carrier.local_path(location)
    if path is None:
        raise PackagingError(f"{location!r} is not on this machine: download it first and pass its path")
    return path


@attrs.frozen
class Selection:
    """The files of a source, and how many names were left out of its folders."""

    files: Manifest
    left_out: int


def select(source: SourceCode, root: Path | None, chosen: Filter) -> Selection:
    """Return the files of a source archive: of the folder `root`, or the entry point alone without it.

    `chosen`: what of `root` is left out. Raises `PackagingError` where the entry point or a dependency
    is not there, or two have one name, and `InvalidPlanError` for a module that nothing brings.
    """
    if root is None:
        name = source.program
        program = existing(local_path(source.entry_point), "entry point")
        if program.is_dir():
            raise PackagingError(f"entry point '{program}' is a folder: pass the script in it")
        files = {name: _regular(program)}
    else:
        files = tree(root, chosen)
        if source.module is None:
            _check_entry_point(source, root, files, chosen)
    left_out = chosen.left_out
    for dependency in source.dependencies:
        found = _dependency(local_path(dependency), files)
        files |= found.files
        left_out += found.left_out
    source.check_module(files)
    return Selection(files, left_out)


def tree(root: Path, chosen: Filter | None = None, *, follow_out: bool = False) -> dict[str, Path]:
    """Return what is below the folder `root`, links replaced by what they point to.

    `chosen`: what is left out; nothing without it. Raises `PackagingError` for what is no file or folder
    and, unless `follow_out`, for a link that leads out of `root`.
    """
    real = Path(os.path.realpath(root))
    with _reading(root):
        return dict(_Walk(real, chosen or everything(), follow_out).items(real, ""))


def entries_of(files: Manifest) -> Iterator[Entry]:
    """Yield the entries of a manifest, sorted by name.

    Reading one raises `PackagingError` where its file changes meanwhile.
    """
    for name in sorted(files):
        yield _entry(name, files[name])


def _entry(name: str, path: Path) -> Entry:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, EntryKind.FOLDER)
    return Entry(name, EntryKind.FILE, status.st_size, bool(status.st_mode & 0o100), _chunks(path, status))


def existing(path: Path, what: str) -> Path:
    """Return `path` if there is something. Raises `PackagingError` with names that are there."""
    with _reading(path):
        if path.exists():
            return path
    there = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    raise PackagingError(f"{what} '{path}' does not exist{did_you_mean(path.name, there)}")


@attrs.frozen
class _Walk:
    """A walk through a folder that follows links, but not in circles."""

    root: Path
    chosen: Filter
    follow_out: bool

    def items(self, folder: Path, prefix: str, trail: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
        """Yield the name and the real path of all below `folder`, which is real too."""
        if folder in trail or len(trail) > MAX_LEVELS:
            raise PackagingError(
                f"cannot pack '{self.root / prefix}': it is deeper than {MAX_LEVELS} levels, "
                "or a link leads back to where it is"
            )
        with os.scandir(folder) as found:
            for item in found:
                name = prefix + item.name
                is_folder = _leads_to_folder(item)
                if self.chosen.leaves_out(name, is_folder=is_folder):
                    continue
                path = self._real_path(item)
                yield name, path
                if is_folder:
                    yield from self.items(path, f"{name}/", (*trail, folder))

    def _real_path(self, item: os.DirEntry[str]) -> Path:
        path = Path(item.path)
        if item.is_file(follow_symlinks=False) or item.is_dir(follow_symlinks=False):
            return path
        real = Path(os.path.realpath(path))
        if item.is_symlink() and not self.follow_out and not real.is_relative_to(self.root):
            raise PackagingError(
                f"'{path}' is a link to '{real}', outside of '{self.root}': "
                "put a copy of that in its place (cp -rL)"
            )
        return real if real.is_dir() else _regular(path)


def _leads_to_folder(item: os.DirEntry[str]) -> bool:
    # A link to itself is no folder for pathlib, and an error for DirEntry.
    return Path(item.path).is_dir() if item.is_symlink() else item.is_dir()


def _regular(path: Path) -> Path:
    """Return the real path of a regular file. Raises `PackagingError` for anything else."""
    real = Path(os.path.realpath(path))
    if not real.exists():
        raise PackagingError(f"'{path}' is a link to '{real}', which does not exist")
    if not real.is_file():
        raise PackagingError(f"'{path}' is a socket, a pipe or a device, which cannot be packed")
    return real


def _dependency(path: Path, files: Manifest) -> Selection:
    """Return the files of a dependency, under its own base name."""
    name = Path(os.path.normpath(existing(path, "dependency").absolute())).name
    if name in files:
        raise PackagingError(
            f"dependency '{path}' and '{files[name]}' would both be {name!r} in the archive: "
            "rename one of them"
        )
    if not path.is_dir():
        return Selection({name: _regular(path)}, 0)
    chosen = filter_for(path)
    inside = {f"{name}/{inner}": file for inner, file in tree(path, chosen).items()}
    return Selection({name: path, **inside}, chosen.left_out)


def _check_entry_point(source: SourceCode, root: Path, files: Manifest, chosen: Filter) -> None:
    where = f"entry point {source.entry_point!r}"
    name = _name_below(root, source.entry_point.replace("\\", "/"))
    if not name:
        raise PackagingError(
            f"{where} is outside of source_dir {source.source_dir!r}: move it there, "
            "or leave source_dir out and pass the rest as dependencies"
        )
    if (root / name).is_dir():
        raise PackagingError(f"{where} is a folder in source_dir {source.source_dir!r}: name a script in it")
    if name in files:
        return
    if (root / name).exists():
        raise PackagingError(
            f"{where} is left out of archives by the name of the file or of its folder "
            f"({chosen.said}): rename it"
        )
    hint = did_you_mean(name, (known for known, path in files.items() if not path.is_dir()))
    raise PackagingError(f"{where} is not in source_dir {source.source_dir!r}{hint}")


def _name_below(root: Path, entry_point: str) -> str:
    """Return the entry point relative to `root`, or nothing where it lies outside."""
    path = Path(os.path.normpath(root.absolute() / entry_point))
    for base in (Path(os.path.normpath(root.absolute())), root.resolve()):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return ""


def _chunks(path: Path, before: os.stat_result) -> Iterator[bytes]:
    left = before.st_size
    with _reading(path), path.open("rb", buffering=0) as file:
        check_unchanged(path, before, os.fstat(file.fileno()))
        while chunk := file.read(min(CHUNK, left) or 1):
            left = max(0, left - len(chunk))
            yield chunk
        check_unchanged(path, before, os.fstat(file.fileno()))


def check_unchanged(path: Path, before: os.stat_result, now: os.stat_result) -> None:
    """Raise `PackagingError` unless both are the state of one file that nobody has written to."""
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (now.st_ino, now.st_size, now.st_mtime_ns):
        raise PackagingError(f"'{path}' changed while it was packed: pack again once nothing writes to it")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PackagingError(f"cannot read '{error.filename or path}': {error.strerror}") from error
