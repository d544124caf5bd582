"""The peers' environments: one each, because their pins contradict each other, made when first asked for."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS = 1800


class Absent(Exception):  # noqa: N818 - an outcome that is reported, not an error
    """A contender cannot be measured here; the text says why."""


def default_cache() -> Path:
    """Return where the environments are kept: ``MODELYARD_BENCH_CACHE``, or the user's cache folder."""
    given = os.environ.get("MODELYARD_BENCH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "modelyard-bench"


@attrs.frozen
class Environment:
    """A virtual environment. `programs`: what has to be on the PATH besides."""

    name: str
    requirements: tuple[str, ...]
    programs: tuple[str, ...] = ()

    def python(self, cache: Path) -> Path:
        """Return its Python. Raises `Absent` where it cannot be made."""
        for program in self.programs:
            if not shutil.which(program):
                raise Absent(f"there is no {program} on the PATH")
        folder = cache / self.name
        stamp = folder / "requirements.txt"
        wanted = "\n".join((f"# Python {platform.python_version()}", *self.requirements))
        if not stamp.is_file() or stamp.read_text() != wanted:
            print(f"installing {self.name} in {folder}", file=sys.stderr, flush=True)
            self._make(folder)
            stamp.write_text(wanted)
        return folder / "bin" / "python"

    def _make(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt"]
        for argv in ([sys.executable, "-m", "venv", str(folder)], [*pip, *self.requirements]):
            try:
                done = subprocess.run(
                    argv, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                raise Absent(f"its installation took over {INSTALL_SECONDS} s") from None
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                raise Absent(f"it cannot be installed: {(lines or [done.stderr])[-1][-300:]}")
