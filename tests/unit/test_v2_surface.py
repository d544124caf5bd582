"""What code for SDK v1 and v2 says to estimators, models and predictors, and what becomes of it."""

import re
import warnings
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from modelyard.core.contracts import EndpointDescription, Invocation, JobDescription
from modelyard.core.errors import InvalidPlanError, JobNotFoundError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import (
    EndpointPlan,
    EndpointStatus,
    JobStatus,
    ProviderRef,
    SourceCode,
    TrainingPlan,
)
from modelyard.deserializers import JSONDeserializer
from modelyard.estimator import Estimator, PyTorch
from modelyard.local import LocalSession
from modelyard.model import Model, PyTorchModel
from modelyard.predictor import Predictor
from modelyard.serializers import JSONSerializer
from modelyard.session import Session

JSON = "application/json"


@attrs.frozen
class Job:
    """A job that has completed."""

    plan: TrainingPlan

    @property
    def name(self):
        return self.plan.job_name

    def describe(self):
        saved = TrainingPlan.from_json(self.plan.redacted().to_json())
        return JobDescription(
            self.name, JobStatus.COMPLETED, saved, "", "file:///model.tar.gz", "file:///source.tar.gz"
        )

    def logs(self, *, follow=False):
        yield "a line"


@attrs.frozen
class Endpoint:
    """An endpoint in service, that answers what it is sent."""

    plan: EndpointPlan
    live: list

    @property
    def name(self):
        return self.plan.endpoint_name

    def describe(self):
        return EndpointDescription(self.name, EndpointStatus.IN_SERVICE, self.plan)

    def invoke(self, body, *, content_type, accept, arguments=None):
        return Invocation(body, content_type)

    def delete(self):
        self.live.remove(self)


@pytest.fixture
def cloud(plugins):
    """A backend ``cloud`` for ``cloud.*`` with options such as SageMaker's; it keeps what it is given."""
    seen = SimpleNamespace(jobs={}, deployed=[], plugins=plugins)

    @attrs.frozen
    class CloudBackend:
        name = "cloud"
        instance_types = ("cloud.*",)

        image_uri: str | None = None
        region: str | None = None
        default_bucket: str | None = None
        volume_size: int = 30
        subnets: tuple = ()
        security_group_ids: tuple = ()
        tags: tuple = ()
        code_location: str | None = None
        kms_key: str | None = None
        experiment_config: dict | None = None
        strategy: str | None = None

        def submit(self, plan, carrier, *, attached=True):
            return seen.jobs.setdefault(plan.job_name, Job(plan))

        def deploy(self, plan, carrier):
            seen.deployed.append(Endpoint(plan, seen.deployed))
            return seen.deployed[-1]

        def job(self, name):
            if name not in seen.jobs:
                raise JobNotFoundError(f"no job {name!r} in the cloud")
            return seen.jobs[name]

        def endpoint(self, name):
            return next(endpoint for endpoint in seen.deployed if endpoint.name == name)

    hooks = SimpleNamespace(modelyard_register_backends=hookimpl(lambda: [CloudBackend]))
    plugins.register(hooks, "cloud-plugin")
    return seen


@pytest.fixture
def estimator(cloud):
    """Make an estimator for the cloud, on this machine's hardware."""

    def make(**options):
        options = {"entry_point": "train.py", "instance_type": "cloud.large", "hardware": "cpu", **options}
        return PyTorch(plugins=cloud.plugins, **options)

    return make


@pytest.fixture
def scripts(tmp_path):
    """A folder with a script that trains a number, and serves it."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "train.py").write_text(
        """
import argparse, os, pathlib

def model_fn(model_dir):
    factor = float(pathlib.Path(model_dir, "factor").read_text())
    return lambda array: array * factor

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--factor", default="2")
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    args, _ = parser.parse_known_args()
    print("trained with", args.factor, sorted(os.listdir(args.train)) if args.train else "")
    pathlib.Path(os.environ["SM_MODEL_DIR"], "factor").write_text(args.factor)
"""
    )
    return folder


# -- keywords that are the backend's ------------------------------------------------------------


def test_keywords_of_the_backend_are_options_of_the_plans_backend(estimator):
    made = estimator(
        volume_size=50, subnets=["a"], security_group_ids=["b"], tags=[{"Key": "k", "Value": "v"}]
    )
    plan = made.plan()
    assert plan.backend.options == {
        "volume_size": 50,
        "subnets": ("a",),
        "security_group_ids": ("b",),
        "tags": ({"Key": "k", "Value": "v"},),
    }
    assert TrainingPlan.from_json(plan.to_json()) == plan
    assert "volume_size=50" in str(plan)


def test_they_survive_attach(estimator, cloud):
    estimator(volume_size=50, tags=[{"Key": "k", "Value": "v"}]).fit(job_name="one", logs=False)
    attached = PyTorch.attach("one", plugins=cloud.plugins)
    assert attached.plan().backend == cloud.jobs["one"].plan.backend
    again = PyTorch.attach("one", backend=ProviderRef("cloud", {"region": "there"}), plugins=cloud.plugins)
    assert again.plan().backend.options == {**attached.plan().backend.options, "region": "there"}


def test_they_do_not_hinder_a_job_of_this_machine_and_are_noted(cloud, scripts, modelyard_home, capsys):
    made = PyTorch(
        "train.py", source_dir=scripts, volume_size=50, kms_key="k", tags=[], plugins=cloud.plugins
    )
    made.fit()
    shown = capsys.readouterr().out
    noted = re.findall("note: .*", shown)
    assert len(noted) == 1
    assert noted[0].startswith(
        "note: the backend 'local' has no use for volume_size, kms_key (they are for 'cloud'"
    )
    assert "trained with 2" in shown
    made.fit(logs=False)
    assert "note" not in capsys.readouterr().out


def test_a_typo_is_a_typo_wherever_it_is(estimator):
    with pytest.raises(
        TypeError, match=r"^PyTorch\(\) has no keyword 'volume_sise'; did you mean 'volume_size'"
    ):
        estimator(volume_sise=50)
    made = estimator()
    with pytest.raises(TypeError, match=r"^PyTorch.fit\(\) has no keyword 'experiment_confg'"):
        made.fit(experiment_confg={})
    made.fit(logs=False)
    with pytest.raises(
        TypeError, match=r"^PyTorch.deploy\(\) has no keyword 'kms_kee'; did you mean 'kms_key'"
    ):
        made.deploy(kms_kee="x")
    with pytest.raises(TypeError, match=r"^PyTorch.create_model\(\) has no keyword 'sources_dir'"):
        made.create_model(sources_dir="x")
    with pytest.raises(TypeError, match=r"^Model\(\) has no keyword 'subnts'; did you mean 'subnets'"):
        Model("/m", subnts=[])


def test_one_fit_may_say_more(estimator, cloud):
    made = estimator(volume_size=50)
    made.fit(job_name="one", experiment_config={"ExperimentName": "x"}, logs=False)
    assert cloud.jobs["one"].plan.backend.options == {
        "volume_size": 50,
        "experiment_config": {"ExperimentName": "x"},
    }
    assert made.plan().backend.options == {"volume_size": 50}


def test_the_distribution_is_told_to_a_backend_that_asks(estimator):
    def options(distribution):
        return estimator(distribution=distribution).plan().backend.options

    assert options({"pytorchddp": {"enabled": True}}) == {"strategy": "pytorchddp"}
    assert options({"smdistributed": {"dataparallel": {"enabled": True}}}) == {
        "strategy": "smdistributed.dataparallel"
    }
    assert options({"mpi": {"enabled": False}}) == options(None) == {}


# -- images ------------------------------------------------------------------------------------


def test_an_image_alone_runs_where_images_run(cloud):
    made = Estimator("image:1", "role", 2, "cloud.large", hardware="cpu", plugins=cloud.plugins)
    plan = made.plan()
    assert (plan.source, plan.role, plan.backend.options) == (None, "role", {"image_uri": "image:1"})
    assert (made.image_uri, made.entry_point, made.source_dir) == ("image:1", None, None)
    assert (made.instance_type, made.instance_count) == ("cloud.large", 2)
    assert repr(made).startswith("Estimator('image:1', ")


def test_its_model_is_served_by_the_same_image(cloud):
    made = Estimator("image:1", instance_type="cloud.large", hardware="cpu", plugins=cloud.plugins)
    made.fit(job_name="one", logs=False)
    made.deploy(1, "cloud.small", hardware="cpu")
    (endpoint,) = cloud.deployed
    assert endpoint.plan.source is None
    assert endpoint.plan.backend.options == {"image_uri": "image:1"}
    attached = Estimator.attach("one", plugins=cloud.plugins)
    assert (attached.image_uri, attached.entry_point) == ("image:1", None)
    assert attached.plan().backend.options == {"image_uri": "image:1"}
    attached.deploy(1, "cloud.small", hardware="cpu")
    assert cloud.deployed[-1].plan.backend.options == {"image_uri": "image:1"}


def test_an_image_is_not_run_by_this_machine(plugins):
    with pytest.raises(
        InvalidPlanError, match="the backend 'local' runs no images: give entry_point, or in env"
    ):
        Estimator("image:1", plugins=plugins).plan()
    with pytest.raises(InvalidPlanError, match="there is no script to run; give entry_point, or"):
        PyTorch(plugins=plugins).plan()


def test_the_variables_of_its_dockerfile_name_the_script(
    plugins, scripts, modelyard_home, monkeypatch, capsys
):
    said = {"SAGEMAKER_PROGRAM": "train.py", "SAGEMAKER_SUBMIT_DIRECTORY": str(scripts)}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    made = Estimator("image:1", hyperparameters={"factor": 3}, plugins=plugins)
    assert made.plan().source == SourceCode("train.py", str(scripts))
    made.fit()
    assert "trained with 3" in capsys.readouterr().out
    assert made.create_model().source == SourceCode("train.py", str(scripts))
    monkeypatch.delenv("SAGEMAKER_PROGRAM")
    assert Estimator("image:1", environment=said, plugins=plugins).plan().source.program == "train.py"


def test_a_script_where_an_image_belongs_is_an_error_that_helps(plugins):
    with pytest.raises(InvalidPlanError, match=re.escape("use PyTorch('train.py')")):
        Estimator("train.py", plugins=plugins)


def test_source_without_a_script_is_an_error(plugins):
    with pytest.raises(InvalidPlanError, match="belong to a training script: give entry_point"):
        Estimator("image:1", source_dir="src", plugins=plugins)


# -- models and endpoints ----------------------------------------------------------------------


def test_an_endpoint_gets_what_it_needs_of_the_jobs_options(estimator, cloud):
    made = estimator(
        volume_size=50,
        subnets=["a"],
        security_group_ids=["b"],
        tags=[{"Key": "k", "Value": "v"}],
        code_location="s3://bucket/code",
    )
    made.fit(logs=False)
    predictor = made.deploy(1, "cloud.small", hardware="cpu", kms_key="key")
    (endpoint,) = cloud.deployed
    assert endpoint.plan.backend.options == {
        "subnets": ("a",),
        "security_group_ids": ("b",),
        "tags": ({"Key": "k", "Value": "v"},),
        "code_location": "s3://bucket/code",
        "kms_key": "key",
    }
    assert EndpointPlan.from_json(endpoint.plan.to_json()) == endpoint.plan
    assert predictor.predict([1, 2], content_type=JSON) == [1, 2]
    made.delete_endpoint()
    assert not cloud.deployed
    with pytest.raises(InvalidPlanError, match="no endpoint: call deploy"):
        made.delete_endpoint()


def test_a_network_of_its_own(estimator, cloud):
    made = estimator(subnets=["a"], security_group_ids=["b"])
    made.fit(logs=False)
    network = {"Subnets": ["c"], "SecurityGroupIds": ["d"]}
    made.deploy(1, "cloud.small", hardware="cpu", vpc_config=network)
    assert cloud.deployed[0].plan.backend.options == {"subnets": ("c",), "security_group_ids": ("d",)}
    with pytest.raises(InvalidPlanError, match='vpc_config is {"Subnets"'):
        Model("/m", vpc_config={"Subnets": []}, plugins=cloud.plugins)


def test_workers_and_the_log_level_are_variables_of_the_endpoint(cloud):
    model = PyTorchModel("/m", model_server_workers=2, container_log_level=10, plugins=cloud.plugins)
    assert model.plan().environment == {
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "10",
    }
    same = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    assert Model("/m", env=same, model_server_workers=2, plugins=cloud.plugins).env == same
    with pytest.raises(
        InvalidPlanError, match="env says SAGEMAKER_MODEL_SERVER_WORKERS='2', and its keyword 3"
    ):
        Model("/m", env=same, model_server_workers=3, plugins=cloud.plugins)
    with pytest.raises(InvalidPlanError, match="SAGEMAKER_MODEL_SERVER_WORKERS is a whole number, not '2'"):
        Model("/m", model_server_workers="2", plugins=cloud.plugins)


def test_positions_are_those_of_sdk_v2(cloud):
    made = PyTorch("train.py", "2.6", "py311", "src", {"epochs": 1}, "image:1", plugins=cloud.plugins)
    assert (made.framework_version, made.py_version, made.source_dir) == ("2.6", "py311", "src")
    assert (made.hyperparameters(), made.image_uri) == ({"epochs": 1}, "image:1")
    model = PyTorchModel("/m", "role", "inference.py", "2.6", "py311", "image:1", plugins=cloud.plugins)
    assert (model.role, model.source.entry_point, model.framework_version) == ("role", "inference.py", "2.6")
    with pytest.raises(InvalidPlanError, match="model_data comes first, then role"):
        Model("image:1", "s3://bucket/model.tar.gz", plugins=cloud.plugins)


class Scores(Predictor):
    """As SDK v2's documentation has one make a predictor of one's own."""

    def __init__(self, endpoint_name, sagemaker_session):
        super().__init__(endpoint_name, sagemaker_session, JSONSerializer(), JSONDeserializer())


def test_predictor_cls_makes_the_predictor(cloud):
    def deploy(predictor_cls):
        model = Model("/m", predictor_cls=predictor_cls, plugins=cloud.plugins)
        return model.deploy(1, "cloud.small", hardware="cpu", endpoint_name=f"digits-{len(cloud.deployed)}")

    scores = deploy(Scores)
    assert type(scores) is Scores
    assert scores.predict({"a": [1]}) == {"a": [1]}
    assert scores.handle is cloud.deployed[0]
    assert deploy(lambda name: f"made for {name}") == "made for digits-1"
    assert deploy(lambda name, session: (name, session.backend.name)) == ("digits-2", "cloud")


def test_deploy_sets_the_serializer_and_the_deserializer(estimator, cloud):
    made = estimator()
    made.fit(logs=False)
    serializer, deserializer = JSONSerializer(), JSONDeserializer()
    predictor = made.deploy(1, "cloud.small", serializer, deserializer, hardware="cpu")
    assert (predictor.serializer, predictor.deserializer) == (serializer, deserializer)
    assert (predictor.content_type, predictor.accept) == (JSON, JSON)


# -- sessions ----------------------------------------------------------------------------------


def test_a_local_session_means_this_machine_whatever_the_instance_type(cloud):
    session = LocalSession(plugins=cloud.plugins)
    session.config = {"local": {"local_code": True}}
    made = PyTorch("train.py", instance_type="cloud.large", hardware="cpu", sagemaker_session=session)
    assert made.plan().backend.name == "local"
    assert made.plugins is cloud.plugins
    model = Model("/m", sagemaker_session=session)
    assert model.plan(1, "cloud.small", hardware="cpu").backend.name == "local"
    assert model.plan(1, "cloud.small", hardware="cpu", backend="cloud").backend.name == "cloud"


def test_a_session_gives_its_bucket_and_leaves_the_choice_to_the_instance_type(cloud):
    session = Session(default_bucket="mine", plugins=cloud.plugins)
    made = PyTorch("train.py", instance_type="cloud.large", hardware="cpu", sagemaker_session=session)
    assert made.plan().backend.options == {"default_bucket": "mine"}
    here = PyTorch("train.py", sagemaker_session=session)
    assert here.plan().backend == ProviderRef(
        "local", {}, "modelyard", cloud.plugins.backends.get("local").version
    )


def test_attach_by_a_session_looks_there_only(cloud, estimator, modelyard_home):
    estimator().fit(job_name="one", logs=False)
    with pytest.raises(JobNotFoundError, match="no training job is called 'one' in "):
        PyTorch.attach("one", LocalSession(plugins=cloud.plugins))
    assert PyTorch.attach("one", plugins=cloud.plugins).latest_training_job.name == "one"


# -- seeds in one go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logs", "shown"), [(True, True), ("All", True), (["Training"], True), (False, False), ("None", False)]
)
def test_logs_as_v2_spells_it(estimator, capsys, logs, shown):
    estimator().fit(logs=logs)
    assert ("a line" in capsys.readouterr().out) is shown


@pytest.mark.torch
def test_code_for_v1_trains_serves_and_predicts_here(plugins, scripts, modelyard_home, tmp_path, monkeypatch):
    """Every name of it is one of SDK v1."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    monkeypatch.chdir(scripts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        from modelyard.predictor import json_deserializer, json_serializer

        made = PyTorch(
            entry_point="train.py",
            role="SageMakerRole",
            train_instance_type="local",
            train_instance_count=1,
            train_volume_size=30,
            train_max_run=60,
            framework_version="1.0.0",
            hyperparameters={"factor": 3},
            plugins=plugins,
        )
        made.fit(f"file://{tmp_path}/data")
        predictor = made.deploy(1, "local")
    assert len([warning for warning in caught if "since SDK v2" in str(warning.message)]) == 6
    assert predictor.name == predictor.endpoint == predictor.endpoint_name
    assert np.array_equal(predictor.predict(np.ones((1, 2))), [[3, 3]])
    predictor.accept = "application/json"
    predictor.content_type = "application/json"
    predictor.serializer = json_serializer
    predictor.deserializer = json_deserializer
    assert predictor.predict(np.ones((1, 2))) == [[3, 3]]
    predictor.delete_endpoint()


DDP, TORCHRUN = {"pytorchddp": {"enabled": True}}, {"torch_distributed": {"enabled": True}}
V1_GPU = {"train_instance_type": "ml.p3.2xlarge", "train_instance_count": 1, "framework_version": "1.0.0"}
V2_GPU = {
    "instance_type": "ml.p3.2xlarge",
    "instance_count": 1,
    "framework_version": "1.8.0",
    "py_version": "py3",
}
THREE = {"hyperparameters": {"epochs": 20, "batch-size": 64, "learning-rate": 0.1}}


ESTIMATORS = (
    ({"entry_point": "pytorch-train.py", "role": "SageMakerRole", **V1_GPU}, "cuda", "process"),
    ({"entry_point": "pytorch-train.py", **V1_GPU, **THREE}, "cuda", "process"),
    ({"entry_point": "pytorch-train.py", **V2_GPU, **THREE}, "cuda", "process"),
    ({"entry_point": "train_and_deploy.py", **V2_GPU}, "cuda", "process"),
    (
        {
            "entry_point": "train_ptddp.py",
            "role": "SageMakerRole",
            "framework_version": "1.12.0",
            "py_version": "py38",
            "instance_count": 2,
            "instance_type": "ml.p4d.24xlarge",
            "distribution": DDP,
        },
        "cuda",
        "mpirun",
    ),
    (
        {
            "entry_point": "train_ptddp.py",
            "framework_version": "1.13.1",
            "py_version": "py38",
            "instance_count": 2,
            "instance_type": "ml.p4d.24xlarge",
            "distribution": TORCHRUN,
        },
        "cuda",
        "torchrun",
    ),
    (
        {
            "entry_point": "train_torch_distributed.py",
            "framework_version": "1.11.0",
            "py_version": "py38",
            "instance_count": 1,
            "instance_type": "ml.trn1.2xlarge",
            "distribution": TORCHRUN,
        },
        "trainium",
        "torchrun",
    ),
    (
        {
            "image_name": "1.dkr.ecr.us-west-2.amazonaws.com/my-image:latest",
            "train_instance_type": "ml.m4.xlarge",
            "train_instance_count": 1,
            "hyperparameters": {"epochs": 1},
        },
        "cpu",
        "process",
    ),
)


@pytest.mark.filterwarnings("ignore:.*since SDK v2:DeprecationWarning")
@pytest.mark.parametrize(
    ("said", "hardware", "launcher"),
    [pytest.param(*row, marks=pytest.mark.cuda if "cuda" in row else ()) for row in ESTIMATORS],
)
def test_each_estimator_of_the_documentation_makes_a_plan_for_sagemaker(plugins, said, hardware, launcher):
    cls = PyTorch if "entry_point" in said else Estimator
    plan = cls(plugins=plugins, **said).plan("s3://bucket/path/to/training/data")
    assert (plan.backend.name, plan.hardware.name, plan.launcher.name) == ("sagemaker", hardware, launcher)
    assert plan.framework_version == said.get("framework_version")
    assert [channel.name for channel in plan.channels] == ["train", "training"]
