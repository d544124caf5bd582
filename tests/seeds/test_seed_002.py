"""SDK v1's page "Using PyTorch with the SageMaker Python SDK", block by block.

The page leaves undefined: the role (its estimators name none: that of the notebook is used), ``parser`` in
"Save the Model", the model itself and ``Your_Model``, the data of ``predict``, the script's
``args.distributed``, ``args.backend``, ``args.hosts`` and ``args.current_host``, and the imports of
``PyTorch``, ``PyTorchModel`` and ``dist``. It misspells ``input_data`` as ``data`` in Elastic Inference's
``predict_fn``, which returns nothing either. Definitions without a colon and a body show signatures alone.
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
    check_inputs,
    check_pickled_input,
    check_wait_and_logs,
    output_of,
    weights,
)

from modelyard import Session, get_execution_role
from modelyard.core.errors import InvalidPlanError, InvocationError
from modelyard.deserializers import CSVDeserializer, JSONDeserializer
from modelyard.pytorch import PyTorch, PyTorchModel
from modelyard.serializers import CSVSerializer, JSONSerializer

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*since SDK v2:DeprecationWarning")]

TWO = np.array([[2.0]], dtype=np.float32)

TRAIN = MODEL + ARGUMENTS + SAVE
SERVED = MODEL + MODEL_FN


def model_archive(folder):
    """Return the ``model.tar.gz`` of a model without code."""
    return archive(folder / "model.tar.gz", {"model.pth": weights()}).read_bytes()


# -- train a model with PyTorch ------------------------------------------------------------------


def test_prepare_a_training_script_and_save_the_model(machine, capsys):
    """Its script gets hyperparameters as arguments, and saves what becomes ``model.tar.gz``."""
    (machine / "pytorch-train.py").write_text(TRAIN)
    (machine / "test").mkdir()
    (machine / "test" / "tests.txt").touch()
    pytorch_estimator = PyTorch(
        "pytorch-train.py",
        train_instance_type="local",
        train_instance_count=1,
        framework_version="1.5.0",
        py_version="py3",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1, "use-cuda": True},
        output_path=f"file://{machine}/out",
    )
    pytorch_estimator.fit({"train": f"file://{machine}/data", "test": f"file://{machine}/test"})
    assert "told 20 64 0.1 True" in capsys.readouterr().out
    folder = machine / "out" / pytorch_estimator.latest_training_job.name / "output"
    assert pytorch_estimator.model_data == f"file://{folder}/model.tar.gz"
    assert set(output_of(pytorch_estimator)) == {"model.pth", "model.txt"}
    seen = json.loads(output_of(pytorch_estimator, "output")["seen.json"])
    assert (seen["trained on"], seen["tested on"]) == (["lines.txt"], ["tests.txt"])


@pytest.mark.cuda
def test_create_an_estimator(containers, folder, capsys):
    """The script of three hyperparameters and two channels, on an instance of SageMaker's."""
    (folder / "pytorch-train.py").write_text(TRAIN)
    for name in ("training", "test"):
        containers.put(f"s3://my-data-bucket/path/to/my/{name}/data/lines.txt")
    pytorch_estimator = PyTorch(
        "pytorch-train.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.5.0",
        py_version="py3",
        hyperparameters={"epochs": 20, "batch-size": 64, "learning-rate": 0.1},
    )
    pytorch_estimator.fit(
        {
            "train": "s3://my-data-bucket/path/to/my/training/data",
            "test": "s3://my-data-bucket/path/to/my/test/data",
        }
    )
    assert "told 20 64 0.1 False" in capsys.readouterr().out
    asked = containers.asked("CreateTrainingJob")
    assert asked["ResourceConfig"]["InstanceType"] == "ml.p3.2xlarge"
    assert asked["AlgorithmSpecification"]["TrainingImage"].endswith("/pytorch-training:1.5.0-gpu-py3")
    told = {name: asked["HyperParameters"][name] for name in ("epochs", "batch-size", "learning-rate")}
    assert told == {"epochs": "20", "batch-size": "64", "learning-rate": "0.1"}
    assert pytorch_estimator.model_data.startswith(f"s3://{Session().default_bucket()}/")


@pytest.fixture
def estimator(folder):
    """Return an estimator of a script that has nothing to do."""
    (folder / "train.py").touch()
    return PyTorch(
        "train.py", train_instance_type="ml.m4.xlarge", train_instance_count=1, framework_version="1.5.0"
    )


def test_call_the_fit_method(account, estimator, capsys):
    """Its required arguments, and its optional ones: ``wait`` and ``logs``."""
    check_inputs(account, estimator)
    check_wait_and_logs(account, estimator, capsys)


@pytest.mark.parametrize("backend", ["gloo", "tcp"])
def test_distributed_pytorch_training(machine, capsys, backend):
    """Two hosts run the script, and ``dist.init_process_group`` has them meet: on CPUs by either backend."""
    (machine / "train.py").write_text(BY_HOST)
    pytorch_estimator = PyTorch(
        "train.py",
        train_instance_type="local",
        train_instance_count=2,
        framework_version="1.5.0",
        py_version="py3",
        hyperparameters={"backend": backend, "distributed": True},
    )
    pytorch_estimator.fit()
    said = capsys.readouterr().out
    for host in ("algo-1", "algo-2"):
        assert f"the sum on {host} is 3.0 by {backend}" in said


# -- deploy PyTorch models -----------------------------------------------------------------------


@pytest.mark.cuda
def test_train_and_deploy_my_estimator(containers, folder):
    """`deploy` returns a predictor: an array goes in and one comes out."""
    (folder / "train_and_deploy.py").write_text(SERVED + SAVE)
    containers.put("s3://my_bucket/my_training_data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="train_and_deploy.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.5.0",
        py_version="py3",
    )
    pytorch_estimator.fit("s3://my_bucket/my_training_data/")
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    data = np.array([[1.0], [2.0]], dtype=np.float32)
    response = predictor.predict(data)
    assert isinstance(response, np.ndarray)
    assert np.allclose(response, [[3.0], [6.0]], atol=0.01)
    assert list(containers.double.endpoints) == [predictor.name]
    (variant,) = containers.double.asked("CreateEndpointConfig")[0]["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m4.xlarge", 1)
    predictor.delete_endpoint()


def test_predict_takes_python_lists_too(serve):
    predictor = serve(SERVED, {"model.pth": weights()})
    data = [[1.0], [2.0]]
    response = predictor.predict(data)
    assert isinstance(response, np.ndarray)
    assert response.tolist() == [[3.0], [6.0]]


SAVE_TORCHSCRIPT = """
import os
import torch

if __name__ == '__main__':
    model_dir = os.environ['SM_MODEL_DIR']
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 3.0)
    model = torch.jit.script(model)
    model_dir = os.path.join(model_dir, "model.pt")
    torch.jit.save(model, model_dir)
"""


def test_elastic_inference_serves_the_torchscript_that_the_script_saves(machine):
    """Without a ``model_fn``: on this machine, by its CPU."""
    (machine / "train.py").write_text(SAVE_TORCHSCRIPT)
    pytorch_estimator = PyTorch(
        "train.py", train_instance_type="local", train_instance_count=1, framework_version="1.5.0"
    )
    pytorch_estimator.fit()
    predictor = pytorch_estimator.deploy(
        instance_type="local", initial_instance_count=1, accelerator_type="ml.eia2.medium"
    )
    assert predictor.predict(TWO).tolist() == [[6.0]]
    predictor.delete_endpoint()


def test_elastic_inference_on_sagemaker_has_images_of_two_versions(account, folder):
    """The page's 1.5.0 is none of them, and the ways out are said; 1.5 has one for each of the two."""
    account.double.plays = lambda job: job.complete(model_archive(folder))
    (folder / "train.py").write_text("")

    def trained(framework_version):
        pytorch_estimator = PyTorch(
            "train.py",
            train_instance_type="ml.m4.xlarge",
            train_instance_count=1,
            framework_version=framework_version,
            py_version="py3",
        )
        pytorch_estimator.fit(logs=False)
        return pytorch_estimator

    accelerated = {
        "instance_type": "ml.m4.xlarge",
        "initial_instance_count": 1,
        "accelerator_type": "ml.eia2.medium",
    }
    with pytest.raises(InvalidPlanError, match=r"no inference-eia image .* '1\.5\.0'.*'1\.5\.1'"):
        trained("1.5.0").deploy(**accelerated)
    assert (account.double.models, account.double.endpoints) == ({}, {})
    trained("1.5").deploy(**accelerated)
    (asked,) = account.double.asked("CreateEndpointConfig")
    assert asked["ProductionVariants"][0]["AcceleratorType"] == "ml.eia2.medium"


# -- the model's directory -----------------------------------------------------------------------


def brought(account, folder, framework_version):
    """Deploy a model of one's own with a script and its requirements; return its container's request."""
    account.put("s3://my-bucket/my-path/model.tar.gz", model_archive(folder))
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(SERVED)
    (folder / "code" / "requirements.txt").write_text("six\n")
    pytorch_model = PyTorchModel(
        model_data="s3://my-bucket/my-path/model.tar.gz",
        role=get_execution_role(),
        entry_point="inference.py",
        source_dir="code",
        framework_version=framework_version,
    )
    predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
    return Session().sagemaker_client.describe_model(ModelName=predictor.name)["PrimaryContainer"]


def test_from_version_1_2_on_the_archive_has_the_code_in_it(account, folder):
    container = brought(account, folder, "1.5.0")
    assert sorted(account.files(container["ModelDataUrl"])) == [
        "code/inference.py",
        "code/requirements.txt",
        "model.pth",
    ]
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "inference.py"
    assert container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"] == "/opt/ml/model/code"


def test_up_to_version_1_1_the_code_is_an_archive_of_its_own(account, folder):
    container = brought(account, folder, "1.1.0")
    assert sorted(account.files(container["ModelDataUrl"])) == ["model.pth"]
    source = container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"]
    assert source.endswith("/sourcedir.tar.gz")
    assert sorted(account.files(source)) == ["inference.py", "requirements.txt"]


# -- the model server ----------------------------------------------------------------------------


def test_load_a_model_and_get_predictions_by_functions_of_ones_own(serve):
    """``model_fn``, ``input_fn`` for a pickled tensor, ``predict_fn``, and the default ``output_fn``."""
    check_pickled_input(serve, SERVED + PICKLED_INPUT + PREDICT_FN)


CHAIN = """
import json

def input_fn(request_body, request_content_type):
    assert isinstance(request_body, (bytes, bytearray))
    return [["input_fn", bytes(request_body).decode(), request_content_type]]

def predict_fn(input_object, model):
    return [*input_object, ["predict_fn", type(model).__name__]]

def output_fn(prediction, content_type):
    return json.dumps([*prediction, ["output_fn", content_type]]).encode()
"""


def test_serving_goes_by_input_fn_predict_fn_and_output_fn(serve):
    predictor = serve(SERVED + CHAIN, {"model.pth": weights()})
    answer = predictor.predict(
        b"in", initial_args={"ContentType": "text/x-own", "Accept": "application/json"}
    )
    assert answer == [
        ["input_fn", "in", "text/x-own"],
        ["predict_fn", "Your_Model"],
        ["output_fn", "application/json"],
    ]


def test_the_default_functions_take_and_give_json_csv_and_npy(serve):
    predictor = serve(SERVED, {"model.pth": weights()})
    assert (predictor.content_type, predictor.accept) == ("application/x-npy", "application/x-npy")
    assert predictor.predict(np.array([[1.0], [2.0]], dtype=np.float32)).tolist() == [[3.0], [6.0]]
    predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
    assert predictor.predict([[1.0], [2.0]]) == [[3.0], [6.0]]
    predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
    assert [[float(cell) for cell in row] for row in predictor.predict([[1.0], [2.0]])] == [[3.0], [6.0]]
    # Each line of the CSV is a row of a batch, and a body has one document of JSON.
    with pytest.raises(InvocationError, match="JSON"):
        predictor.predict(b"[[1.0]] [[2.0]]", {"ContentType": "application/json"})


ELASTIC = """
def predict_fn(input_data, model):
    device = torch.device("cpu")
    model = model.to(device)
    input_data = input_data.to(device)
    model.eval()
    with torch.jit.optimized_execution(True, {"target_device": "eia:0"}):
        output = model(input_data)
    return output
"""


def test_the_predict_fn_of_elastic_inference_is_for_its_own_torch(serve):
    """AWS has ended the service: torch takes no ``target_device`` any more, and the answer says so."""
    predictor = serve(SERVED + ELASTIC, {"model.pth": weights()})
    with pytest.raises(InvocationError, match=r"optimized_execution\(\) takes 1 positional argument but 2"):
        predictor.predict([[1.0]])


# -- bring your own model, and attach ------------------------------------------------------------


def test_create_a_pytorchmodel_object(containers, folder):
    containers.put("s3://my-bucket/my-path/model.tar.gz", model_archive(folder))
    (folder / "inference.py").write_text(SERVED)
    role = get_execution_role()
    pytorch_model = PyTorchModel(
        model_data="s3://my-bucket/my-path/model.tar.gz", role=role, entry_point="inference.py"
    )
    predictor = pytorch_model.deploy(instance_type="ml.c4.xlarge", initial_instance_count=1)
    assert predictor.predict(TWO).tolist() == [[6.0]]
    predictor.delete_endpoint()


@pytest.mark.cuda
def test_attach_an_estimator_to_an_existing_training_job(containers, folder, capsys):
    """It stays until the job has ended, shows its log, and is deployed."""
    (folder / "train_and_deploy.py").write_text(f"print('the log of the job')\n{SERVED}{SAVE}")
    containers.put("s3://my_bucket/my_training_data/lines.txt")
    started = PyTorch(
        "train_and_deploy.py",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=1,
        framework_version="1.5.0",
        py_version="py3",
    )
    started.fit("s3://my_bucket/my_training_data/", wait=False, job_name="MyAwesomePyTorchTrainingJob")
    assert "the log of the job" not in capsys.readouterr().out
    my_training_job_name = "MyAwesomePyTorchTrainingJob"
    pytorch_estimator = PyTorch.attach(my_training_job_name)
    assert "the log of the job" in capsys.readouterr().out
    assert Session().describe_training_job(my_training_job_name)["TrainingJobStatus"] == "Completed"
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    assert np.allclose(predictor.predict(TWO), [[6.0]], atol=0.01)
    predictor.delete_endpoint()
    assert PyTorch.attach(my_training_job_name, sagemaker_session=Session()).model_data
