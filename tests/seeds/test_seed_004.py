"""Notes of SDK v2's page "Deploy PyTorch Models", block by block.

They leave undefined: the role (the estimator names none: that of the notebook is used), the data of
``predict``, ``Your_Model``, and the import of ``PyTorch``. Definitions without a colon and a body show
signatures alone; they are given bodies here.
"""

import io
import json

import numpy as np
import pytest
from tests.seeds.seed_support import (
    MODEL,
    PICKLED_INPUT,
    PREDICT_FN,
    PREDICT_FN_FOR_GPUS,
    SAVE,
    archive,
    check_pickled_input,
    weights,
)
from tests.seeds.seed_support import MODEL_FN_WITH_CONTEXT as MODEL_FN

from modelyard import Session
from modelyard.pytorch import PyTorch, PyTorchModel

pytestmark = pytest.mark.torch

SERVED = MODEL + MODEL_FN


@pytest.mark.cuda
def test_train_and_deploy_my_estimator(containers, folder):
    """`deploy` returns a predictor: an array goes in and one comes out; the archive has the script."""
    (folder / "train_and_deploy.py").write_text(SERVED + SAVE)
    containers.put("s3://my_bucket/my_training_data/lines.txt")
    pytorch_estimator = PyTorch(
        entry_point="train_and_deploy.py",
        instance_type="ml.p3.2xlarge",
        instance_count=1,
        framework_version="1.8.0",
        py_version="py3",
    )
    pytorch_estimator.fit("s3://my_bucket/my_training_data/")
    predictor = pytorch_estimator.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    data = np.array([[1.0], [2.0]], dtype=np.float32)
    response = predictor.predict(data)
    assert isinstance(response, np.ndarray)
    assert np.allclose(response, [[3.0], [6.0]], atol=0.01)
    container = Session().sagemaker_client.describe_model(ModelName=predictor.name)["PrimaryContainer"]
    assert sorted(containers.files(container["ModelDataUrl"])) == ["code/train_and_deploy.py", "model.pth"]
    predictor.delete_endpoint()
    assert (containers.double.endpoints, containers.double.configs) == ({}, {})


def test_predict_takes_python_lists_too(serve):
    predictor = serve(SERVED, {"model.pth": weights()})
    data = [[1.0], [2.0]]
    response = predictor.predict(data)
    assert isinstance(response, np.ndarray)
    assert response.tolist() == [[3.0], [6.0]]


def test_model_directory_structure(account, folder):
    """From version 1.2 on a model of one's own is packed anew, with the script and its requirements."""
    content = archive(folder / "model.tar.gz", {"model.pth": weights()}).read_bytes()
    account.put("s3://my_bucket/model.tar.gz", content)
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(SERVED)
    (folder / "code" / "requirements.txt").write_text("six\n")
    pytorch_model = PyTorchModel(
        model_data="s3://my_bucket/model.tar.gz",
        entry_point="inference.py",
        source_dir="code",
        framework_version="1.8.0",
        py_version="py3",
    )
    predictor = pytorch_model.deploy(instance_type="ml.m4.xlarge", initial_instance_count=1)
    container = Session().sagemaker_client.describe_model(ModelName=predictor.name)["PrimaryContainer"]
    assert sorted(account.files(container["ModelDataUrl"])) == [
        "code/inference.py",
        "code/requirements.txt",
        "model.pth",
    ]


# -- the model server ----------------------------------------------------------------------------

CHAIN = """
import json

def what_it_knows(context):
    return sorted({"gpu_id", "batch_size"} & set(context.system_properties))

def model_fn(model_dir, context):
    return ["model_fn", sorted(os.listdir(model_dir)), what_it_knows(context)]

def input_fn(request_body, request_content_type, context):
    assert isinstance(request_body, (bytes, bytearray))
    return ["input_fn", bytes(request_body).decode(), request_content_type, what_it_knows(context)]

def predict_fn(input_object, model, context):
    return [model, input_object, ["predict_fn", what_it_knows(context)]]

def output_fn(prediction, content_type, context):
    return json.dumps([*prediction, ["output_fn", content_type, what_it_knows(context)]]).encode()
"""


def test_every_function_may_ask_for_the_context(serve):
    """``model_fn``, and the chain of ``input_fn``, ``predict_fn`` and ``output_fn``."""
    predictor = serve(MODEL + CHAIN, {"model.pth": weights()})
    knows = ["batch_size", "gpu_id"]
    answer = predictor.predict(
        b"in", initial_args={"ContentType": "text/x-own", "Accept": "application/json"}
    )
    (called, files, known), *steps = answer
    assert (called, known) == ("model_fn", knows)
    assert "model.pth" in files
    assert steps == [
        ["input_fn", "in", "text/x-own", knows],
        ["predict_fn", knows],
        ["output_fn", "application/json", knows],
    ]


@pytest.mark.parametrize("predict_fn", [PREDICT_FN, PREDICT_FN_FOR_GPUS], ids=["one_device", "several_gpus"])
def test_a_pickled_tensor_is_read_by_input_fn_and_predicted_by_predict_fn(serve, predict_fn):
    check_pickled_input(serve, SERVED + PICKLED_INPUT + predict_fn)


def npy(array):
    body = io.BytesIO()
    np.save(body, array)
    return body.getvalue()


SENT = {
    "application/json": b"[[1.0], [2.0]]",
    "text/csv": b"1.0\n2.0\n",
    "application/x-npy": npy(np.array([[1.0], [2.0]], dtype=np.float32)),
}
READ = {
    "application/json": json.loads,
    "text/csv": lambda body: [[float(line)] for line in body.decode().split()],
    "application/x-npy": lambda body: np.load(io.BytesIO(body)).tolist(),
}


def test_the_default_functions_take_and_give_json_csv_and_npy(serve):
    """What is not defined is the server's own: tensors in, the model called, tensors out."""
    predictor = serve(SERVED, {"model.pth": weights()})
    for content_type, body in SENT.items():
        for accept, read in READ.items():
            answer = predictor.handle.invoke(body, content_type=content_type, accept=accept)
            assert read(answer.body) == [[3.0], [6.0]]
            assert answer.content_type.partition(";")[0] == accept
