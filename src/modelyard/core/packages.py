"""What a source asks pip for, installed before any of it is imported.

In a container the packages go where the program's Python looks for them, as with SageMaker's toolkits.
Where a person's own environment runs the program they go into one of the program's own, which sees the
packages of that environment: what is there already is not installed again, what is newer goes first,
and the person's environment stays as it is.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from modelyard.core.contracts import Command
from modelyard.core.errors import InstallError
from modelyard.core.handover import clip

REQUIREMENTS = "requirements.txt"
_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
"""Options of pip that would lead it, and what it starts to build, out of the program's own environment."""
_LINES, _WIDTH = 4, 230
"""How much of what pip says is wrong fits into a failure file: the last lines, cut to a width."""


class Ended(Protocol):
    """How a command ended: its exit code, and the end of its standard error."""

    @property
    def exit_code(self) -> int:
        """The command's own, or 128 plus the number of the signal that ended it."""
        ...

    @property
    def stderr_tail(self) -> str:
        """Its last lines."""
        ...


Run = Callable[[Command, Mapping[str, str]], Ended]


def asks_for_packages(requirements: Path) -> bool:
    """Tell whether a requirements file is there, and says more than nothing."""
    lines = requirements.read_bytes().splitlines() if requirements.is_file() else ()
    return any(line and not line.startswith(b"#") for line in map(bytes.strip, lines))


def install(
    wanted: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    run: Run,
    *,
    into: Path | None = None,
    constraints: Path | None = None,
) -> str:
    """Install what `wanted`, arguments of ``pip install``, asks for; return the interpreter that has it.

    pip runs in `folder`, and its own variables in `environ` count. `run`: runs a command with exactly
    these variables to its end; `into`: the folder of an environment to make, instead of that of this
    process; `constraints`: a file of what no package may contradict. Raises `InstallError`.
    """
    if not wanted:
        return sys.executable
    _check_pip()
    interpreter, python, here = sys.executable, list[str](), list[str]()
    if into:
        interpreter = _environment(into)
        python = ["--python", interpreter]
        # Against configuration files. An empty prefix would be the working directory.
        here = ["--no-user", "--target=", f"--prefix={into}", "--root=/"]
        environ = {name: value for name, value in environ.items() if name not in _ELSEWHERE}
    # -P: pip's own imports are not to be found among the user's files.
    pip = [sys.executable, "-P", "-m", "pip", *python, "--disable-pip-version-check", "--no-input", "install"]
    held = ["-c", str(constraints)] if constraints else []
    ended = run(Command((*pip, *here, *held, *wanted), {}, folder), environ)
    if ended.exit_code:
        raise InstallError(_reason(wanted, ended))
    return interpreter


def activation(interpreter: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which programs and shell scripts find `interpreter` and its tools first."""
    folder = Path(interpreter).parent
    path = os.pathsep.join([str(folder), *filter(None, [environ.get("PATH")])])
    own = {} if interpreter == sys.executable else {"VIRTUAL_ENV": str(folder.parent)}
    return {"PATH": path, **own}


def _check_pip() -> None:
    from importlib.util import find_spec

    if find_spec("pip") is None:
        raise InstallError(
            f"the source asks for packages, but the Python environment '{sys.prefix}' has no pip to install "
            "them: run 'python -m ensurepip' there (with uv: 'uv pip install pip')"
        )


def _environment(folder: Path) -> str:
    """Make a Python environment that sees the packages of this one; return its interpreter.

    Not by ``system_site_packages``: made from within an environment, that would show the packages of
    the Python below it.
    """
    import sysconfig
    import venv

    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    variables = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", variables))
    # Added last, and with the .pth files in them: editable installs are such.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _site_folders()]
    (packages / "_modelyard_parent.pth").write_text("".join(lines), "utf-8")
    return str(Path(sysconfig.get_path("scripts", "venv", variables), "python"))


def _site_folders() -> list[str]:
    import site

    known = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [path for path in known if path in sys.path]


def _reason(wanted: Sequence[str], ended: Ended) -> str:
    command = f"'pip install {' '.join(wanted)}'"
    said = list(_said(ended.stderr_tail))[-_LINES:]
    return clip(f"{command} failed with exit code {ended.exit_code}: {'; '.join(said) or 'see the log'}")


def _said(stderr: str) -> Iterator[str]:
    """Yield pip's own errors, and the last line of what a build printed."""
    lines = [line.strip(" │") for line in stderr.splitlines()]
    for line, following in pairwise([*lines, ""]):
        if line.lower().startswith("error: ") or following == "[end of output]":
            yield line if len(line) <= _WIDTH else f"{line[:_WIDTH]}..."
