"""Jobs and endpoints of this machine with their data, and their results, on a real S3 server."""

import io
import json
import tarfile

import pytest
from tests.aws import proxy as fault

from modelyard import PyTorch, PyTorchModel
from modelyard.core.errors import JobFailedError, StorageError
from modelyard.testing.trees import names_in, write_tree

TRAIN = """
import json, os

def numbers():
    channel = os.environ["SM_CHANNEL_TRAIN"]
    if not os.path.isdir(channel):
        with open(channel + "_0") as pipe:
            return pipe.read().split()
    found = []
    for folder, _, names in sorted(os.walk(channel)):
        for name in sorted(names):
            with open(os.path.join(folder, name)) as file:
                found += file.read().split()
    return found

with open(os.path.join(os.environ["SM_MODEL_DIR"], "weights.json"), "w") as file:
    json.dump({"factor": sum(map(float, numbers()))}, file)
"""

INFERENCE = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "weights.json")) as file:
        return json.load(file)["factor"]

def predict_fn(values, model):
    return [value * model for value in values]
"""


@pytest.fixture
def source(tmp_path):
    return write_tree(tmp_path / "src", {"train.py": TRAIN.encode(), "inference.py": INFERENCE.encode()})


@pytest.fixture
def data(s3, bucket):
    """Return the URI of a folder of numbers, whose sum is 6."""
    for key, body in {
        "data/": b"",
        "data/a.txt": b"1\n2\n",
        "data/deep/b.txt": b"3\n",
        "database": b"9",
    }.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/data"


def factor(s3, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return json.load(archive.extractfile("weights.json"))["factor"]


@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe"])
def test_a_job_reads_from_s3_and_writes_its_model_there(plugins, modelyard_home, source, data, s3, mode):
    output = data.replace("/data", "/jobs")
    estimator = PyTorch(
        "train.py", source_dir=source, output_path=f"{output}/", input_mode=mode, plugins=plugins
    )
    estimator.fit({"train": data}, job_name="on-s3")
    assert estimator.model_data == f"{output}/on-s3/output/model.tar.gz"
    assert factor(s3, estimator.model_data) == 6


def test_an_endpoint_serves_a_model_on_s3(plugins, modelyard_home, source, data, bucket):
    estimator = PyTorch("train.py", source_dir=source, output_path=f"s3://{bucket}/jobs", plugins=plugins)
    estimator.fit(f"{data}/a.txt")
    model = PyTorchModel(
        model_data=estimator.model_data, entry_point="inference.py", source_dir=source, plugins=plugins
    )
    predictor = model.deploy(1, "local")
    try:
        assert list(predictor.predict([1.0, 2.0])) == [3.0, 6.0]
    finally:
        predictor.delete_endpoint()


def test_a_channel_with_nothing_in_it_leaves_no_job(plugins, modelyard_home, source, data):
    with pytest.raises(StorageError, match=r"no 'dato' in .*; did you mean 'data'\?"):
        PyTorch("train.py", source_dir=source, plugins=plugins).fit(f"{data[:-1]}o")
    assert names_in(modelyard_home / "jobs") == []


def test_an_output_path_that_cannot_be_written_is_known_before_the_job(
    plugins, modelyard_home, source, data, bucket
):
    estimator = PyTorch("train.py", source_dir=source, output_path=f"s3://{bucket}-x/jobs", plugins=plugins)
    with pytest.raises(StorageError, match=f"there is no bucket '{bucket}-x'; did you mean '{bucket}'"):
        estimator.fit(data)
    assert names_in(modelyard_home / "jobs") == []


def test_a_job_whose_model_cannot_be_delivered_says_why(plugins, modelyard_home, source, data, bucket, proxy):
    proxy.when(
        lambda seen: seen.path.endswith("model.tar.gz") and seen.method == "PUT",
        fault.refused(400, "ExpiredToken", "The provided token has expired."),
    )
    estimator = PyTorch("train.py", source_dir=source, output_path=f"s3://{bucket}/jobs", plugins=plugins)
    with pytest.raises(
        JobFailedError, match="cannot be delivered.*the credentials have expired: get new ones"
    ):
        estimator.fit(data)
