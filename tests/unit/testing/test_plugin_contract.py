"""Each promise of the plugin contract is broken by one plugin, and seen."""

import itertools
import re
import textwrap
from types import ModuleType, SimpleNamespace

import pytest
from tests.unit.testing.broken import breaks, failing, promises

from modelyard.core.contracts import CONTRACT_VERSION
from modelyard.core.hookspecs import hookimpl, modelyard_register_codecs
from modelyard.core.plans import ProviderRef
from modelyard.plugins.launchers.process import ProcessLauncher
from modelyard.serializers.json import JsonCodec
from modelyard.testing import PluginContract
from modelyard.testing.fresh import load


def plugin(**hooks):
    """Return a plugin of these hooks, and of attributes that are no functions."""
    return SimpleNamespace(**{n: hookimpl(h) if callable(h) else h for n, h in hooks.items()})


def codec(**attributes):
    """Return a class of codecs that is right but for these attributes."""
    right = {"name": "mine", "media_types": ("application/x-mine",), "__doc__": "A codec of mine."}
    return type("MyCodec", (JsonCodec,), {**right, "__slots__": (), **attributes})


def providing(*classes):
    return plugin(modelyard_register_codecs=lambda: classes)


class RegistersNowAndThen:
    """Has its class at every other call, as one that keeps an iterator has."""

    def __init__(self):
        self.answers = itertools.cycle([(codec(),), ()])

    @hookimpl
    def modelyard_register_codecs(self):
        return next(self.answers)


def raising(error):
    def raises():
        raise error

    return raises


def fails_for_stopped(description):
    return {"Completed": 1, "Failed": 2}[description.status]


def on_two_hosts_alone(host):
    return {"PEER": host.names[1]}


def joined(handler):
    """Middleware that knows no streams."""

    def outer(request):
        answer = handler(request)
        return None if answer.chunks else answer

    return outer


def module(**attributes):
    made = ModuleType("a_module")
    vars(made).update(attributes)
    return made


ALONE, MARKED = "test_registers_alone", "test_hooks_are_marked"
REPEATED, DOCUMENTED = "test_registration_can_be_repeated", "test_providers_are_documented"
TWICE, SELECTION = "test_nothing_is_provided_twice", "test_selection_names_what_there_is"
ENVIRON, OBSERVERS = "test_job_environ_is_text", "test_observers_take_everything"
MIDDLEWARE = "test_middleware_answers"

CASES = (
    (plugin(modelyard_no_such_hook=lambda: 1), ALONE, "no hook is called 'modelyard_no_such_hook'"),
    (providing("JsonCodec"), ALONE, "must return classes, not 'JsonCodec'"),
    (plugin(modelyard_register_codecs=raising(KeyError("x"))), ALONE, "codecs raised KeyError: 'x'"),
    (providing(codec(name="My Codec")), ALONE, "'My Codec' is no name of a codec"),
    (
        plugin(MODELYARD_CONTRACT="9.0", modelyard_register_codecs=lambda: ()),
        ALONE,
        f"built for version 9.0 of modelyard's contract, and this modelyard has {CONTRACT_VERSION}",
    ),
    ("no_such_module_at_all", ALONE, "'no_such_module_at_all' is no entry point or module"),
    (plugin(), ALONE, "has no hook of modelyard's"),
    (
        SimpleNamespace(
            modelyard_register_codecs=hookimpl(lambda: ()), modelyard_register_storages=lambda: ()
        ),
        MARKED,
        "lack @hookimpl, so nobody would call them: ['modelyard_register_storages']",
    ),
    (
        module(modelyard_register_codecs=lambda: ()),
        MARKED,
        "lack @hookimpl, so nobody would call them: ['modelyard_register_codecs']",
    ),
    (RegistersNowAndThen(), REPEATED, "then []"),
    (providing(codec(__doc__=None)), DOCUMENTED, "the codec 'mine' (tests"),
    (providing(codec(__doc__="MyCodec(level: int = 1)")), DOCUMENTED, "has no docstring"),
    (
        providing(codec(name="json")),
        TWICE,
        "has the codec's name 'json', and so has modelyard.serializers.json.JsonCodec",
    ),
    (
        providing(codec(media_types=("text/csv",))),
        TWICE,
        "has the codec's media_types 'text/csv', and so has",
    ),
    (
        providing(codec(), codec(media_types=("text/x-mine",))),
        TWICE,
        "has the codec's name 'mine', and so has tests",
    ),
    (
        plugin(modelyard_select_hardware=lambda resources: 0 if resources.instance_count > 1 else None),
        SELECTION,
        "must return a name, not 0",
    ),
    (
        plugin(modelyard_select_backend=lambda resources: resources.accelerator_type[:3]),
        SELECTION,
        "modelyard_select_backend raised TypeError",
    ),
    (
        plugin(modelyard_select_launcher=lambda distribution: ProviderRef("torchrnu")),
        SELECTION,
        "answered 'torchrnu', and no launcher is called that; did you mean 'torchrun'",
    ),
    (
        plugin(modelyard_select_packager=lambda source: source.entry_point and None),
        SELECTION,
        "modelyard_select_packager raised AttributeError",
    ),
    (plugin(modelyard_job_environ=on_two_hosts_alone), ENVIRON, "modelyard_job_environ raised IndexError"),
    (plugin(modelyard_job_environ=lambda: None), ENVIRON, "must return a mapping, not None"),
    (plugin(modelyard_job_environ=lambda: {"A": 1}), ENVIRON, "must map text to text, not {'A': 1}"),
    (
        plugin(modelyard_job_started=lambda plan: plan.source.entry_point),
        OBSERVERS,
        "modelyard_job_started raised AttributeError",
    ),
    (
        plugin(modelyard_job_finished=fails_for_stopped),
        OBSERVERS,
        "modelyard_job_finished raised KeyError(<JobStatus.STOPPED",
    ),
    (
        plugin(modelyard_model_loaded=lambda model: model.eval()),
        OBSERVERS,
        "modelyard_model_loaded raised AttributeError",
    ),
    (plugin(modelyard_model_loaded=raising(SystemExit(3))), OBSERVERS, "raised SystemExit(3)"),
    (
        plugin(modelyard_wrap_handler=lambda handler: "outer"),
        MIDDLEWARE,
        "must return a handler, not 'outer'",
    ),
    (
        plugin(modelyard_wrap_handler=joined),
        MIDDLEWARE,
        "around a streamed answer its handler returned None",
    ),
)

RIGHT = """
    from modelyard import hookimpl

    @hookimpl
    def modelyard_register_codecs():
        return ()
"""
DOES_NOT_LOAD = {
    "raise OSError('no licence')": "fresh interpreter: OSError: no licence",
    "raise SystemExit(0)": "fresh interpreter: it ended with 0",
    "import a_module_that_is_absent": "fresh interpreter: ModuleNotFoundError: .*a_module_that_is_absent",
}
DOES_MUCH = """
    import os

    import torch
    from modelyard.core.manager import PluginManager
    from modelyard.serving.model import handler

    print("hello")
    os.write(1, b"hello from a program")
    PluginManager.discover = classmethod(lambda cls: None)
    handler.load_model = None
    os.environ["OMP_NUM_THREADS"] = "77"
    del os.environ["HOME"]
    os.chdir("/")
"""
SEEN_ANEW = {
    "test_loads_neither_torch_nor_boto3": "registering it loads torch: import inside methods",
    "test_prints_nothing": r"registering it prints '.*hello from a program.*'",
    "test_changes_nothing": r"it changes os.environ\['HOME'\]; changes os.environ\['OMP_NUM_THREADS'\]; "
    "changes the working directory to '/'; replaces "
    "modelyard.core.manager.PluginManager.discover, modelyard.serving.model.handler.load_model",
}
LOADS = "test_loads_in_a_fresh_interpreter"

BROKEN_PROMISES = {LOADS, *SEEN_ANEW, *(test for _, test, _ in CASES)}


def contract(subject, **attributes):
    return type("Contract", (PluginContract,), {"plugin": subject, **attributes})()


def call(contract, test, tmp_path):
    method = getattr(contract, test)
    return method(tmp_path) if "tmp_path" in method.__annotations__ else method()


@pytest.mark.parametrize(("wrong", "test", "message"), CASES)
def test_a_wrong_plugin_is_caught(wrong, test, message, tmp_path):
    subject = contract(wrong)
    assert message in breaks(call, subject, test, tmp_path)


def written(folder, *sources):
    """Write a plugin that does this when it is imported; a module stands in for torch."""
    text = "".join(map(textwrap.dedent, (RIGHT, *sources)))
    (folder / "a_plugin.py").write_text(text)
    (folder / "torch.py").write_text("")


@pytest.mark.parametrize("line", DOES_NOT_LOAD)
def test_a_plugin_that_does_not_load_is_caught(line, tmp_path, monkeypatch):
    written(tmp_path, line)
    monkeypatch.syspath_prepend(tmp_path)
    assert re.search(DOES_NOT_LOAD[line], breaks(getattr(contract("a_plugin"), LOADS)))


@pytest.fixture(scope="module")
def does_much(tmp_path_factory):
    folder = tmp_path_factory.mktemp("does-much")
    written(folder, DOES_MUCH)
    return folder


@pytest.mark.parametrize("test", SEEN_ANEW)
def test_what_importing_it_does_is_seen(test, does_much, monkeypatch):
    monkeypatch.syspath_prepend(does_much)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    contract("a_plugin").test_loads_in_a_fresh_interpreter()
    assert re.search(SEEN_ANEW[test], breaks(getattr(contract("a_plugin"), test)))


@pytest.mark.parametrize("promise", sorted(promises(PluginContract) - {LOADS, *SEEN_ANEW}))
def test_one_wrong_plugin_breaks_this_promise_alone(promise, tmp_path):
    numbers = itertools.count()
    given = {"tmp_path": lambda: tmp_path / str(next(numbers))}
    wrong = [plugin for plugin, test, _ in CASES if test == promise]
    assert {promise} in [failing(contract(plugin), given) for plugin in wrong]


def test_a_plugin_that_is_not_done_with_its_import_is_not_waited_for(tmp_path, monkeypatch):
    from modelyard.testing import plugins

    (tmp_path / "a_plugin.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_SECONDS", 1)
    with pytest.raises(AssertionError, match="in a fresh interpreter: not done after 1 s"):
        contract("a_plugin").test_loads_in_a_fresh_interpreter()


def test_a_module_that_only_the_tests_can_import_is_imported_by_its_file(tmp_path, monkeypatch):
    file = tmp_path / "elsewhere" / "a_plugin.py"
    file.parent.mkdir()
    file.write_text(textwrap.dedent(RIGHT) + "print(__name__)")
    made = ModuleType("tests.of.mine.a_plugin")
    made.__file__ = str(file)
    with pytest.raises(AssertionError, match=r"prints 'tests.of.mine.a_plugin\\n'"):
        contract(made).test_prints_nothing()


def test_an_entry_point_wins_over_a_module_of_its_name(tmp_path, monkeypatch):
    info = tmp_path / "a_distribution-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-distribution\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\njson = modelyard.serializers.plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("json").__name__ == "modelyard.serializers.plugin"
    assert load("csv").__name__ == "csv"
    assert load("modelyard.core.hookspecs:modelyard_register_codecs") is modelyard_register_codecs


@pytest.mark.parametrize(
    ("attributes", "test", "reason"),
    [
        ({"can_observe": False}, OBSERVERS, "its observers may not be called here"),
        ({}, ENVIRON, "it does not implement modelyard_job_environ"),
        ({}, MIDDLEWARE, "it does not implement modelyard_wrap_handler"),
        ({}, "test_prints_nothing", "plugin is an object: say its name"),
    ],
)
def test_what_cannot_be_looked_at_is_skipped(attributes, test, reason, tmp_path):
    with pytest.raises(pytest.skip.Exception, match=reason):
        call(contract(providing(), **attributes), test, tmp_path)


def test_what_follows_from_a_registration_that_fails_is_skipped():
    for test in (REPEATED, DOCUMENTED, TWICE):
        with pytest.raises(pytest.skip.Exception, match="it cannot be registered: a strict manager refuses"):
            getattr(contract(providing("JsonCodec")), test)()


def test_what_is_called_like_a_hook_and_is_no_function_needs_no_mark():
    right = contract(module(modelyard_mine=module(), modelyard_register_codecs=hookimpl(lambda: ())))
    right.test_hooks_are_marked()


def test_a_hook_that_asks_for_what_there_is_not_is_refused_once():
    wrong = contract(plugin(modelyard_job_environ=lambda hosts: {}))
    assert "Argument(s) {'hosts'} are declared in the hookimpl" in breaks(wrong.test_registers_alone)
    with pytest.raises(pytest.skip.Exception, match="it cannot be registered: a strict manager refuses"):
        wrong.test_job_environ_is_text()


def test_what_follows_from_an_import_that_fails_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "a_plugin.py").write_text("raise OSError")
    monkeypatch.syspath_prepend(tmp_path)
    for test in ("test_loads_neither_torch_nor_boto3", "test_changes_nothing"):
        with pytest.raises(pytest.skip.Exception, match="cannot be imported in a fresh interpreter"):
            getattr(contract("a_plugin"), test)()


class EveryHook:
    """A plugin that implements all of them, and is right."""

    @hookimpl
    def modelyard_register_launchers(self):
        yield type(
            "MyLauncher", (ProcessLauncher,), {"name": "mine", "distributions": ("mine",), "__doc__": "M."}
        )

    @hookimpl
    def modelyard_select_hardware(self, resources):
        return "cpu" if resources.instance_type == "ml.unheard-of.xlarge" else None

    @hookimpl
    def modelyard_select_launcher(self, distribution):
        return ProviderRef("mine") if "unheard_of" in distribution else None

    @hookimpl
    def modelyard_job_environ(self, host):
        return {"HOSTS": ",".join(host.names)}

    @hookimpl
    def modelyard_job_finished(self, description):
        assert description.status.is_terminal

    @hookimpl
    def modelyard_wrap_handler(self, handler):
        return lambda request: handler(request)


class TestEveryHook(PluginContract):
    plugin = EveryHook()
