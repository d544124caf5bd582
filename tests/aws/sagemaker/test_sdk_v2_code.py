"""What code for SDK v1 and v2 says to estimators, models and predictors arrives in SageMaker's requests."""

import warnings

import pytest
from tests.aws.sagemaker.conftest import ROLE
from tests.aws.sagemaker.double.players import comes_into_service, completes

from modelyard.core.plans import ProviderRef
from modelyard.estimator import Estimator, PyTorch
from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor
from modelyard.session import Session

JSON = "application/json"
QUICK = ProviderRef("sagemaker", {"poll_seconds": 0.01, "stop_seconds": 20.0})


@pytest.fixture
def estimator(double, role, tmp_path, plugins):
    """Make an estimator for the service, whose jobs complete."""
    double.plays, double.serves = completes, comes_into_service
    (tmp_path / "train.py").write_text("print('hello')")

    def make(**options):
        return PyTorch(
            tmp_path / "train.py",
            role=ROLE,
            framework_version="2.5.1",
            py_version="py311",
            plugins=plugins,
            backend=QUICK,
            **{"instance_type": "ml.g5.xlarge", **options},
        )

    return make


@pytest.mark.cuda
def test_the_names_of_v1_and_v2_arrive_in_the_request(estimator, plugins):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = estimator(
            train_volume_size=50,
            train_max_run=600,
            tags=[{"Key": "team", "Value": "vision"}],
            subnets=["subnet-1"],
            security_group_ids=["sg-1"],
            sagemaker_session=Session(default_bucket_prefix="below"),
        )
    made.fit(job_name="the-job", logs=False)
    said = Session().describe_training_job("the-job")
    assert said["ResourceConfig"]["VolumeSizeInGB"] == 50
    assert said["StoppingCondition"]["MaxRuntimeInSeconds"] == 600
    assert said["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert "/below/" in said["HyperParameters"]["sagemaker_submit_directory"]
    attached = PyTorch.attach("the-job", plugins=plugins)
    options = attached.plan().backend.options
    assert {name: options[name] for name in ("volume_size", "subnets", "security_group_ids")} == {
        "volume_size": 50,
        "subnets": ("subnet-1",),
        "security_group_ids": ("sg-1",),
    }
    assert attached.max_run == 600


def test_a_model_is_deployed_found_and_deleted(estimator, plugins, tmp_path):
    estimator()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("trained")
    model = PyTorchModel(
        tmp_path / "model",
        ROLE,
        tmp_path / "train.py",
        "2.5.1",
        "py311",
        model_server_workers=2,
        plugins=plugins,
    )
    predictor = model.deploy(
        1, "ml.m5.xlarge", backend=QUICK, endpoint_name="digits", tags={"team": "vision"}
    )
    assert predictor.name == "digits"
    found = Predictor("digits", Session(plugins=plugins))
    assert found.predict(b"[1]", {"ContentType": JSON, "Accept": JSON}) == [1]
    assert b"".join(found.predict_stream(b"[1]", {"Accept": JSON}, target_variant="AllTraffic")) == b"[1]"
    client = Session().sagemaker_client
    config = client.describe_endpoint_config(
        EndpointConfigName=client.describe_endpoint(EndpointName="digits")["EndpointConfigName"]
    )
    container = client.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])[
        "PrimaryContainer"
    ]
    assert container["Environment"]["SAGEMAKER_MODEL_SERVER_WORKERS"] == "2"
    Session().delete_endpoint("digits")
    assert client.list_endpoints()["Endpoints"] == []


def test_an_image_of_ones_own_is_trained_and_served(double, role, plugins, data_on_s3):
    """As the notebook that extends a container has it: the image has the script."""
    double.plays, double.serves = completes, comes_into_service
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/my-image:latest"
    hyperparameters = {"epochs": 1, "name": "adam"}
    made = Estimator(
        image, ROLE, 1, "ml.m4.xlarge", hyperparameters=hyperparameters, backend=QUICK, plugins=plugins
    )
    made.fit(data_on_s3, job_name="by-image", logs=False)
    said = Session().describe_training_job("by-image")
    assert said["AlgorithmSpecification"]["TrainingImage"] == image
    assert said["HyperParameters"] == {"epochs": "1", "name": "adam"}
    attached = Estimator.attach("by-image", plugins=plugins)
    assert attached.image_uri == image


@pytest.mark.cuda
def test_what_is_switched_off_is_not_asked_for(estimator):
    estimator(debugger_hook_config=False).fit(job_name="undebugged", logs=False)
    assert "DebugHookConfig" not in Session().describe_training_job("undebugged")
