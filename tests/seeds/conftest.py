"""The surroundings in which the documentation's code runs: an account of AWS, and this machine."""

from pathlib import Path

import pytest
from tests.aws.sagemaker.conftest import ROLE, double, role, served
from tests.aws.sagemaker.double.containers import Containers
from tests.aws.sagemaker.double.players import comes_into_service, completes
from tests.aws.services import aws, moto, s3, surroundings

from modelyard.pytorch import PyTorchModel

pytest.register_assert_rewrite("tests.seeds.seed_support")

from tests.seeds.seed_support import archive, files_of  # noqa: E402 - its assertions are pytest's

__all__ = ["aws", "double", "moto", "role", "s3", "served", "surroundings"]


class Account:
    """An account of AWS, with its SageMaker and its S3: what is there, and what it was asked."""

    def __init__(self, double, s3):
        self.double = double
        self._s3 = s3

    def put(self, uri, body=b"1\n2\n3\n"):
        """Write an object into a bucket, which is made if it is not there."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self._s3.create_bucket(Bucket=bucket)
        self._s3.put_object(Bucket=bucket, Key=key, Body=body)

    def asked(self, operation):
        """Return what an operation was asked for last."""
        return self.double.asked(operation)[-1]

    def files(self, uri):
        """Return the files of an archive on S3 by their names."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return files_of(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Be in a new folder, where the scripts of the documentation are."""
    made = tmp_path / "project"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def home(folder, modelyard_home, plugins):
    """Be in the folder of the scripts, with the built-in plugins and a home of its own."""
    return folder


@pytest.fixture
def notebook(double, role, aws, monkeypatch):
    """Be on a notebook instance of SageMaker, where code runs with the role SageMakerRole."""
    from botocore.session import Session

    sts = Session().create_client("sts", endpoint_url=aws)
    arn = f"arn:aws:iam::123456789012:role/service-role/{ROLE}"
    assumed = sts.assume_role(RoleArn=arn, RoleSessionName="notebook")["Credentials"]
    for variable, part in {
        "AWS_ACCESS_KEY_ID": "AccessKeyId",
        "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
        "AWS_SESSION_TOKEN": "SessionToken",
    }.items():
        monkeypatch.setenv(variable, assumed[part])


@pytest.fixture
def account(notebook, double, s3, home, monkeypatch):
    """Return the account of the notebook instance, whose jobs complete."""
    from modelyard.plugins.backends.sagemaker.watching import Pause, Watch

    # This service may be asked more often than AWS's.
    for asking in (Pause, Watch):
        monkeypatch.setattr(asking, "__init__", _quick(asking.__init__))
    double.plays, double.serves = completes, comes_into_service
    return Account(double, s3)


class OlderContainers(Containers):
    """Containers that bring the code beside the model themselves, as AWS's images up to 1.1 do."""

    def _unpack(self, uri, base):
        super()._unpack(uri, base)
        models = (model["PrimaryContainer"] for model in self._double.models.values())
        variables = next(model["Environment"] for model in models if model["ModelDataUrl"] == uri)
        source = variables.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        if source.startswith("s3://"):
            bucket, _, key = source.removeprefix("s3://").partition("/")
            body = self._double.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            for name, content in files_of(body).items():
                file = base / "model" / "code" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


@pytest.fixture
def containers(account):
    """Be in an account whose jobs and endpoints run the scripts that they are given."""
    running = OlderContainers(account.double)
    account.double.plays, account.double.serves = running.train, running.serve
    return account


@pytest.fixture
def machine(home, monkeypatch):
    """Be in the folder of the scripts, where jobs and endpoints of this machine are at home."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (home / "data").mkdir()
    (home / "data" / "lines.txt").write_text("1\n2\n3\n")
    return home


@pytest.fixture
def serve(machine):
    """Serve a script and the files of a model on this machine; return the predictor."""

    def deploy(script, files=None, accelerator_type=None, **options):
        name = options.pop("entry_point", "transform_script.py")
        Path(name).write_text(script)
        archive(machine / "model.tar.gz", files or {})
        model = PyTorchModel(
            model_data=str(machine / "model.tar.gz"), role="SageMakerRole", entry_point=name, **options
        )
        return model.deploy(
            instance_type="local", initial_instance_count=1, accelerator_type=accelerator_type
        )

    return deploy


def _quick(init):
    def quicker(self, *arguments):
        init(self, *arguments[:-1], 0.02)

    return quicker
