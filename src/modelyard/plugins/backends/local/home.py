"""Where the local backend keeps its records and files."""

import os
from pathlib import Path

HOME = "MODELYARD_HOME"


def default_home() -> Path:
    """Return ``MODELYARD_HOME``, or the user's data folder for modelyard."""
    if configured := os.environ.get(HOME):
        return Path(configured).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("modelyard")


def private_dir(path: Path) -> Path:
    """Return `path`, made with its parents and for this user's eyes only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    return path
