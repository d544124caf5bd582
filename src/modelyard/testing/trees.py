"""Folders as mappings from relative names to contents, which are easy to write down and to compare."""

import os
from collections.abc import Mapping
from pathlib import Path


def write_tree(folder: Path, files: Mapping[str, bytes], *, mtime: int | None = None) -> Path:
    """Write the files below `folder`, with this time of change if one is given; return `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder` by its relative name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def new_folder(path: Path) -> Path:
    """Make a folder with its parents, and return it."""
    path.mkdir(parents=True)
    return path


def names_in(folder: Path) -> list[str]:
    """Return the relative names of everything below `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
