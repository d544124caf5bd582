"""Files and folders of this machine, by ``file://`` URIs."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from modelyard.core.errors import StorageError, did_you_mean


@attrs.frozen
class FileStorage:
    """Copies between folders of this machine.

    What arrives is always a copy of the content, never a link to it: a script that writes into its
    input cannot damage the original. Links in what is copied are followed.
    """

    name: ClassVar[str] = "file"
    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def download(self, uri: str, into: Path) -> None:
        """Copy the file, or the content of the folder, at `uri` into the folder `into`.

        Raises `StorageError`, with the nearest names where there is nothing at `uri`.
        """
        with _reporting(f"cannot read {uri!r}"):
            source = _existing(_path(uri))
            _check_apart(source, into)
            into.mkdir(parents=True, exist_ok=True)
            for file, target in _walk(source, into if source.is_dir() else into / source.name):
                _copy(file, target)

    def upload(self, path: Path, uri: str) -> str:
        """Copy the file or folder `path` to `uri`, beside what a folder there holds already.

        Raises `StorageError`, and writes nothing, where other content is there under the same name.
        """
        target = _path(uri)
        with _reporting(f"cannot write {uri!r}"):
            source = _existing(path)
            _check_apart(source, target)
            for pair in _walk(source, target):
                _check_free(*pair)
            target.parent.mkdir(parents=True, exist_ok=True)
            for file, place in _walk(source, target):
                if not place.exists():
                    _copy(file, place)
        return target.as_uri()

    def prepare(self, uri: str) -> None:
        """Make the folder at `uri` and write a file into it, which is removed again.

        Raises `StorageError`. Asking for permissions would not do: root has them all, and a disk
        may be full or read-only.
        """
        from tempfile import NamedTemporaryFile

        folder = _path(uri)
        with _reporting(f"cannot write into {uri!r}"):
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(prefix=".modelyard-", dir=folder) as file:
                file.write(b"0")
                file.flush()


def _path(uri: str) -> Path:
    """Return the path that a URI names (RFC 8089). Raises `StorageError`."""
    parts = urlsplit(uri)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    faults = {
        "is not a file:// URI": parts.scheme != "file",
        f"names the host {parts.netloc!r}": parts.netloc not in ("", "localhost"),
        "holds '?' or '#', which are written %3F and %23": "?" in uri or "#" in uri,
        "has no absolute path": not path.startswith("/"),
        "has a NUL in it": "\0" in path,
    }
    if fault := next((fault for fault, present in faults.items() if present), ""):
        raise StorageError(f"{uri!r} {fault}; the form is file:///absolute/path")
    return Path(path)


def _existing(path: Path) -> Path:
    """Return `path` if there is something. Raises `StorageError` with the names that are there."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    if missing.exists():
        return path
    nearby = [item.name for item in missing.parent.iterdir()] if missing.parent.is_dir() else []
    raise StorageError(
        f"there is nothing at '{path}': no {missing.name!r} in '{missing.parent}'"
        f"{did_you_mean(missing.name, nearby)}"
    )


@contextmanager
def _reporting(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{doing}: {error}") from error


def _check_apart(source: Path, target: Path) -> None:
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source)):
        raise StorageError(f"'{source}' cannot be copied into itself, to '{target}'")


def _walk(source: Path, target: Path, trail: tuple[str, ...] = ()) -> Iterator[tuple[Path, Path]]:
    """Yield every folder and file from `source` down, folders first, each with its place at `target`."""
    mode = source.stat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise StorageError(f"'{source}' is a socket, a pipe or a device, which cannot be copied")
    yield source, target
    if stat.S_ISDIR(mode):
        real = os.path.realpath(source)
        if real in trail:
            raise StorageError(f"'{source}' is a link that leads back to '{real}', above it")
        for item in sorted(source.iterdir()):
            yield from _walk(item, target / item.name, (*trail, real))


def _check_free(source: Path, target: Path) -> None:
    """Refuse where something other than a copy of `source` is at `target`."""
    if not os.path.lexists(target) or (source.is_dir() and target.is_dir()):
        return
    if not (source.is_file() and target.is_file() and _digest(source) == _digest(target)):
        raise StorageError(
            f"'{target}' is there already, with other content than '{source}': remove it, or write elsewhere"
        )


def _digest(path: Path) -> bytes:
    from hashlib import file_digest

    with path.open("rb") as file:
        return file_digest(file, "sha256").digest()


def _copy(source: Path, target: Path) -> None:
    """Make the folder `target`, or the file by way of a temporary one: never in part, nor through a link."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        return
    part = target.with_name(f".{os.urandom(8).hex()}.part")
    try:
        shutil.copy2(source, part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
