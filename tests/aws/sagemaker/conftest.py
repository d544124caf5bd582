from contextlib import suppress

import attrs
import pytest

from modelyard.core.carrier import PluginCarrier
from modelyard.core.manager import PluginManager
from modelyard.core.plans import (
    EndpointPlan,
    ModelSource,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
    unique_name,
)

ROLE = "SageMakerRole"


@pytest.fixture
def role(aws, double):
    """Return the name of a role that SageMaker may assume."""
    iam = double.client("iam")
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}", Path="/service-role/")
    return ROLE


@pytest.fixture(scope="session")
def served(tmp_path_factory, moto):
    """Return the server of the double, and a home: the same for all tests, so that clients are made once."""
    from tests.aws.sagemaker.double.wire import serving

    with serving() as server:
        yield server, tmp_path_factory.mktemp("home")


@pytest.fixture
def double(aws, served, monkeypatch):
    """Return the service double, which boto3 takes for SageMaker and CloudWatch Logs."""
    from tests.aws.sagemaker.double.service import Double

    server, home = served
    server.double = Double(aws)
    monkeypatch.setenv("HOME", str(home))
    # A word that no log has: the value of a secret is masked there.
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    for service in ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH_LOGS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
    yield server.double
    server.double.close()


@pytest.fixture
def backend(double, role):
    """Return the backend, which does not wait long between two questions."""
    return made()


def made(**options):
    from modelyard.plugins.backends.sagemaker.backend import SageMakerBackend

    return SageMakerBackend(**{"poll_seconds": 0.01, "stop_seconds": 20.0, "max_attempts": 3, **options})


@pytest.fixture
def job_plan(tmp_path):
    """Return what makes the plan of a job of one script."""

    def make(**changes):
        folder = tmp_path / "src"
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text("print('hello')\n")
        plan = TrainingPlan(
            job_name=unique_name("job"),
            source=SourceCode("train.py", str(folder)),
            backend=ProviderRef("sagemaker"),
            hardware=ProviderRef("cuda"),
            launcher=ProviderRef("process"),
            packager=ProviderRef("tarball"),
            resources=Resources("ml.g5.xlarge"),
            framework_version="2.5.1",
            role=ROLE,
        )
        return attrs.evolve(plan, **changes)

    return make


@pytest.fixture
def endpoint_plan(tmp_path):
    """Return what makes the plan of an endpoint of one script and a small model."""

    def make(**changes):
        code, model = tmp_path / "src", tmp_path / "model"
        code.mkdir(exist_ok=True)
        model.mkdir(exist_ok=True)
        (code / "inference.py").write_text("print('hello')\n")
        (model / "weights.txt").write_text("trained")
        plan = EndpointPlan(
            endpoint_name=unique_name("endpoint"),
            model=ModelSource(model.as_uri()),
            source=SourceCode("inference.py", str(code)),
            backend=ProviderRef("sagemaker"),
            hardware=ProviderRef("cpu"),
            packager=ProviderRef("tarball"),
            resources=Resources("ml.m5.xlarge"),
            framework_version="2.5.1",
            role=ROLE,
        )
        return attrs.evolve(plan, **changes)

    return make


@pytest.fixture
def carrier_of(tmp_path):
    """Return what makes the carrier of a plan."""

    def make(plan):
        def pack(carrier, into):
            if isinstance(plan, TrainingPlan):
                return carrier.packager.pack_source(plan.source, into)
            return carrier.packager.pack_model(tmp_path / "model", plan.source, into)

        return PluginCarrier.of(PluginManager.builtin(), plan.packager, pack)

    return make


@pytest.fixture
def submit(backend, carrier_of):
    """Return what submits a plan to the backend, or to one that is given."""
    return lambda plan, to=backend: to.submit(plan, carrier_of(plan))


@pytest.fixture
def deploy(backend, carrier_of):
    """Return what deploys a plan on the backend, or on one that is given."""
    return lambda plan, on=backend: on.deploy(plan, carrier_of(plan))


@pytest.fixture
def data_on_s3(s3, bucket):
    """Return a folder of a bucket, with the folders ``train`` and ``test`` in it."""
    for name in ("train", "test"):
        s3.put_object(Bucket=bucket, Key=f"data/{name}/a.csv", Body=b"1,2")
    return f"s3://{bucket}/data"
