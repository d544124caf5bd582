import importlib
import sys
from types import SimpleNamespace

import pytest

from modelyard.core import discovery, kinds
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager

CODEC_PLUGIN = """
from modelyard import hookimpl

class ThirdPartyCodec:
    name = "{name}"
    media_types = ("application/x-{name}",)

    def __init__(self, level=1):
        self.level = level

    def encode(self, value):
        return b""

    def decode(self, body):
        return None

@hookimpl
def modelyard_register_codecs():
    return [ThirdPartyCodec]
"""


class Site:
    """A folder on sys.path into which distributions are installed, as pip leaves them behind."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def install(self, distribution, source, *, plugin=None, version="1.0", target=None):
        module = distribution.replace("-", "_")
        self.modules.append(module)
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        entry_point = f"{plugin or distribution} = {target or module}"
        (info / "entry_points.txt").write_text(f"[modelyard]\n{entry_point}\n")
        importlib.invalidate_caches()

    def install_codec(self, distribution, name, **options):
        self.install(distribution, CODEC_PLUGIN.format(name=name), **options)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    site = Site(folder)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def discover(monkeypatch):
    """Discover the third parties alone: these tests are about the kernel, not about built-ins."""
    monkeypatch.setattr(discovery, "BUILTIN_PLUGINS", ())
    return lambda **environ: PluginManager.discover(environ)


@pytest.fixture
def plugin():
    """Return a plugin with these hooks."""
    return lambda **hooks: SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


def _takes_options(self, *, processes=1, level=1):
    pass


@pytest.fixture
def provider():
    """Return a provider class of a kind: every member of its Protocol, doing nothing."""

    def make(word, name, **declared):
        kind = next(kind for kind in kinds.KINDS if kind.word == word)
        members = dict.fromkeys(kinds.members(kind.protocol), ())
        return type(
            f"{name.title()}{word.title()}",
            (),
            {**members, "__init__": _takes_options, "name": name, **declared},
        )

    return make


@pytest.fixture
def providing(plugin, provider):
    """Return a plugin that registers one provider for each name."""

    def make(word, *names, **declared):
        kind = next(kind for kind in kinds.KINDS if kind.word == word)
        classes = [provider(word, name, **declared) for name in names]
        return plugin(**{kind.hook: lambda: classes})

    return make
