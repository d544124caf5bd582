"""Modules that are imported when they are used, and what need not be imported to list the plugins."""

import subprocess
import sys

import pytest

from modelyard.core.lazy import lazy_module


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the name of a module that nobody has imported."""
    (tmp_path / "a_lazy_module.py").write_text("value = []\ndef __getattr__(name): return f'made {name}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "a_lazy_module"
    sys.modules.pop("a_lazy_module", None)


def test_a_module_is_imported_when_it_is_used(module):
    lazy = lazy_module(module)
    assert module not in sys.modules
    value = lazy.value
    assert value is sys.modules[module].value
    assert lazy.other == "made other"


def test_what_the_module_gets_later_is_there_too(module):
    lazy = lazy_module(module)
    _ = lazy.value
    sys.modules[module].late = later = object()
    assert lazy.late is later


def test_the_import_is_asked_once_for_each_attribute(module):
    lazy = lazy_module(module)
    value = lazy.value
    del sys.modules[module].value
    assert lazy.value is value


def test_an_attribute_that_the_module_has_not_is_told_with_its_name():
    with pytest.raises(AttributeError, match="module 'math' has no attribute 'nothing'"):
        lazy_module("math").nothing  # noqa: B018 - the look at it is the point


def test_a_module_that_is_not_there_is_told_when_it_is_used():
    lazy = lazy_module("a_module_that_does_not_exist")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="a_module_that_does_not_exist"):
            lazy.value  # noqa: B018 - the look at it is the point


def test_the_list_of_plugins_imports_neither_numpy_nor_torch_nor_boto3():
    program = (
        "import sys; from modelyard import PluginManager as P\n"
        "assert {status.error for status in P.builtin().statuses} == {''}\n"
        "print({'numpy', 'torch', 'boto3', 'importlib.metadata'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
