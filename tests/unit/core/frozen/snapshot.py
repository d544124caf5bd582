"""What of the contract a plugin relies on: ``python -m tests.unit.core.frozen.snapshot`` prints it as JSON.

``contract_1_0.json`` is that of version 1.0. It is written anew for a new version only, and what was
added to the contract since does not belong into it.
"""

import inspect
import json
import sys

import attrs

from modelyard.core import contracts, hookspecs, http, plans

HANDED = ("Carrier", "SplicingCarrier")
"""Protocols that modelyard implements and plugins call; plugins implement the others."""


def contract():
    """Return the hooks, the Protocols' members and the values' fields, each with its arguments."""
    protocols = {
        name: each
        for name, each in vars(contracts).items()
        if getattr(each, "_is_protocol", False) and each.__module__ == contracts.__name__
    }
    return {
        "hooks": {name: list(_arguments(each)) for name, each in _hooks().items()},
        "implemented": {
            name: _members(each) for name, each in sorted(protocols.items()) if name not in HANDED
        },
        "handed": {name: _members(protocols[name]) for name in HANDED},
        "values": {name: _arguments(each) for name, each in sorted(_values().items())},
    }


def _hooks():
    mark = f"{hookspecs.PROJECT}_spec"
    return {name: each for name, each in vars(hookspecs).items() if hasattr(each, mark)}


def _values():
    return {
        name: each
        for module in (contracts, http, plans)
        for name, each in vars(module).items()
        if inspect.isclass(each) and attrs.has(each) and each.__module__ == module.__name__
    }


def _members(protocol):
    names = {*vars(protocol), *inspect.get_annotations(protocol)}
    members = {name: getattr(protocol, name, None) for name in sorted(names) if not name.startswith("_")}
    return {name: _arguments(each) if inspect.isfunction(each) else None for name, each in members.items()}


def _arguments(function):
    """Return how each argument is passed, and whether it can be left out, by its name and in order."""
    return {
        name: f"{_PASSED[each.kind]}{'' if each.default is each.empty else ', optional'}"
        for name, each in inspect.signature(function).parameters.items()
        if name != "self"
    }


_PASSED = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "by position",
    inspect.Parameter.KEYWORD_ONLY: "by name",
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(contract(), indent=2) + "\n")
