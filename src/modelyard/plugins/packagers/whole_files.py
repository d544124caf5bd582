"""Files that appear whole or not at all, and ranges of bytes that go from one to the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modelyard.core.errors import PackagingError

_COPIED = 64 << 20


@contextmanager
def making(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which becomes `path` at the end. Raises `PackagingError`."""
    try:
        with _appearing(path) as file:
            yield file
    except OSError as error:
        raise PackagingError(f"cannot make '{path}': {error}") from error


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def copy_range(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    """Append `size` bytes from `start` on; the kernel copies them where it can. Raises `PackagingError`."""
    target.flush()
    source.seek(start)
    left = size
    while left and (copied := _copied_by_kernel(source, start + size - left, left, target)):
        left -= copied
    source.seek(start + size - left)
    target.seek(0, os.SEEK_END)
    while left:
        data = source.read(min(left, 1 << 20))
        if not data:
            raise PackagingError(f"the model '{source.name}' became shorter while it was copied")
        target.write(data)
        left -= len(data)


def _copied_by_kernel(source: BinaryIO, start: int, size: int, target: BinaryIO) -> int:
    """Append some bytes; return how many, 0 where the kernel or the file systems cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    with suppress(OSError):
        return os.copy_file_range(source.fileno(), target.fileno(), min(size, _COPIED), start)
    return 0
