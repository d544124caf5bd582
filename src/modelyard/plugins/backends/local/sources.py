"""The user's data where it lies on this machine: looked at, never written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from modelyard.core.errors import StorageError, did_you_mean


def existing(channel: str, path: Path) -> Path:
    """Return `path` if there is something. Raises `StorageError` with the names beside it."""
    if path.exists():
        return path
    nearby = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    raise StorageError(f"channel {channel!r}: there is nothing at '{path}'{did_you_mean(path.name, nearby)}")


def names(source: Path) -> list[str]:
    """Return the paths of the files in a folder, links followed, sorted as S3 sorts keys; or a file's name.

    Raises `StorageError` for what is neither file nor folder, and for links in a circle.
    """
    with _reporting(source):
        if source.is_file():
            return [source.name]
        return sorted(file.relative_to(source).as_posix() for file in _walk(source))


def holds_links(source: Path) -> bool:
    """Tell whether there is a symbolic link in a folder; a file holds none. Raises `StorageError`."""
    with _reporting(source):
        return source.is_dir() and _any_link(os.fspath(source))


def identity(file: Path) -> tuple[int, int]:
    """Return a file's size and when it was changed, in nanoseconds. Raises `StorageError`."""
    with _reporting(file):
        status = file.stat()
    return status.st_size, status.st_mtime_ns


def _walk(folder: Path, trail: tuple[str, ...] = ()) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in trail:
        raise StorageError(f"'{folder}' is a link that leads back to '{real}', above it")
    for item in folder.iterdir():
        if item.is_dir():
            yield from _walk(item, (*trail, real))
        elif item.is_file():
            yield item
        else:
            raise StorageError(f"'{item}' leads nowhere, or to a socket, a pipe or a device: it has no data")


def _any_link(folder: str) -> bool:
    with os.scandir(folder) as items:
        return any(
            item.is_symlink() or (item.is_dir(follow_symlinks=False) and _any_link(item.path))
            for item in items
        )


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error}") from error
