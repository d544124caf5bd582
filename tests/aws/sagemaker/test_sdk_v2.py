"""The double is accepted by a client that is not ours: the SageMaker Python SDK, version 2.

``MODELYARD_SDK_V2_PYTHON`` names a Python that has ``sagemaker==2.257.7``, in an environment of its own.
"""

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.aws.sagemaker.double.players import comes_into_service

PYTHON = os.environ.get("MODELYARD_SDK_V2_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="MODELYARD_SDK_V2_PYTHON is not set")
QUIET = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}, "SchemaVersion": "1.0"}


def _trains(job):
    if job.request["ResourceConfig"]["InstanceCount"] == 1:
        return  # The job that is to be stopped.
    job.to("Training")
    job.log("hello from algo-1", host="algo-1")
    job.log("hello from algo-2", host="algo-2")
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz"):
        pass
    job.complete(body.getvalue())


TRAINING = {
    "role": "arn:aws:iam::123456789012:role/service-role/SageMakerRole",
    "framework_version": "2.3.0",
    "py_version": "py311",
}
OF_ITS_OWN = {"TrainingJobName", "DebugHookConfig", "ProfilerConfig", "ProfilerRuleConfigurations"}
"""Of SDK v2's request: the name, and what it switches on that nobody asked for."""


def _ours(tmp_path, bucket):
    """Have modelyard do what sdk_v2.py does, in the same words."""
    from modelyard import PyTorch, PyTorchModel

    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train.py").write_text("print('hello')\n")
    (tmp_path / "theirs" / "inference.py").write_text("def model_fn(model_dir): ...\n")
    estimator = PyTorch(
        entry_point="train.py",
        source_dir=str(tmp_path / "theirs"),
        instance_type="ml.g4dn.xlarge",
        instance_count=2,
        distribution={"torch_distributed": {"enabled": True}},
        hyperparameters={"epochs": 3, "name": "adam"},
        max_run=3600,
        use_spot_instances=True,
        max_wait=7200,
        tags=[{"Key": "team", "Value": "vision"}],
        default_bucket=bucket,
        poll_seconds=0.02,
        **TRAINING,
    )
    estimator.fit({"train": f"s3://{bucket}/data"})
    model = PyTorchModel(
        model_data=estimator.model_data,
        entry_point="inference.py",
        source_dir=str(tmp_path / "theirs"),
        default_bucket=bucket,
        poll_seconds=0.02,
        **TRAINING,
    )
    model.deploy(initial_instance_count=1, instance_type="ml.m5.xlarge").delete_endpoint()


def _without(request, *paths):
    """Return a request without what differs from one job to the next."""
    request = json.loads(json.dumps(request))
    for path in paths:
        *above, last = path.split(".")
        inside = request
        for key in above:
            inside = inside[int(key) if key.isdigit() else key]
        inside.pop(last, None)
    return request


@pytest.mark.timeout(300)
def test_sdk_v2_trains_deploys_asks_updates_and_deletes(double, role, bucket, tmp_path):
    double.plays, double.serves = _trains, comes_into_service
    (tmp_path / "config.yaml").write_text(json.dumps(QUIET))
    ended = subprocess.run(
        [PYTHON, "-W", "ignore", str(Path(__file__).with_name("sdk_v2.py")), bucket, str(tmp_path)],
        env={
            **os.environ,
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(tmp_path / "config.yaml"),
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(tmp_path / "config.yaml"),
            "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    theirs = {
        name: double.asked(name)[0] for name in ("CreateTrainingJob", "CreateModel", "CreateEndpointConfig")
    }
    said = ended.stdout
    for line in (
        "hello from algo-1",
        "hello from algo-2",
        "attached 3 True",
        "answer [[1.0, 2.0]]",
        "stopped Stopping",
        "twice ResourceInUse",
    ):
        assert line in said, said
    assert double.endpoints == {}
    double.requests.clear()
    _ours(tmp_path, bucket)
    _the_same(theirs, double)


def _the_same(theirs, double):
    named = (
        "HyperParameters.sagemaker_submit_directory",
        "HyperParameters.sagemaker_job_name",
        *OF_ITS_OWN,
    )
    [job] = double.asked("CreateTrainingJob")
    assert _without(job, *named) == _without(theirs["CreateTrainingJob"], *named)
    named = ("ModelName", "PrimaryContainer.ModelDataUrl")
    [model] = double.asked("CreateModel")
    assert _without(model, *named) == _without(theirs["CreateModel"], *named)
    # Said by us: how long the model may take to load.
    patience = "ProductionVariants.0.ContainerStartupHealthCheckTimeoutInSeconds"
    named = ("EndpointConfigName", "ProductionVariants.0.ModelName", patience)
    [config] = double.asked("CreateEndpointConfig")
    assert _without(config, *named) == _without(theirs["CreateEndpointConfig"], *named)


LOOK = """
import json, sys
from sagemaker import image_uris

def find(version, python, scope, region, kind):
    try:
        return image_uris.retrieve("pytorch", region, version, python, kind, image_scope=scope)
    except ValueError as error:
        return None

print(json.dumps([find(*asked) for asked in json.load(sys.stdin)]))
"""


def test_the_images_are_those_of_sdk_v2():
    from modelyard.plugins.backends.sagemaker import images

    regions = [*images._ACCOUNTS, "us-east-1", "eu-west-1"]
    asked = [
        (version, python, scope, region, kind)
        for version, pythons in images.VERSIONS.items()
        for python in pythons
        for scope in ("training", "inference")
        for region in (regions if version == "2.5.1" else ["us-east-1"])
        for kind in ("ml.g4dn.xlarge", "ml.m5.xlarge")
        if scope == "training" or version not in images.TRAINING_ONLY
    ]
    ended = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", LOOK],
        input=json.dumps(asked),
        env={**os.environ, "SAGEMAKER_SUPPRESS_V2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    look_up = {"training": images.training_image, "inference": images.inference_image}
    ours = [look_up[scope](version, python, kind, region) for version, python, scope, region, kind in asked]
    theirs = json.loads(ended.stdout.splitlines()[-1])
    assert [(a, o, t) for a, o, t in zip(asked, ours, theirs, strict=True) if o != t] == []
