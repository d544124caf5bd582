"""What the source of a job asks pip for: itself, where it is a project, and its requirements."""

from collections.abc import Mapping
from pathlib import Path

from modelyard.core import packages
from modelyard.core.layout import JobLayout
from modelyard.core.packages import REQUIREMENTS, Run, activation

__all__ = ["REQUIREMENTS", "activation", "install", "is_project"]


def is_project(code: Path) -> bool:
    """Tell whether pip can install the source itself.

    Many a ``pyproject.toml`` only sets up tools, and says of no project how to build it.
    """
    if (code / "setup.py").is_file():
        return True
    path = code / "pyproject.toml"
    if not path.is_file():
        return False
    import tomllib

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except ValueError:
        return True  # What is wrong with it, pip says better.
    return "project" in tables or "build-system" in tables


def install(layout: JobLayout, environ: Mapping[str, str], run: Run, *, isolated: bool) -> str:
    """Install what the source asks for; return the interpreter that has it.

    A ``pyproject.toml`` or ``setup.py`` is installed itself, and what ``requirements.txt`` lists, with
    pip in the code folder; pip's own variables in `environ` count. `run`: runs a command with exactly
    these variables to its end, as `supervisor.run` does; `isolated`: into `layout.environment` instead
    of the environment of this process. Raises `InstallError`.
    """
    wanted = ["."] if is_project(layout.code) else []
    if packages.asks_for_packages(layout.code / REQUIREMENTS):
        wanted += ["-r", REQUIREMENTS]
    into = layout.environment if isolated else None
    return packages.install(wanted, layout.code, environ, run, into=into)
