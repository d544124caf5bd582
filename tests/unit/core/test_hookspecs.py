"""The hooks as a whole: documented, named alike, and each reachable through one method of the manager."""

import inspect
from functools import wraps
from pathlib import Path

import pytest

from modelyard.core import hookspecs
from modelyard.core.contracts import Host
from modelyard.core.errors import UnknownProviderError
from modelyard.core.kinds import KINDS
from modelyard.core.manager import PluginManager
from modelyard.core.plans import Resources

MARK = f"{hookspecs.PROJECT}_spec"
SPECS = {
    name: value
    for name, value in vars(hookspecs).items()
    if inspect.isfunction(value) and hasattr(value, MARK)
}
METHODS = {
    "modelyard_register_codecs": lambda plugins: plugins.codecs,
    "modelyard_register_hardware": lambda plugins: plugins.hardware,
    "modelyard_register_launchers": lambda plugins: plugins.launchers,
    "modelyard_register_packagers": lambda plugins: plugins.packagers,
    "modelyard_register_storages": lambda plugins: plugins.storages,
    "modelyard_register_backends": lambda plugins: plugins.backends,
    "modelyard_select_hardware": lambda plugins: plugins.select_hardware(Resources()),
    "modelyard_select_launcher": lambda plugins: plugins.select_launcher(Resources(), "cpu", None),
    "modelyard_select_backend": lambda plugins: plugins.select_backend(Resources()),
    "modelyard_select_packager": lambda plugins: plugins.select_packager(None),
    "modelyard_job_environ": lambda plugins: plugins.job_environ(Host("a", ("a",)), "cpu"),
    "modelyard_job_started": lambda plugins: plugins.job_started("plan"),
    "modelyard_job_finished": lambda plugins: plugins.job_finished("description"),
    "modelyard_model_loaded": lambda plugins: plugins.model_loaded("model", Path()),
    "modelyard_wrap_handler": lambda plugins: plugins.wrap_handler(print),
}

each_spec = pytest.mark.parametrize("name", SPECS)


def test_every_hook_has_a_method_of_the_manager():
    assert sorted(METHODS) == sorted(SPECS)


def test_every_kind_has_a_registration_hook():
    registrations = [name for name in SPECS if name.startswith("modelyard_register_")]
    assert [kind.hook for kind in KINDS] == registrations


@each_spec
def test_a_hook_is_prefixed(name):
    assert name.startswith("modelyard_")


@each_spec
def test_a_hook_is_documented(name):
    summary = inspect.getdoc(SPECS[name]).partition("\n")[0]
    assert summary.endswith(".")


@each_spec
def test_a_hook_is_typed(name):
    signature = inspect.signature(SPECS[name])
    assert signature.return_annotation is not signature.empty
    assert all(each.annotation is not each.empty for each in signature.parameters.values())


@each_spec
def test_the_manager_calls_the_hook_with_every_argument(name, plugin):
    calls = []

    @wraps(SPECS[name])
    def record(*arguments):
        calls.append(arguments)

    plugins = PluginManager()
    plugins.register(plugin(**{name: record}), "recorder")
    # Nothing is registered, so a selection that no plugin makes has nothing to fall back on.
    try:
        METHODS[name](plugins)
    except UnknownProviderError:
        assert "select" in name
    assert [len(arguments) for arguments in calls] == [len(inspect.signature(SPECS[name]).parameters)]
