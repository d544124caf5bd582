"""What of the contract a plugin relies on: ``python -m tests.unit.core.frozen.snapshot`` prints it as JSON.

``contract_1_0.json`` is that of version 1.0. It is written anew for a new version only, and what was
added to the contract since does not belong into it.
"""

import enum
import inspect
import json
import sys

import attrs

from modelyard.core import contracts, errors, hookspecs, http, plans
from modelyard.hardware.torch import StackedInputs, TorchHardware
from modelyard.plugins.launchers import rank, torchrun_report

HANDED = ("Carrier", "SplicingCarrier")
"""Protocols that modelyard implements and plugins call; plugins implement the others."""

BASES = (TorchHardware, StackedInputs)
"""Classes that the documentation has plugins derive their own from."""

FUNCTIONS = (rank.as_rank, rank.literal, torchrun_report.first_failure)
"""What the documentation has plugins call besides."""


def contract():
    """Return the hooks, and all that plugins implement, derive from, make, read, call, raise and catch.

    A member is its arguments, or None where it is no function.
    """
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
        "values": {name: _arguments(each) for name, each in sorted(_classes(attrs.has).items())},
        "read": {name: _read(each) for name, each in sorted(_classes(_is_read).items()) if _read(each)},
        "enums": {
            name: {member.name: member.value for member in each}
            for name, each in sorted(_classes(_is_enum).items())
        },
        "bases": {_dotted(each): _members(each) for each in BASES},
        "functions": {_dotted(each): _arguments(each) for each in FUNCTIONS},
        "errors": {
            name: {"is": _ancestors(each), "made": _arguments_of_error(each)}
            for name, each in sorted(vars(errors).items())
            if inspect.isclass(each) and issubclass(each, errors.ModelyardError)
        },
    }


def _hooks():
    mark = f"{hookspecs.PROJECT}_spec"
    return {name: each for name, each in vars(hookspecs).items() if hasattr(each, mark)}


def _classes(is_one):
    return {
        name: each
        for module in (contracts, http, plans)
        for name, each in vars(module).items()
        if inspect.isclass(each) and each.__module__ == module.__name__ and is_one(each)
    }


def _is_enum(cls):
    return issubclass(cls, enum.Enum)


def _is_read(cls):
    return attrs.has(cls) or _is_enum(cls)


def _read(cls):
    """Return what values have besides the fields, or the members, that they are made of."""
    fields = attrs.fields_dict(cls) if attrs.has(cls) else cls.__members__
    ours = [each for each in cls.__mro__ if each.__module__.startswith("modelyard.")]
    return {name: taken for each in ours for name, taken in _members(each).items() if name not in fields}


def _members(cls):
    names = {*vars(cls), *inspect.get_annotations(cls)}
    members = {name: getattr(cls, name, None) for name in sorted(names) if not name.startswith("_")}
    return {name: _arguments(each) if inspect.isroutine(each) else None for name, each in members.items()}


def _dotted(each):
    return f"{each.__module__}.{each.__qualname__}"


def _ancestors(error):
    return [each.__name__ for each in error.__mro__[1:] if issubclass(each, Exception)]


def _arguments_of_error(error):
    """Return those of its own ``__init__``; without one it is made of a message."""
    return _arguments(error) if inspect.isfunction(error.__init__) else {"message": "by position"}


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
