"""`import sagemaker` for a program that cannot be edited."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from modelyard.compat.stand_in import MODULES

REAL = find_spec("sagemaker") is not None
pytestmark = pytest.mark.skipif(REAL, reason="the real package sagemaker is installed")

PROGRAM = """
import sagemaker, sys
from sagemaker import get_execution_role
from sagemaker.pytorch import PyTorch, PyTorchModel
from sagemaker.estimator import Estimator
from sagemaker.local.local_session import LocalSession
import sagemaker.serializers
import modelyard

assert sagemaker.Session is modelyard.Session, sagemaker.Session
assert PyTorch is modelyard.PyTorch
assert sagemaker.pytorch.PyTorchModel is PyTorchModel is modelyard.PyTorchModel
assert sagemaker.inputs.TrainingInput is modelyard.TrainingInput
assert sagemaker.serializers.JSONSerializer is modelyard.serializers.JSONSerializer
assert int(sagemaker.__version__.split(".")[0]) == 2
assert modelyard.pytorch.__spec__.name == "modelyard.pytorch"
print("ran", __name__, sys.argv)
"""


def run(*arguments, cwd, **environ):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "elsewhere" / "program.py"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def real(tmp_path):
    """A folder with a package sagemaker that is not ours."""
    package = tmp_path / "site" / "sagemaker"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("real = True\n")
    (package / "pytorch.py").write_text("real = True\n")
    return str(package.parent)


def test_a_program_that_cannot_be_edited_runs(program, tmp_path):
    done = run("-m", "modelyard.compat.sagemaker", str(program), "--epochs", "3", cwd=tmp_path)
    assert done.stdout == f"ran __main__ {[str(program), '--epochs', '3']}\n", done.stderr
    assert done.stderr == ""


def test_its_neighbours_can_be_imported(program, tmp_path):
    (program.parent / "neighbour.py").write_text("said = 'hello'")
    program.write_text("import neighbour, modelyard.compat.sagemaker, sagemaker; print(neighbour.said)")
    done = run("-m", "modelyard.compat.sagemaker", str(program), cwd=tmp_path)
    assert done.stdout == "hello\n", done.stderr


def test_without_a_program_it_says_how(tmp_path):
    done = run("-m", "modelyard.compat.sagemaker", cwd=tmp_path)
    assert (done.returncode, "usage: python -m modelyard.compat.sagemaker PROGRAM.py" in done.stderr) == (
        1,
        True,
    )


def test_an_import_does_it_too_and_twice_is_once(program, tmp_path):
    code = f"""
import sys, modelyard.compat.sagemaker
from modelyard.compat.stand_in import install

finders = list(sys.meta_path)
install()
assert sys.meta_path == finders
exec(open({str(program)!r}).read())
"""
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module", ["modelyard", "modelyard.pytorch", "modelyard.compat", "modelyard.session"]
)
def test_nothing_else_makes_it_so(module, tmp_path):
    done = run("-c", f"import {module}\nimport sagemaker", cwd=tmp_path)
    assert "No module named 'sagemaker'" in done.stderr


def test_a_module_that_there_is_not_is_named(tmp_path):
    code = "import modelyard.compat.sagemaker, sagemaker.xgboost"
    done = run("-c", code, cwd=tmp_path)
    assert (
        "ModuleNotFoundError: sagemaker.xgboost has no stand-in in modelyard, which has base" in done.stderr
    )


def test_a_name_that_there_is_not_is_an_attribute_error(tmp_path):
    done = run("-c", "import modelyard.compat.sagemaker, sagemaker; sagemaker.Transformer", cwd=tmp_path)
    assert "AttributeError: module 'modelyard' has no attribute 'Transformer'" in done.stderr


def test_the_real_package_is_never_hidden_in_silence(real, tmp_path):
    for code in ("import modelyard.compat.sagemaker", "import sagemaker, modelyard.compat.sagemaker"):
        done = run("-c", code, cwd=tmp_path, PYTHONPATH=real)
        assert done.returncode == 1
        assert (
            f"the real package sagemaker is here, at {real}/sagemaker/__init__.py: uninstall it"
            in done.stderr
        )


def test_the_real_package_is_hidden_where_that_was_asked_for_aloud(real, program, tmp_path):
    code = f"import sagemaker.pytorch, modelyard.compat.sagemaker\nexec(open({str(program)!r}).read())"
    done = run("-c", code, cwd=tmp_path, PYTHONPATH=real, MODELYARD_COMPAT_SAGEMAKER="replace")
    assert done.returncode == 0, done.stderr
    assert "RuntimeWarning: import sagemaker is modelyard now, instead of" in done.stderr


def test_a_folder_that_happens_to_have_the_name_is_not_the_package(program, tmp_path):
    (tmp_path / "sagemaker").mkdir()
    code = f"import modelyard.compat.sagemaker\nexec(open({str(program)!r}).read())"
    assert run("-c", code, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("target", sorted(set(MODULES.values())))
def test_every_stand_in_is_there(target):
    assert import_module(target).__doc__
