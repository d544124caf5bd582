"""Where the local backend keeps its records and files."""

import os
from pathlib import Path

from modelyard.core.errors import StorageError

HOME = "MODELYARD_HOME"

INTERRUPTED = "interrupted-{}"
"""The folders of a host in which its interrupted runs have left their files."""


def default_home() -> Path:
    """Return ``MODELYARD_HOME``, or the user's data folder for modelyard."""
    if configured := os.environ.get(HOME):
        return Path(configured)
    import platformdirs

    return platformdirs.user_data_path("modelyard")


def absolute(path: str | Path) -> str:
    """Return the path for processes that run in other folders."""
    return str(Path(path).expanduser().absolute())


def private_dir(path: Path) -> Path:
    """Return `path`, made with its parents and for this user's eyes only. Raises `StorageError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot keep jobs and endpoints in '{path}': {error.strerror}; set {HOME} to another folder"
        ) from error
    return path
