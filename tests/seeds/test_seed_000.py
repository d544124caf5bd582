"""SDK v1's chapter "Using PyTorch with the SageMaker Python SDK", block by block.

What the chapter leaves undefined, and what stands for it here:

- the scripts ``pytorch-train.py``, ``train_and_deploy.py``, ``train.py`` and ``transform_script.py``, the
  data in the buckets, and the job ``MyAwesomePyTorchTrainingJob``: made by the tests;
- ``role``, which some of its calls leave out although it is required: the role that the code runs with;
- ``data``: an array and a list; ``Your_Model``: a model of one parameter; "train": counting lines of data;
- ``parser`` in "Saving models", which nothing has made: an ``argparse.ArgumentParser()``;
- ``args.distributed``, ``args.hosts``, ``args.current_host`` and ``args.backend``: arguments of the script,
  the hosts from ``SM_HOSTS`` and ``SM_CURRENT_HOST``;
- the signatures ``def model_fn(model_dir)``, ``input_fn``, ``predict_fn`` and ``output_fn``: no bodies;
- the libraries ``my/libs/common`` and ``virtual-env``.

Misspelt: ``model_dat``, which is ``model_data`` two lines above. Wrong: ``type=bool`` makes True of the text
``False`` as well, which is Python's. Of the past: Python 2.7 is run by AWS's images alone.
"""

import json

import numpy as np
import pytest
from tests.seeds.seed_support import (
    ARGUMENTS,
    BY_HOST,
    MODEL,
    MODEL_FN,
    PICKLED_INPUT,
    PREDICT_FN,
    SAVE,
    archive,
    channels_of,
    check_attach,
    check_inputs,
    check_pickled_input,
    check_wait_and_logs,
    output_of,
    users,
    weights,
)

from modelyard import predictor as of_v1
from modelyard.pytorch import PyTorch, PyTorchModel
from modelyard.session import Session

pytestmark = pytest.mark.filterwarnings("ignore:.*since SDK v2:DeprecationWarning")


# -- Training with PyTorch ---------------------------------------------------------------------


@pytest.mark.cuda
def test_training_a_script_by_an_estimator(account, folder):
    (folder / "pytorch-train.py").write_text("print('training')")
    account.put("s3://bucket/path/to/training/data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="pytorch-train.py",
        role="SageMakerRole",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.0.0",
    )
    pytorch_estimator.fit("s3://bucket/path/to/training/data")
    said = account.asked("CreateTrainingJob")
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith("/sagemaker-pytorch:1.0.0-gpu-py3")
    assert said["RoleArn"].endswith("/SageMakerRole")
    assert said["ResourceConfig"]["InstanceType"] == "ml.p3.2xlarge"
    assert said["ResourceConfig"]["InstanceCount"] == 1
    assert channels_of(said)["train"] == "s3://bucket/path/to/training/data"
    assert said["HyperParameters"]["sagemaker_program"] == '"pytorch-train.py"'
    source = json.loads(said["HyperParameters"]["sagemaker_submit_directory"])
    assert account.files(source) == {"pytorch-train.py": b"print('training')"}


@pytest.fixture
def trained(machine):
    """Train the script that reads its arguments, here, with small data; return what it has seen."""
    (machine / "pytorch-train.py").write_text(ARGUMENTS)
    (machine / "test").mkdir()
    (machine / "test" / "tests.txt").write_text("4\n")

    def train(**hyperparameters):
        estimator = PyTorch(
            "pytorch-train.py",
            train_instance_type="local",
            train_instance_count=1,
            framework_version="1.0.0",
            hyperparameters=hyperparameters,
        )
        estimator.fit({"train": f"file://{machine}/data", "test": f"file://{machine}/test"})
        assert output_of(estimator) == {"model.txt": b"a model"}
        return json.loads(output_of(estimator, "output")["seen.json"])

    return train


def test_preparing_the_script_environment_variables_and_arguments(trained):
    seen = trained(**{"epochs": 20, "batch-size": 64, "learning-rate": 0.1})
    assert (seen["epochs"], seen["batch_size"], seen["learning_rate"]) == (20, 64, 0.1)
    assert seen["use_cuda"] is False
    assert seen["gpus"].isdecimal()
    assert (seen["trained on"], seen["tested on"]) == (["lines.txt"], ["tests.txt"])


def test_boolean_hyperparameters_are_given_explicitly(trained):
    seen = trained(**{"use-cuda": True})
    assert (seen["use_cuda"], seen["argv"]) == (True, ["--use-cuda", "True"])
    assert trained(**{"use-cuda": False})["argv"] == ["--use-cuda", "False"]


@pytest.mark.cuda
def test_running_the_script_with_hyperparameters_and_two_channels(account, folder):
    (folder / "pytorch-train.py").write_text(ARGUMENTS)
    account.put("s3://my-data-bucket/path/to/my/training/data/lines.txt")
    account.put("s3://my-data-bucket/path/to/my/test/data/lines.txt")
    pytorch_estimator = PyTorch(
        "pytorch-train.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.0.0",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1},
    )
    pytorch_estimator.fit(
        {
            "train": "s3://my-data-bucket/path/to/my/training/data",
            "test": "s3://my-data-bucket/path/to/my/test/data",
        }
    )
    said = account.asked("CreateTrainingJob")
    assert users(said["HyperParameters"]) == {"epochs": 20, "batch-size": 64, "learning-rate": 0.1}
    assert channels_of(said) == {
        "train": "s3://my-data-bucket/path/to/my/training/data",
        "test": "s3://my-data-bucket/path/to/my/test/data",
    }
    assert said["RoleArn"].endswith("/SageMakerRole")


# -- PyTorch estimators ------------------------------------------------------------------------


def test_dependencies_are_beside_the_entry_point(machine):
    (machine / "train.py").write_text(
        "import json, os, pathlib\n"
        "found = sorted(os.path.join(*path.parts) for path in pathlib.Path('.').glob('*/*'))\n"
        "told = json.dumps([sorted(os.listdir()), found])\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'ls').write_text(told)\n"
    )
    for library, file in (("my/libs/common", "__init__.py"), ("virtual-env", "pyvenv.cfg")):
        (machine / library).mkdir(parents=True)
        (machine / library / file).touch()
    estimator = PyTorch(entry_point="train.py", dependencies=["my/libs/common", "virtual-env"])
    estimator.fit()
    names, found = json.loads(output_of(estimator)["ls"])
    assert {"train.py", "common", "virtual-env"} <= set(names)
    assert {"common/__init__.py", "virtual-env/pyvenv.cfg"} <= set(found)


def test_the_structure_of_source_dir_is_kept_and_hyperparameters_are_texts(machine):
    (machine / "src" / "deep").mkdir(parents=True)
    (machine / "src" / "deep" / "train.py").write_text(
        "import json, os, pathlib\n"
        "base = pathlib.Path(os.environ['SM_MODEL_DIR']).parent\n"
        "told = json.loads((base / 'input/config/hyperparameters.json').read_text())\n"
        "(base / 'model' / 'told').write_text(json.dumps([told, os.path.exists('deep/train.py')]))\n"
    )
    estimator = PyTorch(
        entry_point="deep/train.py", source_dir="src", hyperparameters={"epochs": 20, "name": "adam", 1: 0.5}
    )
    estimator.fit()
    told, kept = json.loads(output_of(estimator)["told"])
    assert kept
    assert {name: value for name, value in told.items() if not name.startswith("sagemaker_")} == {
        "epochs": "20",
        "name": '"adam"',
        "1": "0.5",
    }


def test_optional_arguments_arrive_at_the_service(account, folder):
    (folder / "pytorch-train.py").touch()
    account.put("s3://bucket/path/to/training/data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="pytorch-train.py",
        role="SageMakerRole",
        train_instance_count=1,
        train_instance_type="ml.m4.xlarge",
        train_volume_size=50,
        train_max_run=3600,
        input_mode="Pipe",
        output_path="s3://bucket/results",
        output_kms_key="a-key",
        job_name="a-job",
        image_name="123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1",
    )
    pytorch_estimator.fit("s3://bucket/path/to/training/data")
    said = account.asked("CreateTrainingJob")
    assert said["TrainingJobName"] == "a-job"
    assert said["AlgorithmSpecification"]["TrainingImage"].endswith("/mine:1")
    assert said["AlgorithmSpecification"]["TrainingInputMode"] == "Pipe"
    assert said["ResourceConfig"]["VolumeSizeInGB"] == 50
    assert said["StoppingCondition"]["MaxRuntimeInSeconds"] == 3600
    assert said["OutputDataConfig"] == {"S3OutputPath": "s3://bucket/results", "KmsKeyId": "a-key"}
    assert pytorch_estimator.model_data == "s3://bucket/results/a-job/output/model.tar.gz"


def test_without_output_path_and_job_name_there_are_defaults(account, folder):
    (folder / "pytorch-train.py").touch()
    estimator = PyTorch("pytorch-train.py", train_instance_type="ml.m4.xlarge", framework_version="1.0.0")
    estimator.fit()
    said = account.asked("CreateTrainingJob")
    assert said["OutputDataConfig"]["S3OutputPath"].startswith("s3://sagemaker-us-east-1-123456789012/")
    assert said["TrainingJobName"].startswith("pytorch-training-20")


@pytest.mark.parametrize(
    ("version", "tag"), [({"py_version": "py2"}, "py2"), ({"py_version": "py3"}, "py3"), ({}, "py3")]
)
def test_py_version_selects_the_image_and_the_patch_may_be_left_out(account, folder, version, tag):
    (folder / "pytorch-train.py").touch()
    for framework_version in ("0.4.0", "1.0.0", "1.0"):
        estimator = PyTorch(
            "pytorch-train.py",
            train_instance_type="ml.m4.xlarge",
            framework_version=framework_version,
            **version,
        )
        estimator.fit()
        image = account.asked("CreateTrainingJob")["AlgorithmSpecification"]["TrainingImage"]
        full = "1.0.0" if framework_version == "1.0" else framework_version
        assert image.endswith(f"/sagemaker-pytorch:{full}-cpu-{tag}")


# -- Calling fit -------------------------------------------------------------------------------


@pytest.fixture
def estimator(folder):
    """Return an estimator of a script that has nothing to do."""
    (folder / "pytorch-train.py").touch()
    return PyTorch("pytorch-train.py", train_instance_type="ml.m4.xlarge", framework_version="1.0.0")


def test_inputs_are_a_location_or_a_dict_of_them(account, estimator):
    check_inputs(account, estimator)


def test_wait_and_logs_have_defaults_and_can_be_switched_off(account, estimator, capsys):
    check_wait_and_logs(account, estimator, capsys)


# -- Distributed PyTorch training --------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("backend", ["gloo", "tcp"])
def test_a_script_on_several_hosts_initialises_its_process_group(machine, capsys, backend):
    (machine / "pytorch-train.py").write_text(BY_HOST)
    estimator = PyTorch(
        "pytorch-train.py",
        train_instance_type="local",
        train_instance_count=2,
        hyperparameters={"backend": backend},
    )
    estimator.fit()
    shown = capsys.readouterr().out
    for host in ("algo-1", "algo-2"):
        assert f"the sum on {host} is 3.0 by {backend}" in shown


@pytest.mark.cuda
def test_an_instance_count_above_one_is_a_job_of_several_machines(account, folder):
    (folder / "pytorch-train.py").write_text(BY_HOST)
    PyTorch(
        "pytorch-train.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=2,
        framework_version="1.0.0",
    ).fit()
    assert account.asked("CreateTrainingJob")["ResourceConfig"]["InstanceCount"] == 2


# -- Saving models, and deploying them ---------------------------------------------------------


@pytest.mark.torch
def test_saving_a_model_to_model_dir(machine):
    import torch

    (machine / "pytorch-train.py").write_text(MODEL + SAVE)
    estimator = PyTorch("pytorch-train.py", train_instance_type="local")
    estimator.fit(f"file://{machine}/data")
    saved = output_of(estimator)
    assert set(saved) == {"model.pth"}
    (machine / "model.pth").write_bytes(saved["model.pth"])
    assert torch.load(machine / "model.pth")["factor"].tolist() == [3.0]


@pytest.mark.torch
@pytest.mark.cuda
def test_deploying_an_estimator_and_predicting(containers, folder):
    (folder / "train_and_deploy.py").write_text(MODEL + MODEL_FN + SAVE)
    containers.put("s3://my_bucket/my_training_data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="train_and_deploy.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.0.0",
    )
    pytorch_estimator.fit("s3://my_bucket/my_training_data/")
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    response = predictor.predict(np.array([[1.0, 2.0]], dtype=np.float32))
    assert isinstance(response, np.ndarray)
    assert response.tolist() == [[3.0, 6.0]]
    response = predictor.predict([[1.0, 2.0]])
    assert isinstance(response, np.ndarray)
    assert response.tolist() == [[3.0, 6.0]]
    assert predictor.name in containers.double.endpoints
    (variant,) = containers.asked("CreateEndpointConfig")["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m4.xlarge", 1)
    predictor.delete_endpoint()


# -- The SageMaker PyTorch model server --------------------------------------------------------


@pytest.mark.torch
def test_a_model_is_loaded_by_model_fn_and_served_by_the_defaults(serve):
    predictor = serve(MODEL + MODEL_FN, {"model.pth": weights()})
    assert (predictor.content_type, predictor.accept) == ("application/x-npy", "application/x-npy")
    response = predictor.predict(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    assert response.tolist() == [[3.0, 6.0], [9.0, 12.0]]
    same = of_v1.RealTimePredictor(predictor.name)
    same.serializer, same.deserializer = of_v1.json_serializer, of_v1.json_deserializer
    same.content_type = same.accept = "application/json"
    assert same.predict([[1.0, 2.0]]) == [[3.0, 6.0]]
    same.serializer, same.content_type = of_v1.csv_serializer, "text/csv"
    assert same.predict([[1.0, 2.0], [3.0, 4.0]]) == [[3.0, 6.0], [9.0, 12.0]]
    for accept, written in (
        ("application/json", b"[[3.0, 6.0]]"),
        ("text/csv", b"3.0,6.0\n"),
        ("application/x-npy", b"\x93NUMPY"),
    ):
        answer = predictor.handle.invoke(b"[[1, 2]]", content_type="application/json", accept=accept)
        assert answer.content_type == accept
        assert answer.body.replace(b"\r", b"").startswith(written) or json.loads(answer.body) == [[3.0, 6.0]]
    predictor.delete_endpoint()


def test_a_request_goes_through_the_three_functions(serve):
    predictor = serve(
        """
def model_fn(model_dir):
    return "the model"

def input_fn(request_body, request_content_type):
    return [type(request_body).__name__, request_content_type]

def predict_fn(input_object, model):
    return [*input_object, model]

def output_fn(prediction, response_content_type):
    return " ".join([*prediction, response_content_type])
"""
    )
    answer = predictor.handle.invoke(b"\x00", content_type="application/octet-stream", accept="text/plain")
    assert answer.body == b"bytes application/octet-stream the model text/plain"
    predictor.delete_endpoint()


@pytest.mark.torch
def test_an_input_fn_loads_a_pickled_tensor_and_predict_fn_chooses_the_device(serve):
    check_pickled_input(serve, MODEL + MODEL_FN + PICKLED_INPUT + PREDICT_FN)


# -- Working with existing model data and training jobs ----------------------------------------


@pytest.mark.cuda
def test_attaching_to_a_job_and_deploying_it(account, folder, capsys):
    (folder / "pytorch-train.py").touch()
    before = PyTorch("pytorch-train.py", train_instance_type="ml.p3.2xlarge", framework_version="1.0.0")
    check_attach(account, before, _model(folder), capsys)


def _model(folder):
    return archive(folder / "model.tar.gz", {"model.pth": b"weights"}).read_bytes()


def test_deploying_an_endpoint_from_model_data(account, folder):
    (folder / "transform_script.py").write_text("def model_fn(model_dir): ...")
    account.put("s3://bucket/model.tar.gz", _model(folder))
    pytorch_model = PyTorchModel(
        model_data="s3://bucket/model.tar.gz", role="SageMakerRole", entry_point="transform_script.py"
    )
    predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
    assert predictor.predict([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    container = account.asked("CreateModel")["PrimaryContainer"]
    assert set(account.files(container["ModelDataUrl"])) == {"model.pth", "code/transform_script.py"}
    predictor.delete_endpoint()


def test_the_arguments_of_a_model(account, folder):
    (folder / "src").mkdir()
    (folder / "src" / "transform_script.py").touch()
    (folder / "src" / "requirements.txt").write_text("six\n")
    account.put("s3://bucket/model.tar.gz", _model(folder))
    account.put("s3://my-code/there")
    with pytest.warns(DeprecationWarning, match="enable_cloudwatch_metrics has no effect"):
        pytorch_model = PyTorchModel(
            model_data="s3://bucket/model.tar.gz",
            image="123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1",
            role="SageMakerRole",
            predictor_cls=of_v1.RealTimePredictor,
            env={"A": "b"},
            name="my-model",
            entry_point="transform_script.py",
            source_dir="src",
            enable_cloudwatch_metrics=True,
            container_log_level=10,
            code_location="s3://my-code/below",
            sagemaker_session=Session(),
        )
    predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
    assert isinstance(predictor, of_v1.RealTimePredictor)
    assert predictor.name.startswith("my-model-20")
    container = account.asked("CreateModel")["PrimaryContainer"]
    assert container["Image"].endswith("/mine:1")
    assert container["Environment"]["A"] == "b"
    assert container["Environment"]["SAGEMAKER_CONTAINER_LOG_LEVEL"] == "10"
    assert container["ModelDataUrl"].startswith("s3://my-code/below/")
    assert {"code/transform_script.py", "code/requirements.txt"} < set(
        account.files(container["ModelDataUrl"])
    )
    predictor.delete_endpoint()


@pytest.mark.torch
def test_an_archive_of_a_folder_is_served_as_it_was_packed(serve):
    """``tar -czf model.tar.gz my_model`` puts the model into a folder, where the script finds it."""
    script = MODEL_FN.replace("'model.pth'", "'my_model', 'model.pth'")
    predictor = serve(MODEL + script, {"my_model/model.pth": weights()})
    assert predictor.predict([[1.0, 2.0]]).tolist() == [[3.0, 6.0]]
    predictor.delete_endpoint()


# -- SageMaker PyTorch Docker containers -------------------------------------------------------


def test_requirements_are_in_the_source_that_is_sent(account, folder):
    (folder / "src").mkdir()
    (folder / "src" / "pytorch-train.py").touch()
    (folder / "src" / "requirements.txt").write_text("six\n")
    estimator = PyTorch(
        "pytorch-train.py",
        source_dir="src",
        train_instance_type="ml.m4.xlarge",
        framework_version="1.0.0",
    )
    estimator.fit()
    said = account.asked("CreateTrainingJob")["HyperParameters"]
    sent = account.files(json.loads(said["sagemaker_submit_directory"]))
    assert sent == {"pytorch-train.py": b"", "requirements.txt": b"six\n"}
