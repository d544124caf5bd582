"""Which files of the user's machine go into an archive, and under which names."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import attrs

from modelyard.core import carrier
from modelyard.core.errors import PackagingError, did_you_mean
from modelyard.core.plans import SourceCode
from modelyard.plugins.packagers.entries import MAX_LEVELS, Entry, EntryKind
from modelyard.plugins.packagers.tar_reader import CHUNK

EXCLUDES = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    ".venv",
    "venv",
    ".env*",
    ".aws",
    ".ssh",
    ".ipynb_checkpoints",
    ".DS_Store",
    "node_modules",
    "*.egg-info",
)
"""What is left out of a source folder, at every level: history, caches, environments, secrets."""

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


def source_manifest(source: SourceCode, root: Path | None, excludes: tuple[str, ...]) -> Manifest:
    """Return the files of a source archive: of the folder `root`, or the entry point alone without it.

    Raises `PackagingError` where the entry point or a dependency is not there, or two have one name,
    and `InvalidPlanError` for a module that nothing brings.
    """
    if root is None:
        name = source.program
        program = existing(local_path(source.entry_point), "entry point")
        if program.is_dir():
            raise PackagingError(f"entry point '{program}' is a folder: pass the script in it")
        files = {name: _regular(program)}
    else:
        files = tree(root, excludes)
        if source.module is None:
            _check_entry_point(source, root, files, excludes)
    for dependency in source.dependencies:
        files |= _dependency(local_path(dependency), files)
    source.check_module(files)
    return files


def tree(root: Path, excludes: tuple[str, ...] = (), *, follow_out: bool = False) -> dict[str, Path]:
    """Return what is below the folder `root`, links replaced by what they point to.

    Raises `PackagingError` for what is no file or folder and, unless `follow_out`, for a link that
    leads out of `root`.
    """
    real = Path(os.path.realpath(root))
    with _reading(root):
        return dict(_Walk(real, excludes, follow_out).items(real, ""))


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
    excludes: tuple[str, ...]
    follow_out: bool

    def items(self, folder: Path, prefix: str, trail: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
        """Yield the name and the real path of all below `folder`, which is real too."""
        if folder in trail or len(trail) > MAX_LEVELS:
            raise PackagingError(
                f"cannot pack '{self.root / prefix}': it is deeper than {MAX_LEVELS} levels, "
                "or a link leads back to where it is"
            )
        for item in folder.iterdir():
            if any(fnmatchcase(item.name, pattern) for pattern in self.excludes):
                continue
            path = self._real_path(item)
            if path.is_dir():
                yield prefix + item.name, path
                yield from self.items(path, f"{prefix}{item.name}/", (*trail, folder))
            else:
                yield prefix + item.name, _regular(item)

    def _real_path(self, item: Path) -> Path:
        if not item.is_symlink():
            return item
        real = Path(os.path.realpath(item))
        if not self.follow_out and not real.is_relative_to(self.root):
            raise PackagingError(
                f"'{item}' is a link to '{real}', outside of '{self.root}': "
                "put a copy of that in its place (cp -rL)"
            )
        return real


def _regular(path: Path) -> Path:
    """Return the real path of a regular file. Raises `PackagingError` for anything else."""
    real = Path(os.path.realpath(path))
    if not real.exists():
        raise PackagingError(f"'{path}' is a link to '{real}', which does not exist")
    if not real.is_file():
        raise PackagingError(f"'{path}' is a socket, a pipe or a device, which cannot be packed")
    return real


def _dependency(path: Path, files: Manifest) -> Manifest:
    """Return the files of a dependency, under its own base name."""
    name = Path(os.path.normpath(existing(path, "dependency").absolute())).name
    if name in files:
        raise PackagingError(
            f"dependency '{path}' and '{files[name]}' would both be {name!r} in the archive: "
            "rename one of them"
        )
    if not path.is_dir():
        return {name: _regular(path)}
    inside = {f"{name}/{inner}": file for inner, file in tree(path, EXCLUDES).items()}
    return {name: path, **inside}


def _check_entry_point(source: SourceCode, root: Path, files: Manifest, excludes: tuple[str, ...]) -> None:
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
            f"({', '.join(excludes)}): rename it"
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
    with _reading(path), path.open("rb") as file:
        _check_unchanged(path, before, os.fstat(file.fileno()))
        while chunk := file.read(CHUNK):
            yield chunk
        _check_unchanged(path, before, os.fstat(file.fileno()))


def _check_unchanged(path: Path, before: os.stat_result, now: os.stat_result) -> None:
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (now.st_ino, now.st_size, now.st_mtime_ns):
        raise PackagingError(f"'{path}' changed while it was packed: pack again once nothing writes to it")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PackagingError(f"cannot read '{error.filename or path}': {error.strerror}") from error
