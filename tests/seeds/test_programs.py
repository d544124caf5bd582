"""Whole programs for SageMaker's SDK run with one change, the name of the package, or with none.

The programs make the documentation's calls in its order, and their names are its names. What they find is
made here: their scripts, the data and a model in the buckets, and a job that has completed.
"""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tests.seeds.seed_support import archive

from modelyard.pytorch import PyTorch

pytestmark = pytest.mark.filterwarnings("ignore:.*since SDK v2:DeprecationWarning")

PROGRAMS = sorted(Path(__file__).with_name("programs").glob("*.py"))
SCRIPTS = ("pytorch-train", "train_and_deploy", "train_ptddp", "train_torch_distributed", "transform_script")
DATA = (
    "s3://bucket/path/to/training/data",
    "s3://my-data-bucket/path/to/my/training/data",
    "s3://my-data-bucket/path/to/my/test/data",
    "s3://my_bucket/my_training_data",
)
MODELS = ("s3://bucket/model.tar.gz", "s3://my-bucket/my-path/model.tar.gz")
JOB = "MyAwesomePyTorchTrainingJob"


@pytest.fixture
def prepared(account, folder):
    """Return the account in which there is what the programs do not make themselves."""
    for name in (*SCRIPTS, "inference"):
        (folder / f"{name}.py").write_text("def model_fn(model_dir): ...\n")
    (folder / "cifar-10-data").mkdir()
    (folder / "cifar-10-data" / "batch").write_bytes(b"images")
    for place in DATA:
        account.put(f"{place}/lines.txt")
    model = archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes()
    for place in MODELS:
        account.put(place, model)
    account.double.plays = lambda job: job.complete(model)
    PyTorch("pytorch-train.py", instance_type="ml.m4.xlarge", framework_version="1.8.0").fit(job_name=JOB)
    return account


def check_account(account):
    """Check that the program has gone to the service, and has left no endpoint there."""
    assert account.double.counts["CreateEndpoint"] >= 1
    assert (account.double.endpoints, account.double.configs) == ({}, {})


@pytest.mark.cuda
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_with_only_the_packages_name_replaced(prepared, folder, program):
    imports = re.compile(r"^((?:from|import) )sagemaker\b", re.MULTILINE)
    text, replaced = imports.subn(r"\1modelyard", program.read_text("utf-8"))
    assert replaced
    (folder / "program.py").write_text(text)
    runpy.run_path("program.py", run_name="__main__")
    check_account(prepared)


@pytest.mark.timeout(300)
def test_a_program_as_it_is(prepared, folder):
    """In a process of its own, which asks the service as often as AWS's may be asked."""
    (notebook,) = (program for program in PROGRAMS if program.stem == "notebook")
    (folder / "program.py").write_bytes(notebook.read_bytes())
    command = [sys.executable, "-m", "modelyard.compat.sagemaker", "program.py"]
    subprocess.run(command, check=True, timeout=280)
    check_account(prepared)
