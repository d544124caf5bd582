"""Where plugins are found: a tuple of names for the built-in ones, entry points for the others."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator

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


_METADATA = (".dist-info", "egg-info")
_MENTION = f"[{GROUP}]".encode()


@attrs.frozen
class Found:
    """A plugin before it is loaded: its name, the way to import it, and its origin."""

    name: str
    load: Callable[[], object]
    distribution: str
    version: str


def builtins() -> Iterator[Found]:
    """Yield the built-in plugins."""
    from modelyard.__about__ import __version__

    for module in BUILTIN_PLUGINS:
        name = module.removesuffix(".plugin").removeprefix("modelyard.").replace("plugins.", "")
        yield Found(name, _importer(module), "modelyard", __version__)


def installed() -> Iterator[Found]:
    """Yield the plugins of installed distributions, by name."""
    if not any(map(_may_mention_plugins, sys.path)):
        return
    from importlib.metadata import entry_points

    for entry_point in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        dist = entry_point.dist
        origin = (dist.name, dist.version) if dist is not None else ("", "")
        yield Found(entry_point.name, entry_point.load, *origin)


def _importer(module: str) -> Callable[[], object]:
    return lambda: importlib.import_module(module)


def _may_mention_plugins(folder: str) -> bool:
    """Tell whether distributions in `folder` may have our entry points; what is no folder may.

    Importing ``importlib.metadata`` takes a quarter of the time that a job needs to start, and most
    machines have no plugin installed. This only looks for the group's name in the same files.
    """
    try:
        with os.scandir(folder or ".") as entries:
            found = [entry.path for entry in entries if entry.name.lower().endswith(_METADATA)]
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(_mentions(f"{path}/entry_points.txt") for path in found)


def _mentions(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path for each distribution costs more than the rest
            return _MENTION in file.read()
    except OSError:
        return False
