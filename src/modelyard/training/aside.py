"""What an earlier run has left: renamed, so that it is not taken for this one's; never deleted."""

import errno
import os
from itertools import count
from pathlib import Path

from modelyard.core.layout import JobLayout


def set_aside(path: Path) -> None:
    """Rename a file or a folder to ``<name>.0``, or to the first of ``.1``, ``.2``... that is free.

    Raises `OSError` for what cannot be renamed: EBUSY where it is a mount, whose content stays.
    """
    names = (path.with_name(f"{path.name}.{number}") for number in count())
    _move(path, next(name for name in names if not os.path.lexists(name)))


def set_results_aside(layout: JobLayout) -> None:
    """Set aside the files by which an earlier run in the same folder has told how it went."""
    for path in (layout.failure, layout.failure_log, layout.success, layout.metrics):
        if os.path.lexists(path):
            set_aside(path)


def _move(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        # A container's file system refuses it for a folder of the image; there its files are moved one by
        # one. Nothing is copied and deleted: what is mounted somewhere in it is not the job's to delete.
        if error.errno != errno.EXDEV or path.is_symlink() or not path.is_dir():
            raise
        import shutil

        target.mkdir()
        shutil.copystat(path, target)
        for item in list(path.iterdir()):
            _move(item, target / item.name)
        path.rmdir()
