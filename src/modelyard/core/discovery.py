"""Where plugins are found: a tuple of names for the built-in ones, entry points for the others.

The files with the entry points are read here: ``importlib.metadata`` takes longer to import than all of
this package's core. It is asked where distributions may be elsewhere than in folders.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import PathFinder

import attrs

GROUP = "modelyard"
"""The entry-point group of third-party plugins."""

BUILTIN_PLUGINS = (
    "modelyard.serializers.plugin",
    "modelyard.hardware.plugin",
    "modelyard.plugins.launchers.plugin",
    "modelyard.plugins.packagers.plugin",
    "modelyard.plugins.storage.plugin",
    "modelyard.plugins.backends.plugin",
)
"""Found by name, not by metadata, so that they work where the package was merely copied."""

_METADATA = (".dist-info", ".egg-info")
_IN_AN_EGG = "egg-info"
_SEPARATORS = re.compile(r"[-_.]+")
_MENTION = f"[{GROUP}]".encode()


@attrs.frozen
class Found:
    """A plugin before it is loaded: its name, the way to import it, and its origin.

    ``package``: the top-level package of a third party's plugin; empty for the others.
    """

    name: str
    load: Callable[[], object]
    distribution: str = ""
    version: str = ""
    package: str = ""


def builtins() -> Iterator[Found]:
    """Yield the built-in plugins."""
    from modelyard.__about__ import __version__

    for module in BUILTIN_PLUGINS:
        name = module.removesuffix(".plugin").removeprefix("modelyard.").replace("plugins.", "")
        yield Found(name, _importer(module), "modelyard", __version__)


def installed() -> Iterator[Found]:
    """Yield the plugins of installed distributions, by name."""
    found = _from_folders(sys.path) if _are_found_by_path() else None
    yield from sorted(_from_metadata() if found is None else found, key=lambda each: each.name)


def _are_found_by_path() -> bool:
    """Tell whether all distributions are below `sys.path`: no other finder knows of any."""
    return all(finder is PathFinder or not hasattr(finder, "find_distributions") for finder in sys.meta_path)


def _from_folders(path: Iterable[str]) -> list[Found] | None:
    """Return the plugins of the distributions in these folders; None where one is no folder.

    Of two distributions of one name the first one counts, as for ``importlib.metadata``.
    """
    found: list[Found] = []
    seen: set[str] = set()
    for folder in path:
        try:
            infos = _infos(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        for info in infos:
            key = _key(info)
            if key not in seen:
                seen.add(key)
                found += _in_distribution(info.path)
    return found


def _infos(folder: str) -> list["os.DirEntry[str]"]:
    """Return the metadata of the distributions in a folder, that of an egg last. Raises `OSError`."""
    is_egg = folder.lower().endswith(".egg")
    with os.scandir(folder or ".") as entries:
        found = [(each.name.lower(), each) for each in entries]
    infos = [each for name, each in found if name.endswith(_METADATA)]
    return infos + [each for name, each in found if is_egg and name == _IN_AN_EGG]


def _key(info: "os.DirEntry[str]") -> str:
    """Return the name by which a distribution is the same as another one."""
    stem, form = os.path.splitext(info.name)  # noqa: PTH122
    name = stem.partition("-")[0] if form in _METADATA else ""
    return _SEPARATORS.sub("_", name or _origin(info.path)[0] or info.path).lower()


def _in_distribution(info: str) -> Iterator[Found]:
    text = _read(f"{info}/entry_points.txt")
    if _MENTION not in text:
        return
    name, version = _origin(info)
    section = ""
    for line in map(str.strip, text.decode("utf-8", "replace").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == GROUP and "=" in line and not line.startswith("#"):
            label, _, value = line.partition("=")
            yield _found(label.strip(), value.strip(), name, version)


def _origin(info: str) -> tuple[str, str]:
    """Return the name and the version that a distribution's metadata gives, as far as it does."""
    head = _read(f"{info}/METADATA") or _read(f"{info}/PKG-INFO")
    fields = {"name": "", "version": ""}
    for line in head.decode("utf-8", "replace").splitlines():
        if line.startswith((" ", "\t")):
            continue  # It goes on with the header before it.
        key, colon, value = line.partition(":")
        if not colon:
            break  # The headers end with an empty line.
        fields[key.lower()] = fields.get(key.lower()) or value.strip()
    return fields["name"], fields["version"]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path for each distribution costs more than the rest
            return file.read()
    except OSError:
        return b""


def _from_metadata() -> Iterator[Found]:
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=GROUP):
        dist = entry_point.dist
        origin = (dist.name, dist.version) if dist is not None else ("", "")
        yield _found(entry_point.name, entry_point.value, *origin)


def _found(name: str, value: str, distribution: str, version: str) -> Found:
    """Return the plugin of one entry point, ``module`` or ``module:object``."""
    target = value.partition("[")[0].strip()
    package = target.partition(":")[0].partition(".")[0].strip()
    return Found(name, _importer(target), distribution, version, package)


def _importer(target: str) -> Callable[[], object]:
    def load() -> object:
        module, _, path = target.partition(":")
        plugin: object = importlib.import_module(module.strip())
        for name in path.split(".") if path else ():
            plugin = getattr(plugin, name.strip())
        return plugin

    return load
