import subprocess
import sys
from importlib import import_module

import pytest

import modelyard

WALK = """
import importlib, pkgutil, sys, modelyard
for module in pkgutil.walk_packages(modelyard.__path__, "modelyard."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def loaded_after(program, candidates):
    """Return which of these modules a fresh interpreter has loaded; the program must print nothing."""
    ask = f"import sys; print(*sorted(set({sorted(candidates)!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ask}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return line.split()


def test_all_is_sorted_and_has_every_name():
    assert modelyard.__all__ == sorted(modelyard._HOMES)


@pytest.mark.parametrize("name", modelyard.__all__)
def test_a_public_name_is_the_one_of_its_home(name):
    assert getattr(modelyard, name) is getattr(import_module(modelyard._HOMES[name]), name)


def test_dir_shows_the_names_before_they_are_used():
    assert set(modelyard.__all__) <= set(dir(modelyard))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'modelyard' has no attribute 'PyTorhc'"):
        modelyard.PyTorhc  # noqa: B018 - the access is what is tested


def test_importing_modelyard_is_quiet_and_light():
    heavy = {"attrs", "boto3", "numpy", "pluggy", "structlog", "torch", "uvicorn"}
    assert loaded_after("import modelyard", heavy) == []


def test_no_module_imports_torch_or_boto3_at_its_top():
    assert loaded_after(WALK, {"boto3", "torch", "torch_xla"}) == []


@pytest.mark.parametrize(
    "program",
    [
        "from modelyard.pytorch import PyTorch, PyTorchModel",
        "from modelyard.estimator import Estimator; from modelyard.predictor import Predictor",
        "from modelyard.serializers import JSONSerializer, NumpySerializer",
        "from modelyard.deserializers import JSONDeserializer, NumpyDeserializer",
        "import modelyard; modelyard.Session(); modelyard.LocalSession()",
    ],
)
def test_the_names_of_sdk_v2_load_no_library_that_they_do_not_need(program):
    assert (
        loaded_after(program, {"boto3", "botocore", "numpy", "pandas", "scipy", "structlog", "torch"}) == []
    )


def test_the_import_paths_of_sdk_v2():
    for path in (
        "modelyard.pytorch.PyTorch",
        "modelyard.pytorch.PyTorchModel",
        "modelyard.pytorch.PyTorchPredictor",
        "modelyard.pytorch.estimator.PyTorch",
        "modelyard.pytorch.model.PyTorchModel",
        "modelyard.estimator.Estimator",
        "modelyard.model.Model",
        "modelyard.predictor.Predictor",
        "modelyard.serializers.NumpySerializer",
        "modelyard.deserializers.NumpyDeserializer",
        "modelyard.inputs.TrainingInput",
        "modelyard.inputs.FileSystemInput",
        "modelyard.session.Session",
        "modelyard.session.get_execution_role",
        "modelyard.local.LocalSession",
        "modelyard.local.local_session.LocalSession",
        "modelyard.debugger.TensorBoardOutputConfig",
    ):
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name).__name__ in (name, "Predictor")
