"""Code for SDK v2 on this machine, with nothing changed but its imports: training, serving, attaching."""

import json
import tarfile

import numpy as np
import pytest

from modelyard.deserializers import CSVDeserializer, JSONDeserializer
from modelyard.estimator import Estimator
from modelyard.inputs import TrainingInput
from modelyard.local import LocalSession
from modelyard.pytorch import PyTorch, PyTorchModel
from modelyard.serializers import CSVSerializer, JSONSerializer

TRAIN = """
import argparse, json, os, sys
import helper, common

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--use-cuda", type=str, default="unset")
    parser.add_argument("--output-data-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--hosts", default=json.loads(os.environ["SM_HOSTS"]))
    parser.add_argument("--current-host", default=os.environ["SM_CURRENT_HOST"])
    args, _ = parser.parse_known_args()
    config = os.path.join(args.model_dir, "../input/config")
    seen = {
        "args": vars(args),
        "helper": helper.said,
        "common": common.said,
        "data": sorted(os.listdir(args.train)),
        "gpus": os.environ["SM_NUM_GPUS"],
        "master": [os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]],
        "hyperparameters": json.load(open(os.path.join(config, "hyperparameters.json"))),
        "config": sorted(os.listdir(config)),
        "set": os.environ["SET"],
    }
    if args.current_host == args.hosts[0]:
        with open(os.path.join(args.model_dir, "model.json"), "w") as file:
            json.dump({"factor": args.epochs}, file)
    with open(os.path.join(args.output_data_dir, f"seen-{args.current_host}.json"), "w") as file:
        json.dump(seen, file)
"""

INFERENCE = """
import json, os

def model_fn(model_dir, context):
    context.system_properties.get("gpu_id")
    with open(os.path.join(model_dir, "model.json")) as file:
        return json.load(file)["factor"]

def predict_fn(data, model):
    return data * model
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project as the documentation has it: source, a library beside it, and data."""
    source = tmp_path / "src"
    for folder in (source, tmp_path / "libs" / "common", tmp_path / "data"):
        folder.mkdir(parents=True)
    (source / "train.py").write_text(TRAIN)
    (source / "helper.py").write_text("said = 'helped'")
    (source / "inference.py").write_text(INFERENCE)
    (tmp_path / "libs" / "common" / "__init__.py").write_text("said = 'in common'")
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def estimator(project, plugins, modelyard_home):
    """Make an estimator of the project."""

    def make(**options):
        return PyTorch(
            entry_point="train.py",
            role="SageMakerRole",
            source_dir="src",
            dependencies=["libs/common"],
            framework_version="1.8.0",
            py_version="py3",
            hyperparameters={"epochs": 20, "use-cuda": False},
            environment={"SET": "by environment"},
            output_path=f"file://{project}/out",
            base_job_name="digits",
            input_mode="File",
            plugins=plugins,
            **{"instance_count": 1, "instance_type": "local", **options},
        )

    return make


def seen_by(job, project, host="algo-1"):
    """Return what the script has seen, from the archive of its output."""
    with tarfile.open(project / "out" / job.name / "output" / "output.tar.gz") as tar:
        (name,) = (name for name in tar.getnames() if name.endswith(f"seen-{host}.json"))
        return json.load(tar.extractfile(name))


def test_a_script_sees_what_the_documentation_says(estimator, project):
    made = estimator()
    made.fit({"train": TrainingInput(f"file://{project}/data", content_type="text/csv")})
    seen = seen_by(made.latest_training_job, project)
    assert made.latest_training_job.name.startswith("digits-20")
    assert (seen["args"]["epochs"], seen["args"]["use_cuda"]) == (20, "False")
    assert (seen["helper"], seen["common"], seen["set"]) == ("helped", "in common", "by environment")
    assert (seen["data"], seen["gpus"].isdecimal()) == (["rows.csv"], True)
    assert (seen["args"]["hosts"], seen["args"]["current_host"]) == (["algo-1"], "algo-1")
    assert seen["hyperparameters"]["epochs"] == "20"
    assert {"hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"} <= set(seen["config"])
    assert made.model_data == f"file://{project}/out/{made.latest_training_job.name}/output/model.tar.gz"


def test_several_hosts_run_the_script_and_meet_at_the_first(estimator, project):
    made = estimator(instance_count=2)
    made.fit(f"file://{project}/data", logs=False)
    first, second = (seen_by(made.latest_training_job, project, host) for host in ("algo-1", "algo-2"))
    assert first["args"]["hosts"] == second["args"]["hosts"] == ["algo-1", "algo-2"]
    assert first["master"] == second["master"]


def test_a_job_is_attached_to_deployed_and_asked(estimator, project, plugins, capsys):
    made = estimator()
    made.fit(f"file://{project}/data", wait=False, job_name="the-job")
    attached = PyTorch.attach("the-job", sagemaker_session=LocalSession(plugins=plugins))
    assert "training job the-job: Completed" in capsys.readouterr().out
    predictor = attached.deploy(initial_instance_count=1, instance_type="local", entry_point="inference.py")
    assert np.array_equal(predictor.predict(np.ones((1, 2))), [[20, 20]])
    assert np.array_equal(predictor.predict([[1, 2]]), [[20, 40]])
    predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
    assert predictor.predict([[1, 2]]) == [[20, 40]]
    predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
    assert predictor.predict([1, 2]) == [["20.0", "40.0"]]
    assert (predictor.content_type, predictor.accept) == ("text/csv", "text/csv")
    predictor.delete_endpoint()


@pytest.mark.parametrize("framework_version", ["1.0.0", "1.8.0"])
def test_a_model_of_ones_own_is_served_in_either_layout(project, plugins, modelyard_home, framework_version):
    (project / "model.json").write_text('{"factor": 3}')
    with tarfile.open(project / "model.tar.gz", "w:gz") as tar:
        tar.add("model.json")
    model = PyTorchModel(
        model_data="model.tar.gz",
        role="SageMakerRole",
        entry_point="src/inference.py",
        framework_version=framework_version,
        py_version="py3",
        env={"A": "b"},
        name="mine",
        code_location="s3://bucket/code",
        container_log_level=20,
        model_server_workers=1,
        plugins=plugins,
    )
    predictor = model.deploy(instance_type="local", initial_instance_count=1)
    assert predictor.name.startswith("mine-20")
    assert np.array_equal(predictor.predict(np.ones(2)), [3, 3])
    predictor.delete_endpoint()


def test_the_program_of_an_image_runs_by_the_variables_of_its_dockerfile(
    project, plugins, modelyard_home, monkeypatch
):
    """As the notebook that extends a container has it, with its folder in place of the image."""
    monkeypatch.setenv("SAGEMAKER_SUBMIT_DIRECTORY", str(project / "src"))
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "inference.py")
    (project / "src" / "inference.py").write_text(
        f"""{INFERENCE}
if __name__ == "__main__":
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
        file.write('{{"factor": 4}}')
"""
    )
    made = Estimator(
        role="role",
        instance_count=1,
        instance_type="local",
        image_uri="pytorch-extending-our-containers-cifar10-example:latest",
        hyperparameters={"epochs": 1},
        plugins=plugins,
    )
    made.fit(f"file://{project}/data")
    predictor = made.deploy(1, "local")
    assert np.array_equal(predictor.predict(np.ones(2)), [4, 4])
    predictor.delete_endpoint()
