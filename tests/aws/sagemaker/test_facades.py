"""What a user writes, with nothing but the instance type changed, on the double that runs containers."""

import numpy as np
import pytest
from tests.aws.sagemaker.conftest import ROLE, made
from tests.aws.sagemaker.double.containers import Containers

from modelyard import Predictor, PyTorch, PyTorchModel
from modelyard.core.errors import JobFailedError

TRAIN = """
import argparse, os, pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--factor", type=float)
factor = parser.parse_args().factor
numbers = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "numbers.txt").read_text().split()
print("sum", sum(map(int, numbers)))
if factor < 0:
    raise ValueError("the factor is negative")
pathlib.Path(os.environ["SM_MODEL_DIR"], "factor.txt").write_text(str(factor))
"""
INFERENCE = """
import pathlib

def model_fn(model_dir):
    return float(pathlib.Path(model_dir, "factor.txt").read_text())

def predict_fn(value, model):
    return value * model
"""
OPTIONS = {"poll_seconds": 0.02, "stop_seconds": 30.0}


@pytest.fixture
def estimator(double, role, tmp_path):
    containers = Containers(double)
    double.plays, double.serves = containers.train, containers.serve
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text(TRAIN)
    (tmp_path / "src" / "inference.py").write_text(INFERENCE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("1 2 3")

    def make(factor):
        return PyTorch(
            "train.py",
            source_dir=tmp_path / "src",
            role=ROLE,
            instance_type="ml.m5.xlarge",
            framework_version="2.5.1",
            hyperparameters={"factor": factor},
            tags={"team": "vision"},
            **OPTIONS,
        )

    return make


def test_a_script_is_trained_deployed_asked_and_deleted(estimator, double, tmp_path, capsys):
    trained = estimator(2.5)
    trained.fit({"train": tmp_path / "data"})
    assert "sum 6" in capsys.readouterr().out
    assert trained.model_data.startswith("s3://sagemaker-us-east-1-123456789012/")
    assert double.asked("CreateTrainingJob")[0]["Tags"] == [{"Key": "team", "Value": "vision"}]
    model = PyTorchModel(
        trained.model_data,
        role=ROLE,
        entry_point="inference.py",
        source_dir=tmp_path / "src",
        framework_version="2.5.1",
        **OPTIONS,
    )
    predictor = model.deploy(1, "ml.m5.xlarge")
    given = np.array([1.0, 2.0], dtype="float32")
    assert predictor.predict(given).tolist() == [2.5, 5.0]
    found = Predictor(predictor.endpoint_name, backend="sagemaker")
    assert found.predict(given).tolist() == [2.5, 5.0]
    predictor.delete_endpoint()
    assert (double.endpoints, double.configs, double.models) == ({}, {}, {})


def test_a_lone_input_is_found_by_the_script_under_both_names(estimator, double, tmp_path, capsys):
    trained = estimator(2.5)
    script = tmp_path / "src" / "train.py"
    script.write_text(f"{TRAIN}\nprint('also', os.listdir(os.environ['SM_CHANNEL_TRAINING']))")
    trained.fit(tmp_path / "data")
    told = capsys.readouterr().out
    assert "sum 6" in told
    assert "also ['numbers.txt']" in told
    assert len(double.asked("CreateTrainingJob")[0]["InputDataConfig"]) == 1


def test_a_model_in_files_is_served(estimator, double, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor.txt").write_text("3")
    estimator(1)
    model = PyTorchModel(
        tmp_path / "model",
        role=ROLE,
        entry_point="inference.py",
        source_dir=tmp_path / "src",
        framework_version="2.5.1",
        compress_model=False,
        **OPTIONS,
    )
    with model.deploy(1, "ml.m5.xlarge") as predictor:
        assert predictor.predict(np.array([1.0], dtype="float32")).tolist() == [3.0]


def test_a_script_that_fails_raises_its_own_reason(estimator, tmp_path):
    with pytest.raises(JobFailedError, match=r"(?s)ValueError: the factor is negative.*TrainingJobs"):
        estimator(-1).fit({"train": tmp_path / "data"})


def test_a_job_is_attached_to(estimator, double, tmp_path, capsys):
    first = estimator(1.5)
    first.fit({"train": tmp_path / "data"}, wait=False)
    name = first.latest_training_job.name
    attached = PyTorch.attach(name, backend="sagemaker")
    assert "sum 6" in capsys.readouterr().out
    assert attached.hyperparameters() == {"factor": 1.5}
    assert attached.model_data == first.model_data
    assert made().job(name).describe().plan.role.endswith(ROLE)
    # For its endpoint the image is chosen anew: that of the job trains.
    attached.deploy(1, "ml.m5.xlarge", entry_point="inference.py", poll_seconds=0.02).delete_endpoint()
    image = double.asked("CreateModel")[0]["PrimaryContainer"]["Image"]
    assert image.endswith("/pytorch-inference:2.5.1-cpu-py311")
    attached.fit({"train": tmp_path / "data"})
    assert (
        attached.latest_training_job.describe().source_data
        == first.latest_training_job.describe().source_data
    )
