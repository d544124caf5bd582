"""What can be known to be wrong is said before anything runs, and nothing is left of it."""

import numpy as np
import pytest
from tests.integration.conftest import JSON

from modelyard import Predictor, PyTorch, PyTorchModel
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointFailedError,
    InvalidPlanError,
    InvocationError,
    JobExistsError,
    JobFailedError,
    JobNotFoundError,
    PackagingError,
    StorageError,
    UnknownProviderError,
)
from modelyard.core.plans import ProviderRef


@pytest.fixture
def nothing_left(modelyard_home):
    yield
    left = [path.name for kind in ("jobs", "endpoints") for path in modelyard_home.glob(f"{kind}/*")]
    assert left == []


@pytest.fixture
def in_project(project, monkeypatch):
    monkeypatch.chdir(project)


@pytest.mark.parametrize(
    ("options", "inputs", "error", "says"),
    [
        ({"entry_point": "trian.py"}, "data", PackagingError, "trian.py.*did you mean 'train.py'"),
        ({"entry_point": "../data/numbers.txt"}, "data", PackagingError, "outside"),
        ({"source_dir": "scr"}, "data", PackagingError, "scr"),
        ({"dependencies": ["lib"]}, "data", PackagingError, "lib"),
        ({}, {"train": "dta"}, StorageError, "dta.*did you mean 'data'"),
        ({}, {"train": "s4://bucket/x"}, StorageError, "s4"),
        ({}, {"tr/ain": "data"}, InvalidPlanError, "tr/ain"),
        ({}, {"train": None}, InvalidPlanError, "channel 'train'"),
        ({}, 7, InvalidPlanError, "7"),
        ({"distribution": {"torchrum": {"enabled": True}}}, "data", UnknownProviderError, "torchrum"),
        ({"distribution": "ddp"}, "data", InvalidPlanError, "distribution takes options by strategy"),
        ({"instance_count": 0}, "data", InvalidPlanError, "instance_count.*at least 1"),
        ({"instance_type": "locl"}, "data", UnknownProviderError, "locl.*did you mean 'local'"),
        ({"output_path": "data/numbers.txt/below"}, "data", StorageError, "numbers.txt"),
        ({"hyperparameters": {"lr": np.float32(1)}}, "data", InvalidPlanError, "'lr' is a float32"),
        ({"environment": {"A": 1}}, "data", InvalidPlanError, "'A' must map to a string"),
        ({"job_name": "../escape"}, "data", InvalidPlanError, "not a valid name"),
        ({"launcher": ProviderRef("process", {"nproc": 2})}, "data", InvalidPlanError, "no option 'nproc'"),
        ({"hyperparameters": {"a=b": 1}}, "data", InvalidPlanError, "'a=b' cannot be the name"),
        ({"dependencies": "data"}, "data", InvalidPlanError, "dependencies must be a list"),
        ({"launcher": "proces"}, "data", UnknownProviderError, "did you mean 'process'"),
    ],
)
@pytest.mark.usefixtures("in_project", "nothing_left")
def test_fit_says_what_is_wrong_before_anything_runs(options, inputs, error, says):
    def fit():
        PyTorch(**{"entry_point": "train.py", "source_dir": "src", **options}).fit(inputs)

    with pytest.raises(error, match=says):
        fit()


def test_a_mistyped_keyword_is_a_type_error_with_the_right_name():
    says = r"PyTorch\(\) has no keyword 'instnce_type'; did you mean 'instance_type'"
    with pytest.raises(TypeError, match=says):
        PyTorch("train.py", instnce_type=1)
    with pytest.raises(TypeError, match="did you mean 'entry_point'"):
        PyTorchModel("model.tar.gz", entrypoint="inference.py")


def test_a_failing_script_is_an_error_with_its_own_reason(project, modelyard_home, capsys):
    (project / "src" / "fails.py").write_text("def step():\n    raise ValueError('bad batch 17')\n\nstep()\n")
    estimator = PyTorch("fails.py", source_dir=project / "src", job_name="fails")
    says = r"ValueError: bad batch 17 \(fails.py, line 2, in step\)"
    with pytest.raises(JobFailedError, match=says) as caught:
        estimator.fit()
    assert caught.value.job_name == "fails"
    assert "Traceback (most recent call last)" in capsys.readouterr().out
    with pytest.raises(InvalidPlanError, match="'fails' is Failed: it has no model"):
        estimator.deploy()


def test_a_job_name_is_used_once(project, modelyard_home):
    estimator = PyTorch("train.py", source_dir=project / "src", job_name="twice")
    estimator.fit({"train": project / "data"})
    with pytest.raises(JobExistsError, match="twice.*attach"):
        estimator.fit({"train": project / "data"})


def test_unknown_names(modelyard_home):
    with pytest.raises(JobNotFoundError, match="nowhere"):
        PyTorch.attach("nowhere")
    with pytest.raises(LookupError, match="nowhere"):
        Predictor("nowhere")


@pytest.fixture
def model(project):
    (project / "src" / "weights.json").write_text('{"factor": 3}')
    return PyTorchModel(project / "src", entry_point="inference.py", source_dir=project / "src")


def test_a_second_deploy_under_one_name_is_refused_until_the_first_is_gone(model, modelyard_home):
    says = r"'one' is live.*delete_endpoint"
    with model.deploy(endpoint_name="one"), pytest.raises(EndpointExistsError, match=says):
        model.deploy(endpoint_name="one")
    with model.deploy(endpoint_name="one") as predictor:
        assert predictor.predict([1], **JSON) == [3]


def test_a_model_fn_that_raises_fails_the_deploy_with_its_reason(project, modelyard_home):
    script = "def model_fn(model_dir):\n    raise OSError('no weights here')\n"
    (project / "src" / "broken.py").write_text(script)
    model = PyTorchModel(project / "src", entry_point="broken.py", source_dir=project / "src")
    says = r"model_fn raised OSError: no weights here \(broken.py, line 2"
    with pytest.raises(EndpointFailedError, match=says):
        model.deploy()


def test_a_model_that_never_loads_fails_the_deploy(project, modelyard_home):
    script = "import time\n\ndef model_fn(model_dir):\n    time.sleep(300)\n"
    (project / "src" / "hangs.py").write_text(script)
    model = PyTorchModel(project / "src", entry_point="hangs.py", source_dir=project / "src")
    with pytest.raises(EndpointFailedError, match="not loaded within 2 s"):
        model.deploy(startup_timeout=2)


def test_a_clients_mistake_is_the_clients_error(model, modelyard_home):
    with model.deploy() as predictor:
        with pytest.raises(InvocationError, match="500.*\n.*JSONDecodeError: Expecting.*\n.*log") as caught:
            predictor.predict(b"{", **JSON)
        assert caught.value.status == 500  # The script's own input_fn raised: that is not the client's.
        assert "Traceback" not in caught.value.message
        assert predictor.predict([1], **JSON) == [3]
