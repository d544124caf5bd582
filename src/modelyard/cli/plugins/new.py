"""``modelyard plugins new``: the skeleton of a distribution, complete and passing its tests."""

import argparse
import keyword
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from modelyard.core.contracts import CONTRACT_VERSION
from modelyard.core.errors import InvalidPlanError
from modelyard.core.kinds import KINDS

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from modelyard.core.manager import PluginManager

MIDDLEWARE = "middleware"
"""What is no provider: a function around the requests of an endpoint."""

_ROLES: Mapping[str, str] = {
    "codec": "the format: from values to bytes, and back",
    "hardware": "the device: how many there are, and how a model gets there",
    "launcher": "the command that each host runs",
    "packager": "the archives of source code and models",
    "storage": "the files behind URIs",
    "backend": "where jobs and endpoints run",
    MIDDLEWARE: "what happens around each request",
}


def run(options: argparse.Namespace) -> int:
    """Write the skeleton, and say what there is now and what to do with it."""
    from modelyard.cli.plugins.quiet import discovered

    check_name(options.kind, options.name, discovered())
    facts = facts_of(options.kind, options.name)
    folder = Path(options.directory or facts["distribution"])
    files = dict(skeleton(options.kind, facts))
    write(files, folder)
    print(f"{folder}: the {options.kind} {options.name!r}, as the distribution {facts['distribution']}")
    print("\n".join(f"  {name}" for name in files))
    print("\nnext:")
    print(f"  cd {shlex.quote(str(folder))}")
    print("  python -m pip install -e '.[test]'")
    print("  python -m pytest")
    print(f"  modelyard plugins show {options.name}")
    return 0


def check_name(kind: str, name: str, plugins: "PluginManager") -> None:
    """Raise `InvalidPlanError` where a provider, or its package, cannot have that name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_"):
        plain = re.sub(r"\W+|_{2,}", "_", name.lower(), flags=re.ASCII).strip("_0123456789")
        hint = f", as {plain!r}" if plain and plain != name else ""
        raise InvalidPlanError(
            f"{name!r} cannot name a plugin: its package is called after it, so it has lower-case "
            f"letters, digits and underscores, and begins with a letter{hint}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise InvalidPlanError(f"{name!r} is a word of Python's own; take another name")
    # Looked at first: the built-in csv and json are modules of Python's too.
    if taken := _provided(kind, name, plugins):
        raise InvalidPlanError(f"{taken}; take another name, or uninstall that first")
    if name in sys.stdlib_module_names:
        raise InvalidPlanError(f"{name!r} is a module of Python's own, which it would be taken for")


def _provided(kind: str, name: str, plugins: "PluginManager") -> str:
    """Return who has the name already: a provider of that kind, or a plugin; empty where nobody."""
    if kind != MIDDLEWARE:
        for provider in plugins.registry(kind):
            if provider.name == name:
                return f"there is a {kind} called {name!r} already, of {provider.source}"
    for status in plugins.statuses:
        if status.plugin == name:
            source = f"{status.distribution} {status.version}".strip() or "somebody"
            return f"there is a plugin called {name!r} already, of {source}"
    return ""


def facts_of(kind: str, name: str) -> dict[str, str]:
    """Return what the templates are filled with."""
    provider = next((known for known in KINDS if known.word == kind), None)
    hyphened = name.replace("_", "-")
    return {
        "kind": kind,
        "name": name,
        "hyphened": hyphened,
        "variable": name.upper(),
        "module": f"modelyard_{name}",
        "distribution": f"modelyard-{hyphened}",
        "cls": "".join(part.capitalize() for part in f"{name}_{kind}".split("_")),
        "contract": CONTRACT_VERSION,
        "protocol": provider.protocol.__name__ if provider else "",
        "hook": provider.hook if provider else "",
        "file": _ROLES[kind],
    }


def skeleton(kind: str, facts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the content of each file of a distribution by its name."""
    root = resources.files(__package__) / "skeleton"

    def filled(name: str) -> str:
        special = root / kind / f"{name}.in"
        template: Traversable = special if special.is_file() else root / "common" / f"{name}.in"
        return Template(template.read_text("utf-8")).substitute(facts)

    package = f"src/{facts['module']}"
    about = filled("about.md").strip()
    yield "pyproject.toml", filled("pyproject.toml")
    readme = (root / "common" / "README.md.in").read_text("utf-8")
    yield "README.md", Template(readme).substitute(facts, about=about)
    yield f"{package}/__init__.py", filled("__init__.py")
    yield f"{package}/plugin.py", filled("plugin.py")
    yield f"{package}/{kind}.py", filled("impl.py")
    yield f"{package}/py.typed", ""
    yield f"tests/test_{facts['name']}.py", filled("test.py")


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files into the new or empty folder; nothing is ever overwritten.

    Raises `InvalidPlanError` where there is something already, or where it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidPlanError(f"'{folder}' is there already: give another place with --directory")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
    except OSError as error:
        raise InvalidPlanError(f"'{folder}' cannot be written: {error}") from error
