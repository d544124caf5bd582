"""Find out what code has replaced in modules that are not its own, and put it back."""

import builtins
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType

_OURS = "modelyard"
_BUILTINS = vars(builtins)
_HOOKS = ("displayhook", "excepthook", "exit", "stderr", "stdin", "unraisablehook")
"""Of `sys`; its stdout is another matter: see `modelyard.core.watching`."""
_CODE = (FunctionType, type)
_MEMBERS = (FunctionType, property, staticmethod, classmethod)
_GONE = object()
_SHOWN = 4

_Attribute = tuple[ModuleType | type, str, object]
"""What has it, its name, and its value at one moment."""


class Attributes:
    """What others rely on, as it is now: the built-ins, hooks of `sys`, and what modelyard defines.

    Values are compared by identity and never called. It takes half a millisecond.
    """

    def __init__(self) -> None:
        self._builtins = {**_BUILTINS}
        self._hooks = {name: getattr(sys, name) for name in _HOOKS}
        self._modules = dict(_our_modules())
        self._holders = [
            (holder, dict(vars(holder)), [*map(id, vars(holder).values())])
            for module in self._modules.values()
            for holder in _holders(module)
        ]

    def put_back(self, package: str) -> tuple[str, ...]:
        """Undo what was replaced or deleted since, and return a sentence about it, or none.

        Of modules that were loaded since it is not known what they were like: there, what is from the
        top-level package `package` is told and stays.
        """
        replaced = self._put_back_builtins()
        replaced += _changes(sys, self._hooks)
        for holder, before, ids in self._holders:
            if [*map(id, vars(holder).values())] != ids:  # Which nearly all of them have.
                replaced += [each for each in _changes(holder, before) if _is_definition(*each)]
        for holder, name, value in replaced:
            with suppress(Exception):
                setattr(holder, name, value)
        undone = [_path(attribute) for attribute in replaced if not _differs(attribute)]
        left = [_path(attribute) for attribute in replaced if _differs(attribute)]
        left += map(_path, self._put_in(package))
        return (
            *_sentence(undone, "which was undone"),
            *_sentence(left, "which cannot be undone"),
        )

    def _put_back_builtins(self) -> list[_Attribute]:
        """Put back what all code needs, without a call of any of it."""
        replaced: list[_Attribute] = []
        for name, value in self._builtins.items():
            if _BUILTINS.get(name, _GONE) is not value:
                _BUILTINS[name] = value
                replaced.append((builtins, name, value))
        return replaced

    def _put_in(self, package: str) -> Iterator[_Attribute]:
        """Yield what in modules that were loaded since is from a package."""
        for name, module in _our_modules():
            if name not in self._modules:
                for holder in _holders(module):
                    for member, value in list(vars(holder).items()):
                        if isinstance(value, _CODE) and value.__module__.partition(".")[0] == package:
                            yield holder, member, value


def _our_modules() -> Iterator[tuple[str, ModuleType]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _OURS and isinstance(module, ModuleType):
            yield name, module


def _holders(module: ModuleType) -> Iterator[ModuleType | type]:
    """Yield a module and the classes that it defines."""
    yield module
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield value


def _changes(holder: ModuleType | type, before: Mapping[str, object]) -> Iterator[_Attribute]:
    now = vars(holder)
    for name, value in before.items():
        if now.get(name, _GONE) is not value:
            yield holder, name, value


def _is_definition(holder: ModuleType | type, name: str, value: object) -> bool:
    """Tell functions, classes, members and constants from variables, which may change."""
    if isinstance(holder, type):
        # `typing` itself changes the __init__ of a Protocol's heirs when one is made.
        return isinstance(value, _MEMBERS) and getattr(value, "__module__", "") != "typing"
    if name.isupper():
        return True
    # A variable may hold a function of the same module, under another name.
    return isinstance(value, _CODE) and (value.__name__ == name or value.__module__ != holder.__name__)


def _differs(attribute: _Attribute) -> bool:
    holder, name, value = attribute
    return vars(holder).get(name, _GONE) is not value


def _path(attribute: _Attribute) -> str:
    holder, name, _ = attribute
    if isinstance(holder, ModuleType):
        return f"{holder.__name__}.{name}"
    return f"{holder.__module__}.{holder.__qualname__}.{name}"


def _sentence(paths: list[str], outcome: str) -> Iterator[str]:
    if paths:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        yield f"replaces {', '.join(paths[:_SHOWN])}{more}, {outcome}"
