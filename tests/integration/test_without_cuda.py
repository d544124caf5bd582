"""A kind of hardware is one file and one line: without them the rest is whole.

In a copy without them every test is collected, and those run that ask what hardware there is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import modelyard

ROOT = Path(__file__).parents[2]
PACKAGE = Path(modelyard.__file__).parent
LINE = '    "modelyard.hardware.cuda:CudaHardware",\n'
TOUCHED = (
    "tests/unit/core/test_manager_hooks.py",
    "tests/unit/hardware",
    "tests/unit/cli/test_plugins.py",
    "tests/unit/test_estimator.py",
    "tests/unit/test_v2_surface.py",
    "tests/contracts/test_cuda.py",
    "tests/contracts/test_hardware.py",
)
"""The tests that ask what hardware there is, or look through what is registered."""

IS_THE_COPY = """
from pathlib import Path

import modelyard

assert Path(modelyard.__file__).is_relative_to(Path(__file__).parents[1]), modelyard.__file__


def test_there_is_no_cuda():
    assert "cuda" not in modelyard.PluginManager.builtin().hardware.names()
"""
"""What is first collected, and fails where something else would be tested."""


@pytest.fixture(scope="module")
def copy():
    """Return a copy of the project, where the class for CUDA was never written."""
    with tempfile.TemporaryDirectory(prefix="modelyard-copy-") as made:
        Path(made).chmod(0o755)  # Some of its tests go there as nobody.
        make_copy(Path(made))
        yield Path(made)


def make_copy(folder):
    shutil.copytree(PACKAGE, folder / "src" / "modelyard", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "docs", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "tests" / "test_is_the_copy.py").write_text(IS_THE_COPY)
    hardware = folder / "src" / "modelyard" / "hardware"
    (hardware / "cuda.py").unlink()
    plugin = (hardware / "plugin.py").read_text()
    assert plugin.count("cuda") == LINE.count("cuda")
    (hardware / "plugin.py").write_text(plugin.replace(LINE, ""))


def pytest_there(folder, *arguments):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout[-5000:] + done.stderr[-5000:]


@pytest.mark.timeout(320)
def test_every_test_can_be_collected(copy):
    code, said = pytest_there(copy, "--collect-only", "tests")
    assert code == 0, said


@pytest.mark.timeout(320)
def test_what_asks_for_hardware_still_works(copy):
    code, said = pytest_there(copy, "tests/test_is_the_copy.py", *TOUCHED)
    assert code == 0, said
