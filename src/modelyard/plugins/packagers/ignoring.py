"""What is left out of a source folder."""

import re
from collections.abc import Callable
from fnmatch import translate
from pathlib import Path

import attrs

from modelyard.core.errors import PackagingError

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
"""What is left out at every level: history, caches, environments, secrets."""

IGNORE_FILE = ".modelyardignore"
"""Says in the syntax of ``.gitignore`` what else is left out, or is not after all; never packed itself."""


@attrs.define
class Filter:
    """Leaves out what `matches` says of a name below the folder, folders with a slash at the end.

    ``said``: its patterns, for people; ``left_out``: how many names it has left out, those in a folder
    that is left out not counted.
    """

    matches: Callable[[str], object]
    said: str
    left_out: int = 0

    def leaves_out(self, name: str, *, is_folder: bool) -> bool:
        """Tell whether to leave out the file or the folder of this name."""
        out = bool(self.matches(f"{name}/" if is_folder else name))
        self.left_out += out
        return out


def everything() -> Filter:
    """Return the filter that leaves nothing out."""
    return Filter(lambda _name: False, "")


def filter_for(root: Path) -> Filter:
    """Return the filter for a source folder: `EXCLUDES`, then what its `IGNORE_FILE` says.

    Raises `PackagingError` for a file that makes no sense.
    """
    said = ", ".join(EXCLUDES)
    file = root / IGNORE_FILE
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return Filter(_by_last_part(), said)
    except OSError as error:
        raise PackagingError(f"cannot read '{file}': {error.strerror}") from error
    return Filter(_by_lines(file, lines), f"{said}, and what '{file}' says")


def _by_last_part() -> Callable[[str], object]:
    """Match `EXCLUDES` alone, which say nothing about where a name is."""
    pattern = re.compile("|".join(map(translate, EXCLUDES)))
    return lambda name: pattern.match(name.rstrip("/").rpartition("/")[2])


def _by_lines(file: Path, lines: list[str]) -> Callable[[str], object]:
    # Most folders have no such file, and then nobody waits for this import.
    from pathspec import GitIgnoreSpec

    try:
        spec = GitIgnoreSpec.from_lines([*EXCLUDES, *lines, f"/{IGNORE_FILE}"])
    except ValueError as error:
        raise PackagingError(f"'{file}' makes no sense: {error}") from error
    return spec.match_file
