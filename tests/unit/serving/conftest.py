import os
import sys
import textwrap
from pathlib import Path

import pytest

from modelyard.core.http import Request
from modelyard.core.manager import PluginManager
from modelyard.hardware.cpu import CpuHardware
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model.handler import Options, build_handler


@pytest.fixture(autouse=True)
def _as_before():
    """Undo what loading an inference script does to its process."""
    folder, path, modules = Path.cwd(), sys.path[:], set(sys.modules)
    yield
    os.chdir(folder)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        # Only the scripts' own: numpy, say, must not be imported a second time.
        if not _is_installed(sys.modules[name]):
            del sys.modules[name]


def _is_installed(module):
    file = getattr(module, "__file__", None)
    return file is None or file.startswith((sys.prefix, sys.base_prefix)) or "modelyard" in file


class ModelFolder:
    """A model folder as it is unpacked from an archive."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def write(self, name, source=""):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    def script(self, source, name="code/inference.py"):
        return self.write(name, source)


@pytest.fixture
def model(tmp_path):
    return ModelFolder(tmp_path / "model")


def nothing_to_unpack(archive, into):
    raise AssertionError(f"{archive} was not to be unpacked")


@pytest.fixture
def build(model):
    """Build the handler of the model folder, with these plugins besides the built-in ones."""

    def make(source=None, *plugins, hardware=None, program="", **options):
        if source is not None:
            model.script(source)
        manager = PluginManager.builtin()
        for number, plugin in enumerate(plugins):
            manager.register(plugin, f"plugin-{number}")
        folder = model_folder.find(model.path, nothing_to_unpack, model.path.parent, program=program)
        return build_handler(folder, manager, hardware or CpuHardware(), Options(**options))

    return make


@pytest.fixture
def ask(build):
    """Build the handler of a script and ask it once."""

    def make(
        source,
        body=b"[1, 2]",
        content_type="application/json",
        accept="",
        headers=None,
        plugins=(),
        **options,
    ):
        handler = build(source, *plugins, **options)
        return handler(Request(body, content_type, accept, headers or {}, "id-1"))

    return make
