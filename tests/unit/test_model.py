"""Models: from an archive and a script to a plan, and the endpoint's start as a caller sees it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.core.contracts import EndpointDescription
from modelyard.core.errors import (
    EndpointFailedError,
    EndpointNotFoundError,
    InvalidPlanError,
    UnknownProviderError,
)
from modelyard.core.hookspecs import hookimpl
from modelyard.core.plans import EndpointPlan, EndpointStatus, ModelSource, ProviderRef, Resources, SourceCode
from modelyard.model import Model, PyTorchModel

CREATING, IN_SERVICE, FAILED = EndpointStatus.CREATING, EndpointStatus.IN_SERVICE, EndpointStatus.FAILED


def plugin(**hooks):
    return SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


@pytest.fixture
def backend(plugins):
    """A backend ``fake`` whose endpoints go through `backend.course`, one state for each look."""
    seen = SimpleNamespace(course=[CREATING, CREATING, IN_SERVICE], deployed=[], deleted=[], looks=0)

    class FakeEndpoint:
        def __init__(self, plan):
            self.name, self.plan = plan.endpoint_name, plan

        def describe(self):
            state = seen.course[min(seen.looks, len(seen.course) - 1)]
            seen.looks += 1
            if isinstance(state, BaseException):
                raise state
            reason = "the weights are of another model" if state is FAILED else ""
            return EndpointDescription(self.name, state, self.plan, reason, "http://here:1", "/log.txt")

        def delete(self):
            seen.deleted.append(self.name)

    class FakeBackend:
        name = "fake"
        instance_types = ("fake.*",)

        def submit(self, plan, carrier, *, attached=True):
            raise NotImplementedError

        def job(self, name):
            raise NotImplementedError

        def deploy(self, plan, carrier):
            seen.deployed.append((plan, carrier))
            return FakeEndpoint(plan)

        def endpoint(self, name):
            raise NotImplementedError

    plugins.register(plugin(modelyard_register_backends=lambda: [FakeBackend]), "fake-plugin")
    return seen


@pytest.fixture
def packed(plugins):
    """What a packager ``noted`` is asked to pack: it is chosen by a plugin."""
    calls = []

    class NotedPackager:
        name = "noted"

        def pack_model(self, model, source, into):
            calls.append((model, source, into, sorted(path.name for path in model.rglob("*"))))

        def pack_source(self, source, into):
            raise NotImplementedError

        def pack_tree(self, folder, archive):
            raise NotImplementedError

        def unpack(self, archive, into):
            raise NotImplementedError

    hooks = {
        "modelyard_register_packagers": lambda: [NotedPackager],
        "modelyard_select_packager": lambda source: "noted",
    }
    plugins.register(plugin(**hooks), "noted-plugin")
    return calls


# -- the plan ----------------------------------------------------------------------------------


def test_a_plan_has_everything_and_starts_nothing(plugins, modelyard_home, tmp_path):
    model = Model(
        tmp_path / "model.tar.gz",
        "arn:role",
        Path("inference.py"),
        source_dir=tmp_path / "src",
        dependencies=[Path("lib.py")],
        framework_version="2.6",
        py_version="py311",
        env={"A": "b"},
        plugins=plugins,
    )
    made = model.plan(endpoint_name="digits", startup_timeout=5, accelerator_type="ml.eia2.medium")
    version = plugins.backends.get("local").version
    assert made == EndpointPlan(
        endpoint_name="digits",
        model=ModelSource((tmp_path / "model.tar.gz").as_uri()),
        backend=ProviderRef("local", {}, "modelyard", version),
        hardware=ProviderRef("elastic_inference", {}, "modelyard", version),
        packager=ProviderRef("tarball", {}, "modelyard", version),
        source=SourceCode("inference.py", str(tmp_path / "src"), ("lib.py",)),
        resources=Resources("local", 1, "ml.eia2.medium"),
        environment={"A": "b"},
        startup_timeout=5,
        framework_version="2.6",
        py_version="py311",
        role="arn:role",
    )
    assert EndpointPlan.from_json(made.to_json()) == made
    assert not modelyard_home.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "uri"),
    [
        ("/a/model.tar.gz", "file:///a/model.tar.gz"),
        (Path("/a/folder"), "file:///a/folder"),
        ("file:///a/model.tar.gz", "file:///a/model.tar.gz"),
        ("s3://bucket/model.tar.gz", "s3://bucket/model.tar.gz"),
    ],
)
def test_model_data(plugins, data, uri):
    assert Model(data, plugins=plugins).plan().model.uri == uri


def test_names(plugins):
    assert Model("/m", plugins=plugins).plan().endpoint_name.startswith("pytorch-inference-20")
    assert Model("/m", name="digits", plugins=plugins).plan().endpoint_name.startswith("digits-20")
    with pytest.raises(InvalidPlanError, match="endpoint name 'a b' is not a valid name"):
        Model("/m", plugins=plugins).plan(endpoint_name="a b")


def test_without_a_script_there_is_no_source(plugins):
    assert Model("/m", plugins=plugins).plan().source is None


@pytest.mark.parametrize("options", [{"source_dir": "src"}, {"dependencies": ["lib.py"]}])
def test_code_without_a_script_is_an_error(plugins, options):
    with pytest.raises(InvalidPlanError, match="give entry_point"):
        Model("/m", plugins=plugins, **options)


def test_explicit_over_chosen_over_declared(plugins, backend):
    model = Model("/m", plugins=plugins)
    assert (model.plan().backend.name, model.plan().hardware.name) == ("local", "cpu")
    choices = {
        "modelyard_select_backend": lambda resources: ProviderRef("local", {"port": 8080}),
        "modelyard_select_hardware": lambda resources: "cpu",
    }
    plugins.register(plugin(**choices), "chooser")
    assert model.plan().backend.options == {"port": 8080}
    assert model.plan(1, "fake.large").hardware.name == "cpu"
    assert model.plan(backend="fake").backend.name == "fake"


def test_an_instance_type_that_nobody_offers(plugins):
    with pytest.raises(UnknownProviderError, match="no backend offers instance_type 'loca'"):
        Model("/m", plugins=plugins).plan(1, "loca")
    with pytest.raises(UnknownProviderError, match="no hardware is called 'cpi'; did you mean 'cpu'"):
        Model("/m", plugins=plugins).plan(hardware="cpi")


@pytest.mark.parametrize(
    ("call", "typo", "meant"),
    [
        (lambda: Model("/m", entrypoint="x"), "entrypoint", "entry_point"),
        (lambda: PyTorchModel("/m").plan(endpoint_nme="x"), "endpoint_nme", "endpoint_name"),
        (lambda: PyTorchModel("/m").deploy(instance_typ="x"), "instance_typ", "instance_type"),
    ],
)
def test_typos_are_errors(plugins, call, typo, meant):
    with pytest.raises(TypeError, match=f"has no keyword '{typo}'; did you mean '{meant}'"):
        call()


# -- deploy ------------------------------------------------------------------------------------


def deploy(plugins, **options):
    return Model("/m", plugins=plugins).deploy(
        1, "fake.large", hardware="cpu", endpoint_name="digits", **options
    )


def test_deploy_waits_until_the_model_is_loaded(plugins, backend, capsys):
    predictor = deploy(plugins)
    assert backend.looks == 3
    assert (predictor.endpoint_name, predictor.plugins) == ("digits", plugins)
    assert capsys.readouterr().out == "endpoint digits started\nendpoint digits: InService at http://here:1\n"
    ((plan, _),) = backend.deployed
    assert plan.resources == Resources("fake.large", 1)


def test_deploy_without_wait_does_not_look(plugins, backend, capsys):
    deploy(plugins, wait=False)
    assert backend.looks == 0
    assert not capsys.readouterr().out


def test_a_model_that_does_not_load_is_an_error_with_its_reason(plugins, backend):
    backend.course = [CREATING, FAILED]
    with pytest.raises(EndpointFailedError) as raised:
        deploy(plugins)
    assert raised.value.endpoint_name == "digits"
    assert raised.value.reason == "the weights are of another model"
    assert "/log.txt" in str(raised.value)


def test_ctrl_c_while_waiting_deletes_the_endpoint(plugins, backend):
    backend.course = [CREATING, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        deploy(plugins)
    assert backend.deleted == ["digits"]


def test_an_endpoint_that_somebody_deletes_meanwhile(plugins, backend):
    backend.course = [CREATING, EndpointNotFoundError("endpoint 'digits' was deleted")]
    with pytest.raises(EndpointNotFoundError, match="was deleted"):
        deploy(plugins)


# -- packing -----------------------------------------------------------------------------------


def carrier_of(backend, model):
    model.deploy(1, "fake.large", hardware="cpu", wait=False)
    ((_, carrier),) = backend.deployed
    return carrier


def test_a_model_of_this_machine_is_packed_where_it_is(plugins, backend, packed, tmp_path):
    model = tmp_path / "a model"
    model.mkdir()
    (model / "weights").touch()
    carrier_of(backend, Model(model, entry_point="inference.py", plugins=plugins)).pack(tmp_path / "into")
    assert packed == [(model, SourceCode("inference.py"), tmp_path / "into", ["weights"])]


@pytest.mark.parametrize(
    ("uri", "below"),
    [
        ("far://bucket/a/model.tar.gz", "model.tar.gz"),
        ("far://bucket/a/folder", ""),
        ("far://bucket/a/folder/", ""),
    ],
)
def test_a_model_elsewhere_is_fetched_first(plugins, backend, packed, tmp_path, uri, below):
    files = [below] if below else ["code", "weights"]

    class FarStorage:
        name = "far"
        schemes = ("far",)

        def download(self, uri, into):
            into.mkdir(parents=True)
            for name in files:
                (into / name).touch()

        def upload(self, path, uri):
            raise NotImplementedError

        def prepare(self, uri):
            raise NotImplementedError

    plugins.register(plugin(modelyard_register_storages=lambda: [FarStorage]), "far-plugin")
    carrier_of(backend, Model(uri, plugins=plugins)).pack(tmp_path)
    ((model, source, into, found),) = packed
    assert model.is_relative_to(tmp_path)
    assert model.name == (below or "content")
    assert not model.exists()  # It was there for as long as it was packed.
    assert (source, into) == (None, tmp_path)
    assert found == ([] if below else files)
