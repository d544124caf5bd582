"""Estimators: keywords to a plan, and the job's course as a caller sees it."""

import re
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from modelyard.core.contracts import JobDescription
from modelyard.core.errors import (
    InvalidPlanError,
    JobFailedError,
    JobNotFoundError,
    JobStoppedError,
    UnknownProviderError,
)
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import (
    Channel,
    JobStatus,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
)
from modelyard.core.redaction import REDACTED
from modelyard.estimator import Estimator, PyTorch, channels
from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor

KINDS = ("backend", "hardware", "launcher", "packager")


class FakeJob:
    """A job that has ended as its class says; it notes what is done to it."""

    status, reason, lines = JobStatus.COMPLETED, "", ("one", "two")

    def __init__(self, plan):
        self.name, self.plan, self.calls = plan.job_name, plan, []

    def describe(self):
        model = "file:///out/model.tar.gz" if self.status is JobStatus.COMPLETED else None
        plan = self.plan.redacted()
        return JobDescription(
            self.name, self.status, plan, self.reason, model, "file:///src.tar.gz", "/log.txt"
        )

    def logs(self, *, follow=False):
        self.calls.append(f"logs {follow}")
        for line in self.lines:
            if isinstance(line, BaseException):
                raise line
            yield line

    def stop(self):
        self.calls.append("stop")


@pytest.fixture
def backend(plugins):
    """A backend ``fake`` for ``fake.*`` that keeps what it is given; `backend.job_class` sets the course."""
    seen = SimpleNamespace(job_class=FakeJob, jobs={}, submitted=[], deployed=[])

    class FakeEndpoint:
        name = "an-endpoint"

    class FakeBackend:
        name = "fake"
        instance_types = ("fake.*",)

        def submit(self, plan, carrier, *, attached=True):
            seen.submitted.append((plan, carrier, attached))
            seen.jobs[plan.job_name] = seen.job_class(plan)
            return seen.jobs[plan.job_name]

        def job(self, name):
            if name not in seen.jobs:
                raise JobNotFoundError(name)
            return seen.jobs[name]

        def deploy(self, plan, carrier):
            seen.deployed.append(plan)
            return FakeEndpoint()

        def endpoint(self, name):
            raise NotImplementedError

    plugins.register(plugin(modelyard_register_backends=lambda: [FakeBackend]), "fake-plugin")
    return seen


@pytest.fixture
def estimator(plugins, backend):
    """Make an estimator of the fake backend, on this machine's hardware."""
    return lambda **options: PyTorch(
        "train.py", instance_type="fake.large", hardware="cpu", plugins=plugins, **options
    )


def plugin(**hooks):
    return SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


def plan(plugins, inputs=None, **options):
    return PyTorch("train.py", plugins=plugins, **options).plan(inputs)


# -- the plan ----------------------------------------------------------------------------------


def test_a_plan_has_everything_and_starts_nothing(plugins, modelyard_home, tmp_path):
    made = PyTorch(
        Path("train.py"),
        source_dir=tmp_path / "absent",
        dependencies=[Path("common"), "lib.py"],
        hyperparameters={"epochs": 3},
        framework_version="2.6",
        py_version="py311",
        role="arn:role",
        output_path=tmp_path / "out put",
        job_name="my-job",
        environment={"A": "b"},
        plugins=plugins,
    ).plan({"train": tmp_path / "data"})
    version = plugins.backends.get("local").version
    assert made == TrainingPlan(
        job_name="my-job",
        source=SourceCode("train.py", str(tmp_path / "absent"), ("common", "lib.py")),
        backend=ProviderRef("local", {}, "modelyard", version),
        hardware=ProviderRef("cpu", {}, "modelyard", version),
        launcher=ProviderRef("process", {}, "modelyard", version),
        packager=ProviderRef("tarball", {}, "modelyard", version),
        resources=Resources("local", 1),
        hyperparameters={"epochs": 3},
        channels=(Channel("train", (tmp_path / "data").as_uri()),),
        environment={"A": "b"},
        output_path=(tmp_path / "out put").as_uri(),
        framework_version="2.6",
        py_version="py311",
        role="arn:role",
    )
    assert TrainingPlan.from_json(made.to_json()) == made
    assert not modelyard_home.exists()
    assert not list(tmp_path.iterdir())


def test_without_anything_installed_the_built_ins_are_discovered(plugins):
    assert Estimator(entry_point="train.py").plan().backend.name == "local"


def test_names(plugins):
    made = [plan(plugins).job_name, plan(plugins).job_name, plan(plugins, base_job_name="My_digits").job_name]
    assert made[0] != made[1]
    assert made[0].startswith("pytorch-training-20")
    assert made[2].startswith("My-digits-20")
    named = PyTorch("train.py", job_name="mine", plugins=plugins)
    assert named.plan().job_name == "mine"
    assert named.plan(job_name="other").job_name == "other"


@pytest.mark.parametrize("name", ["a job", "-a", "a_b", "a" * 64, "../a"])
def test_names_that_cannot_be(plugins, name):
    with pytest.raises(InvalidPlanError, match="not a valid name"):
        plan(plugins, job_name=name)


@pytest.mark.parametrize("count", [0, -1, 1.0, "2", True])
def test_instance_counts_that_cannot_be(plugins, count):
    with pytest.raises(InvalidPlanError, match="instance_count must be a whole number"):
        PyTorch("train.py", instance_count=count, plugins=plugins)


def test_hyperparameters_are_copied_and_can_be_added(plugins):
    given = {"epochs": 3}
    subject = PyTorch("train.py", hyperparameters=given, plugins=plugins)
    given["epochs"] = 4
    subject.hyperparameters()["epochs"] = 5
    subject.set_hyperparameters(lr=0.1, layers=[1, 2])
    assert subject.hyperparameters() == {"epochs": 3, "lr": 0.1, "layers": [1, 2]}
    assert subject.plan().hyperparameters["layers"] == (1, 2)


def test_hyperparameters_that_json_cannot_carry(plugins):
    with pytest.raises(InvalidPlanError, match="hyperparameter 'path' is a PosixPath"):
        plan(plugins, hyperparameters={"path": Path("x")})


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("s3://bucket/out", "s3://bucket/out"),
        ("/out", "file:///out"),
        (Path("/out"), "file:///out"),
        (None, None),
    ],
)
def test_output_paths(plugins, given, uri):
    assert plan(plugins, output_path=given).output_path == uri


# -- channels ----------------------------------------------------------------------------------


def test_no_inputs_no_channels():
    assert channels(None) == ()
    assert channels({}) == ()


@pytest.mark.parametrize("data", ["/data", Path("/data"), "file:///data"])
def test_a_lone_path_is_train_and_training(data):
    assert channels(data) == (Channel("train", "file:///data"), Channel("training", "file:///data"))


def test_channels_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = channels(
        {"train": "data", "test": Path("data/test"), "remote": "s3://bucket/x", "uri": "file:///x"}
    )
    assert made == (
        Channel("train", f"file://{tmp_path}/data"),
        Channel("test", f"file://{tmp_path}/data/test"),
        Channel("remote", "s3://bucket/x"),
        Channel("uri", "file:///x"),
    )


@pytest.mark.parametrize("inputs", [3, ["a"], b"data", object()])
def test_inputs_that_cannot_be(inputs):
    with pytest.raises(InvalidPlanError, match="inputs must be a path, a URI or a dict"):
        channels(inputs)


@pytest.mark.parametrize("location", [3, None, "", ["a"], {"a": "b"}])
def test_locations_that_cannot_be(location):
    with pytest.raises(InvalidPlanError, match=r"channel 'train' must be a path or a URI, not "):
        channels({"train": location})


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 65])
def test_channel_names_that_cannot_be(name):
    with pytest.raises(InvalidPlanError, match="is not a channel name"):
        channels({name: "/data"})


# -- which provider: what was asked for, else a plugin's choice, else what is declared ----------


@pytest.fixture
def others(plugins):
    """Two further providers of each kind, ``asked`` and ``chosen``, and hooks that choose the latter."""
    kinds = {
        "backend": ("modelyard_register_backends", plugins.backends.get("local").cls),
        "hardware": ("modelyard_register_hardware", plugins.hardware.get("cpu").cls),
        "launcher": ("modelyard_register_launchers", plugins.launchers.get("process").cls),
        "packager": ("modelyard_register_packagers", plugins.packagers.get("tarball").cls),
    }
    silent = {"instance_types": (), "distributions": ("none-that-is-asked-for",)}
    for kind, (hook, cls) in kinds.items():
        classes = [type(f"{name}{kind}", (cls,), {**silent, "name": name}) for name in ("asked", "chosen")]
        plugins.register(plugin(**{hook: lambda classes=classes: classes}), f"{kind}-plugin")
    return plugins


def choosing(answer):
    return plugin(
        modelyard_select_backend=lambda resources: answer,
        modelyard_select_hardware=lambda resources: answer,
        modelyard_select_launcher=lambda resources, hardware, distribution: answer,
        modelyard_select_packager=lambda source: answer,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_explicit_provider_wins_over_a_plugins_choice(others, kind):
    others.register(choosing("chosen"), "chooser")
    assert getattr(plan(others, **{kind: "asked"}), kind).name == "asked"


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugins_choice_wins_over_what_is_declared(others, kind):
    declared = {"backend": "local", "hardware": "cpu", "launcher": "process", "packager": "tarball"}
    assert getattr(plan(others), kind).name == declared[kind]
    others.register(choosing("chosen"), "chooser")
    assert getattr(plan(others), kind).name == "chosen"


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_that_does_not_choose_is_passed_over(others, kind):
    before = getattr(plan(others), kind)
    others.register(choosing(None), "undecided")
    assert getattr(plan(others), kind) == before


def test_a_provider_may_be_given_with_options(plugins):
    made = plan(plugins, backend=ProviderRef("local", {"port": 8080}))
    assert made.backend.options == {"port": 8080}
    assert made.backend.distribution == "modelyard"


@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_is_not_there_gets_a_suggestion(others, kind):
    with pytest.raises(UnknownProviderError, match=f"no {kind} is called 'askd'; did you mean 'asked'"):
        plan(others, **{kind: "askd"})


def test_an_option_that_is_not_there_gets_a_suggestion(plugins, modelyard_home):
    subject = PyTorch("train.py", backend=ProviderRef("local", {"prt": 1}), plugins=plugins)
    with pytest.raises(InvalidPlanError, match="has no option 'prt'; did you mean 'port'"):
        subject.fit()


def test_an_instance_type_that_nobody_offers(plugins):
    with pytest.raises(UnknownProviderError, match="offers instance_type 'locla'; did you mean 'local'"):
        plan(plugins, instance_type="locla")


# -- distribution ------------------------------------------------------------------------------


def test_a_distribution_selects_its_launcher_with_its_options(others):
    made = plan(others, distribution={"none-that-is-asked-for": {"enabled": False}})
    assert made.launcher.name == "process"

    class Ring:
        name = "ring"
        distributions = ("ring",)

        def __init__(self, processes=1):
            pass

        def command(self, entry, host, hardware):
            raise NotImplementedError

    others.register(plugin(modelyard_register_launchers=lambda: [Ring]), "ring-plugin")
    made = plan(others, distribution={"ring": {"enabled": True, "processes": 4}})
    assert (made.launcher.name, made.launcher.options) == ("ring", {"processes": 4})
    with pytest.raises(UnknownProviderError, match="distribution takes one strategy"):
        plan(others, distribution={"ring": {"enabled": True}, "other": {"enabled": True}})


@pytest.mark.parametrize(
    "distribution",
    [
        {"smdistributed": {"dataparallel": {"enabled": True, "custom_mpi_options": "--NCCL_DEBUG WARN"}}},
        {"smdistributed": {"dataparallel": {"enabled": False}}, "mpi": {"enabled": True}},
        {"mpi": {"enabled": True, "processes_per_host": 2, "custom_mpi_options": None}},
        {"pytorchddp": {"enabled": True}},
    ],
)
def test_what_sdk_v2_spells_for_mpi_selects_mpirun(plugins, distribution):
    assert plan(plugins, distribution=distribution).launcher.name == "mpirun"


def test_a_distribution_and_a_launcher_are_two_answers_to_one_question(plugins):
    with pytest.raises(InvalidPlanError, match="leave one of them out"):
        plan(plugins, distribution={"mpi": {"enabled": True}}, launcher="torchrun")


def test_an_unknown_distribution(plugins):
    with pytest.raises(UnknownProviderError, match="no launcher provides the distribution 'rign'"):
        plan(plugins, distribution={"rign": {"enabled": True}})


@pytest.mark.parametrize("distribution", [{"ring": True}, {"ring": "enabled"}, {"ring": None}])
def test_a_distribution_without_options(plugins, distribution):
    with pytest.raises(InvalidPlanError, match="distribution takes options by strategy"):
        plan(plugins, distribution=distribution)


# -- typos -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "typo", "meant"),
    [
        (lambda e: PyTorch("train.py", instance_cnt=1), "instance_cnt", "instance_count"),
        (lambda e: PyTorch("train.py", hyperparameter={}), "hyperparameter", "hyperparameters"),
        (lambda e: e.plan(job_nme="x"), "job_nme", "job_name"),
        (lambda e: e.fit(input="x"), "input", "inputs"),
        (lambda e: PyTorch.attach("x", backnd="local"), "backnd", "backend"),
        (lambda e: e.create_model(rol="x"), "rol", "role"),
        (lambda e: e.deploy(initial_instance_cnt=1), "initial_instance_cnt", "initial_instance_count"),
    ],
)
def test_typos_are_errors(estimator, backend, call, typo, meant):
    with pytest.raises(TypeError, match=f"has no keyword '{typo}'; did you mean '{meant}'"):
        call(estimator())
    assert not backend.submitted


# -- fit ---------------------------------------------------------------------------------------


def test_fit_submits_the_plan_and_shows_the_log(estimator, backend, capsys):
    subject = estimator(job_name="my-job")
    subject.fit({"train": "/data"})
    ((submitted, _, attached),) = backend.submitted
    assert submitted == subject.plan({"train": "/data"})
    assert attached is True
    assert subject.latest_training_job is backend.jobs["my-job"]
    assert subject.model_data == "file:///out/model.tar.gz"
    assert capsys.readouterr().out.splitlines() == [
        "training job my-job started",
        "one",
        "two",
        "training job my-job: Completed",
        "model: file:///out/model.tar.gz",
    ]


def test_fit_without_logs_waits_in_silence(estimator, backend, capsys):
    estimator(job_name="my-job").fit(logs=False)
    assert backend.jobs["my-job"].calls == ["logs True"]
    assert not capsys.readouterr().out


def test_fit_without_wait_returns_at_once(estimator, backend, capsys):
    estimator().fit(wait=False, job_name="this-one")
    ((_, _, attached),) = backend.submitted
    assert attached is False
    assert backend.jobs["this-one"].calls == []
    assert not capsys.readouterr().out


def test_the_carrier_packs_the_plans_source(estimator, backend, tmp_path):
    (tmp_path / "train.py").write_text("print(1)")
    estimator(source_dir=tmp_path).fit(logs=False)
    ((_, carrier, _),) = backend.submitted
    assert carrier.pack(tmp_path / "into").path.is_file()


def test_a_job_that_failed_is_an_error_with_its_reason(estimator, backend):
    backend.job_class = type("Failed", (FakeJob,), {"status": JobStatus.FAILED, "reason": "ValueError: NaN"})
    subject = estimator(job_name="my-job")
    with pytest.raises(JobFailedError) as raised:
        subject.fit()
    assert (raised.value.job_name, raised.value.reason) == ("my-job", "ValueError: NaN")
    assert "ValueError: NaN" in str(raised.value)
    assert "/log.txt" in str(raised.value)
    with pytest.raises(InvalidPlanError, match="'my-job' is Failed: it has no model"):
        _ = subject.model_data


def test_a_job_that_was_stopped_is_another_error(estimator, backend):
    backend.job_class = type("Stopped", (FakeJob,), {"status": JobStatus.STOPPED, "reason": "by hand"})
    with pytest.raises(JobStoppedError, match="was stopped: by hand"):
        estimator().fit()


def test_ctrl_c_in_fit_stops_the_job(estimator, backend):
    backend.job_class = type("Interrupted", (FakeJob,), {"lines": ("one", KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        estimator(job_name="my-job").fit()
    assert backend.jobs["my-job"].calls == ["logs True", "stop"]


def test_ctrl_c_in_wait_leaves_the_job_alone(estimator, backend):
    backend.job_class = type("Interrupted", (FakeJob,), {"lines": (KeyboardInterrupt(),)})
    subject = estimator(job_name="my-job")
    subject.fit(wait=False)
    with pytest.raises(KeyboardInterrupt):
        subject.wait()
    assert "stop" not in backend.jobs["my-job"].calls


def test_plugins_are_told_of_the_start_and_the_end(estimator, backend, plugins):
    told = []
    plugins.register(
        plugin(
            modelyard_job_started=lambda plan: told.append(("started", plan.job_name)),
            modelyard_job_finished=lambda description: told.append(("finished", str(description.status))),
        ),
        "listener",
    )
    estimator(job_name="good").fit(logs=False)
    backend.job_class = type("Failed", (FakeJob,), {"status": JobStatus.FAILED})
    with pytest.raises(JobFailedError):
        estimator(job_name="bad").fit(logs=False)
    estimator(job_name="later").fit(wait=False)
    assert told == [
        ("started", "good"),
        ("finished", "Completed"),
        ("started", "bad"),
        ("finished", "Failed"),
        ("started", "later"),
    ]


def test_a_job_that_was_refused_was_not_started(estimator, backend, plugins):
    told = []
    plugins.register(plugin(modelyard_job_started=lambda plan: told.append(plan)), "listener")

    def refuse(plan):
        raise InvalidPlanError("no room")

    backend.job_class = refuse
    subject = estimator()
    with pytest.raises(InvalidPlanError, match="no room"):
        subject.fit()
    assert not told
    assert subject.latest_training_job is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda e: e.model_data,
        lambda e: e.wait(),
        lambda e: e.stop(),
        lambda e: e.logs(),
        lambda e: e.create_model(),
        lambda e: e.deploy(),
    ],
)
def test_before_fit_there_is_no_job(estimator, ask):
    with pytest.raises(InvalidPlanError, match=re.escape("call fit() first, or attach() to one")):
        ask(estimator())
    assert estimator().latest_training_job is None


def test_the_latest_job_can_be_stopped_and_read(estimator, backend, capsys):
    subject = estimator(job_name="my-job")
    subject.fit(wait=False)
    subject.stop()
    subject.logs()
    assert backend.jobs["my-job"].calls == ["stop", "logs True"]
    assert capsys.readouterr().out == "one\ntwo\n"


# -- attach ------------------------------------------------------------------------------------


def test_attach_knows_what_the_job_was_made_of(estimator, plugins):
    before = estimator(
        job_name="my-job",
        source_dir="src",
        hyperparameters={"epochs": 3, "layers": [1, {"a": 2}]},
        environment={"A": "b", "API_TOKEN": "hunter2"},
        output_path="/out",
        role="r",
        framework_version="2.6",
        py_version="py311",
    )
    before.fit(logs=False)
    after = PyTorch.attach("my-job", backend="fake", plugins=plugins)
    expected = attrs.evolve(
        before.plan(job_name="again"),
        source=SourceCode("train.py", "file:///src.tar.gz"),
        environment={"A": "b"},
    )
    assert after.plan(job_name="again") == expected
    assert type(after) is PyTorch
    assert after.model_data == "file:///out/model.tar.gz"
    assert REDACTED not in after.environment.values()


def test_attach_waits_for_the_job_and_raises_its_failure(estimator, backend, plugins, capsys):
    estimator(job_name="my-job").fit(wait=False)
    PyTorch.attach("my-job", backend="fake", plugins=plugins)
    shown = capsys.readouterr().out
    assert shown.startswith("training job my-job found\n")
    assert "one\ntwo\n" in shown
    backend.jobs["my-job"].status = JobStatus.FAILED
    with pytest.raises(JobFailedError):
        PyTorch.attach("my-job", backend="fake", plugins=plugins)


def test_attach_to_a_job_that_is_not_there(backend, plugins, modelyard_home):
    with pytest.raises(JobNotFoundError, match="absent"):
        PyTorch.attach("absent", backend="fake", plugins=plugins)
    with pytest.raises(JobNotFoundError, match="no training job is called 'absent'"):
        PyTorch.attach("absent", plugins=plugins)


def test_an_attached_estimator_can_train_again(plugins, modelyard_home, tmp_path, capsys):
    """Its source is the archive of the first job, wherever the user's folder has gone."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("import sys, helper; print('ran', sys.argv[1:], helper.word)")
    (source / "helper.py").write_text("word = 'helped'")
    PyTorch("train.py", source_dir=source, hyperparameters={"n": 1}, job_name="first", plugins=plugins).fit()
    source.rename(tmp_path / "moved")
    attached = PyTorch.attach("first", plugins=plugins)
    capsys.readouterr()
    attached.fit(job_name="second")
    assert "ran ['-n', '1'] helped" in capsys.readouterr().out.splitlines()


# -- models ------------------------------------------------------------------------------------


def test_the_model_has_the_estimators_code(estimator):
    subject = estimator(
        source_dir="src", dependencies=["lib.py"], role="r", framework_version="2.6", py_version="py311"
    )
    subject.fit(logs=False)
    model = subject.create_model(env={"A": "b"}, name="digits")
    assert type(model) is PyTorchModel
    assert model.source == SourceCode("train.py", "src", ("lib.py",))
    assert (model.model_data, model.role, model.env) == ("file:///out/model.tar.gz", "r", {"A": "b"})
    assert (model.framework_version, model.py_version, model.name) == ("2.6", "py311", "digits")
    assert model.plugins is subject.plugins


def test_the_model_may_have_code_of_its_own(estimator):
    subject = estimator(source_dir="src", dependencies=["lib.py"], role="r")
    subject.fit(logs=False)
    other = subject.create_model(
        entry_point="inference.py", source_dir=Path("serving"), dependencies=[], role="other"
    )
    assert other.source == SourceCode("inference.py", "serving")
    assert other.role == "other"
    assert subject.create_model(entry_point="inference.py").source == SourceCode(
        "inference.py", "src", ("lib.py",)
    )


def test_deploy_serves_the_latest_model(estimator, backend):
    subject = estimator(source_dir="src")
    subject.fit(logs=False)
    predictor = subject.deploy(
        2,
        "fake.small",
        endpoint_name="digits",
        entry_point="inference.py",
        env={"A": "b"},
        hardware="cpu",
        wait=False,
    )
    assert isinstance(predictor, Predictor)
    assert predictor.endpoint_name == "an-endpoint"
    (deployed,) = backend.deployed
    assert deployed.endpoint_name == "digits"
    assert deployed.resources == Resources("fake.small", 2)
    assert deployed.model.uri == "file:///out/model.tar.gz"
    assert deployed.source == SourceCode("inference.py", "src")
    assert deployed.environment == {"A": "b"}
