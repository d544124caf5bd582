"""What a plugin does to an interpreter that imports and registers it, told by one that ends with that.

Run as ``python -m modelyard.testing.fresh TARGET FILE REPORT``.
"""

import importlib
import importlib.util
import json
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import attrs

from modelyard.core.discovery import installed
from modelyard.core.patches import Snapshot

HEAVY = ("boto3", "torch")
"""What listing plugins must not load."""

_APART = ("modelyard.compat.shims", "modelyard.testing")
"""Modules that belong to jobs, and those that run the tests."""


@attrs.frozen
class Report:
    """What came with a plugin. ``loaded``: heavy libraries; ``changed``: what it has done, in sentences."""

    loaded: Sequence[str]
    changed: Sequence[str]


def load(target: str, file: str = "") -> object:
    """Return a plugin by the name of its entry point, or its dotted name: ``package.module:name``.

    `file`: of the module, for one that only the tests can import by its name.
    """
    for found in installed():
        if found.name == target:
            return found.load()
    if not file:
        return pkgutil.resolve_name(target)
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if not f"{target}.".startswith(f"{error.name}."):
            raise
    return _module_of(target, Path(file))


def _module_of(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, f"{file} is no Python file"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(target: str, file: str, report: str) -> None:
    """Import and register the plugin, call its hooks of registration, and write the report."""
    from modelyard.core.manager import PluginManager

    _import_modelyard()
    snapshot, environ, folder = Snapshot(), dict(os.environ), Path.cwd()
    manager = PluginManager(strict=True)
    manager.register(load(target, file))
    _ = manager.statuses
    loaded = [name for name in HEAVY if name in sys.modules]
    changed = [f"changes os.environ[{name!r}]" for name in _changed(environ, os.environ)]
    changed += [f"changes the working directory to {str(Path.cwd())!r}"] if Path.cwd() != folder else []
    changed += snapshot.put_back(target.partition(".")[0])
    Path(report).write_text(json.dumps(attrs.asdict(Report(loaded, changed))), "utf-8")


def _import_modelyard() -> None:
    """Import all that a plugin might change."""
    import modelyard

    for module in pkgutil.walk_packages(modelyard.__path__, "modelyard."):
        if not module.name.startswith(_APART) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
