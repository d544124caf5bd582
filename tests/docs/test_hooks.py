"""Every hook is documented with its exact arguments and an example, and the example does what it says."""

import inspect
import logging
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.hooks_and_nouns import example_of
from tests.docs.hooks_page import PAGE, VALUES, hooks, page

from modelyard import PyTorch
from modelyard.core.contracts import EntryPoint, Host, JobDescription
from modelyard.core.errors import InvalidPlanError, PackagingError
from modelyard.core.http import Request, Response
from modelyard.core.manager import PluginManager
from modelyard.core.plans import JobStatus, ProviderRef, Resources, SourceCode, TrainingPlan

HOST = Host("b", ("a", "b"))
PLAN = TrainingPlan(
    "a-job", SourceCode("train.py"), *map(ProviderRef, ("local", "cpu", "process", "tarball"))
)
HOOKS = sorted(hooks())
each_hook = pytest.mark.parametrize("name", HOOKS)


@pytest.fixture
def plugins_with(monkeypatch, tmp_path):
    """Return the built-in plugins and the one of a hook's example; whatever is wrong with it is an error."""

    def make(name):
        source = example_of(hooks()[name])
        assert source, f"{name} has no example"
        module = ModuleType(f"example_of_{name}")
        exec(compile(source, f"the example of {name}", "exec"), vars(module))
        assert name in vars(module), f"the example of {name} does not implement it"
        plugins = PluginManager.discover({"MODELYARD_PLUGINS_AUTOLOAD": "0", "MODELYARD_PLUGINS_STRICT": "1"})
        plugins.register(module, "example")
        return plugins

    monkeypatch.chdir(tmp_path)
    return make


# -- what is done with each example, and what comes of it ---------------------------------------


def codecs(plugins):
    codec = plugins.codecs.create("geojson")
    assert codec.decode(codec.encode({"type": "Point"})) == {"type": "Point"}


def hardware(plugins):
    chosen = plugins.select_hardware(Resources("pinned.large"))
    assert plugins.hardware.create(chosen).environ(HOST)["OMP_PROC_BIND"] == "close"


def launchers(plugins):
    chosen = plugins.select_launcher(Resources(), "cpu", {"nice": {"enabled": True}})
    entry = EntryPoint("train.py", ("--epochs", "3"), Path("code"), interpreter="python")
    command = plugins.launchers.create(chosen).command(entry, HOST, plugins.hardware.create("cpu"))
    assert command.argv == ("nice", "-n", "10", "python", "train.py", "--epochs", "3")


def packagers(plugins):
    Path("source").mkdir()
    Path("source", "train.py").touch()
    packager, source = plugins.packagers.create("licensed"), SourceCode("train.py", "source")
    with pytest.raises(PackagingError, match="no file LICENSE"):
        packager.pack_source(source, Path.cwd())
    Path("source", "LICENSE").touch()
    assert packager.pack_source(source, Path.cwd()).files == 2


def storages(plugins):
    storage = plugins.storages.create("home")
    Path("weights").write_text("1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(Path.cwd() / "home"))
        storage.prepare("home://models")
        assert storage.upload(Path("weights"), "home://models/weights") == "home://models/weights"
        storage.download("home://models/weights", Path("here"))
    assert Path("here", "weights").read_text() == "1"


def backends(plugins):
    Path("train.py").touch()
    estimator = PyTorch("train.py", backend="short", plugins=plugins)
    with pytest.raises(InvalidPlanError, match="give max_run"):
        estimator.fit()


def select_hardware(plugins):
    assert plugins.select_hardware(Resources("lab.gpu")).name == "cpu"


def select_launcher(plugins):
    assert plugins.select_launcher(Resources("local", 2), "cpu", None).name == "torchrun"
    assert plugins.select_launcher(Resources("local", 1), "cpu", None).name == "process"


def select_backend(plugins):
    assert plugins.select_backend(Resources("patient")).options == {"stop_seconds": 120.0}
    assert plugins.select_backend(Resources("local")).options == {}


def select_packager(plugins):
    assert plugins.select_packager(None).options == {"compression_level": 9}
    assert plugins.select_packager(SourceCode("train.py")).options == {}


def job_environ(plugins):
    assert plugins.job_environ(HOST, "cpu") == {"WANDB_TAGS": "cpu", "TQDM_DISABLE": "1"}


def job_started(plugins):
    plugins.job_started(PLAN)
    return "a-job"


def job_finished(plugins):
    plugins.job_finished(JobDescription("a-job", JobStatus.FAILED, PLAN, reason="no data"))
    return "a-job: no data"


def model_loaded(plugins):
    Path("model.pt").write_bytes(b"12345")
    plugins.model_loaded([], Path.cwd())
    return "list from 5 bytes"


def wrap_handler(plugins):
    handler = plugins.wrap_handler(lambda request: Response(request.body, headers={"a": "1"}))
    assert handler(Request(b"x")) == Response(b"x", headers={"a": "1", "x-model": "v7"})


USES = {
    "modelyard_register_codecs": codecs,
    "modelyard_register_hardware": hardware,
    "modelyard_register_launchers": launchers,
    "modelyard_register_packagers": packagers,
    "modelyard_register_storages": storages,
    "modelyard_register_backends": backends,
    "modelyard_select_hardware": select_hardware,
    "modelyard_select_launcher": select_launcher,
    "modelyard_select_backend": select_backend,
    "modelyard_select_packager": select_packager,
    "modelyard_job_environ": job_environ,
    "modelyard_job_started": job_started,
    "modelyard_job_finished": job_finished,
    "modelyard_model_loaded": model_loaded,
    "modelyard_wrap_handler": wrap_handler,
}
"""What has the example of a hook called, and sees what came of it; what is returned is in the log."""


def test_every_hook_has_its_example_used():
    assert sorted(USES) == HOOKS


@each_hook
def test_the_example_of_a_hook_does_what_it_says(name, plugins_with, caplog):
    caplog.set_level(logging.INFO)
    plugins = plugins_with(name)
    logged = USES[name](plugins)
    assert [status for status in plugins.statuses if status.error or status.notes] == []
    if logged:
        assert logged in caplog.text


@each_hook
def test_the_heading_of_a_hook_has_its_exact_arguments(name):
    arguments = ", ".join(inspect.signature(hooks()[name]).parameters)
    assert PAGE.read_text("utf-8").count(f"\n### `{name}({arguments})`\n") == 1


@each_hook
def test_each_argument_of_a_hook_is_explained_and_so_is_what_it_returns(name):
    said = inspect.getdoc(hooks()[name])
    for argument in inspect.signature(hooks()[name]).parameters:
        assert f"\n* `{argument}`: " in said
    observes = inspect.signature(hooks()[name]).return_annotation is None
    assert ("\n* returns: " in said) != observes


@each_hook
def test_a_hook_says_when_and_where_it_is_called(name):
    assert "\nCalled " in inspect.getdoc(hooks()[name])


def test_the_values_that_hooks_are_given_are_on_the_page():
    named = {cls.__name__ for cls in VALUES}
    annotations = " ".join(
        str(each.annotation)
        for hook in hooks().values()
        for each in inspect.signature(hook).parameters.values()
    )
    for word in ("Resources", "SourceCode", "TrainingPlan", "JobDescription", "Host"):
        assert word in annotations
        assert word in named


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == page(), "python -m tests.docs.hooks_page writes it"
