"""What the source asks pip for, installed before the script runs.

In a container the packages go where the job's Python looks for them, as with SageMaker's toolkit.
Where a person's own environment runs the job they go into one of the job's own, which sees the
packages of that environment: what is there already is not installed again, what is newer goes first,
and the person's environment stays as it is.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from modelyard.core.contracts import Command
from modelyard.core.errors import InstallError
from modelyard.core.handover import clip
from modelyard.core.layout import JobLayout
from modelyard.training.supervisor import Outcome

Run = Callable[[Command, Mapping[str, str]], Outcome]

REQUIREMENTS = "requirements.txt"
_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
"""Options of pip that would lead it, and what it starts to build, out of the job's own environment."""
_LINES, _WIDTH = 4, 230
"""How much of what pip says is wrong fits into a failure file: the last lines, cut to a width."""


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
    if _has_requirements(layout.code / REQUIREMENTS):
        wanted += ["-r", REQUIREMENTS]
    if not wanted:
        return sys.executable
    _check_pip()
    interpreter, python, here = sys.executable, list[str](), list[str]()
    if isolated:
        interpreter = _environment(layout.environment)
        python = ["--python", interpreter]
        # Against configuration files. An empty prefix would be the working directory.
        here = ["--no-user", "--target=", f"--prefix={layout.environment}", "--root=/"]
        environ = {name: value for name, value in environ.items() if name not in _ELSEWHERE}
    # -P: pip's own imports are not to be found among the user's files.
    pip = [sys.executable, "-P", "-m", "pip", *python, "--disable-pip-version-check", "--no-input", "install"]
    outcome = run(Command((*pip, *here, *wanted), {}, layout.code), environ)
    if outcome.exit_code:
        raise InstallError(_reason(wanted, outcome))
    return interpreter


def activation(interpreter: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which programs and shell scripts find `interpreter` and its tools first."""
    folder = Path(interpreter).parent
    path = os.pathsep.join([str(folder), *filter(None, [environ.get("PATH")])])
    own = {} if interpreter == sys.executable else {"VIRTUAL_ENV": str(folder.parent)}
    return {"PATH": path, **own}


def _has_requirements(path: Path) -> bool:
    lines = map(bytes.strip, path.read_bytes().splitlines() if path.is_file() else ())
    return any(line and not line.startswith(b"#") for line in lines)


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


def _reason(wanted: list[str], outcome: Outcome) -> str:
    command = f"'pip install {' '.join(wanted)}'"
    said = list(_said(outcome.stderr_tail))[-_LINES:]
    return clip(f"{command} failed with exit code {outcome.exit_code}: {'; '.join(said) or 'see the log'}")


def _said(stderr: str) -> Iterator[str]:
    """Yield pip's own errors, and the last line of what a build printed."""
    lines = [line.strip(" │") for line in stderr.splitlines()]
    for line, following in pairwise([*lines, ""]):
        if line.lower().startswith("error: ") or following == "[end of output]":
            yield line if len(line) <= _WIDTH else f"{line[:_WIDTH]}..."
