"""Find out what code has replaced in modules that are not its own, and put it back."""

import builtins
import sys

# As they are now: a plugin may replace those of `builtins`, which are looked at by means of these.
from builtins import callable, getattr, str, type  # noqa: A004, UP029
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from operator import is_
from types import ModuleType

_OURS = "modelyard"
_BUILTINS = vars(builtins)
_STREAMS = ("stderr", "stdin")
_HOOKS = ("displayhook", "excepthook", "exit", "unraisablehook", *_STREAMS)
"""Of `sys`; its stdout is another matter: see `modelyard.core.watching`."""
_GONE = object()
_SHOWN = 4

UNDONE = "which was undone"
LASTING = "which cannot be undone"
DOUBTFUL = "which may be another thread's"
"""What became of a replacement, for people."""

_Attribute = tuple[ModuleType | type, str, object]
"""What has it, its name, and its value at one moment."""


class Snapshot:
    """What others rely on, as it is now: the built-ins, hooks of `sys`, and what modelyard defines.

    Values are compared by identity and never called.
    """

    def __init__(self) -> None:
        self._builtins = {**_BUILTINS}
        self._hooks = {name: getattr(sys, name) for name in _HOOKS}
        self._modules = dict(_our_modules())
        self._holders = [
            (holder, dict(vars(holder))) for module in self._modules.values() for holder in _holders(module)
        ]

    def put_back(self, package: str, *, alone: bool = True) -> tuple[str, ...]:
        """Undo what the top-level package `package` has replaced or deleted since; tell of it in sentences.

        `alone`: no other code has run. Where some has, only what is replaced by something of the package
        is undone: the rest may be another thread's, which will undo it itself.
        Of modules that were loaded since it is not known what they were like: there, what is from the
        package is told and stays.
        """

        def is_its(attribute: _Attribute) -> bool:
            return alone or is_from(_now(attribute), package)

        changed = self._put_back_builtins(is_its)
        changed += [each for each in _changes(sys, self._hooks) if each[1] not in _STREAMS or is_its(each)]
        for holder, before in self._holders:
            if not _is_same(vars(holder), before):
                changed += [each for each in _changes(holder, before) if _is_definition(*each)]
        for holder, name, value in filter(is_its, changed):
            with suppress(Exception):
                setattr(holder, name, value)
        undone = [each for each in changed if not _differs(each)]
        lasting = [each for each in changed if _differs(each) and is_its(each)]
        lasting += self._from_package_in_new_modules(package)
        doubtful = [each for each in changed if _differs(each) and not is_its(each)]
        return (
            *_sentence(undone, UNDONE),
            *_sentence(lasting, LASTING),
            *_sentence(doubtful, DOUBTFUL),
        )

    def _put_back_builtins(self, is_its: Callable[[_Attribute], bool]) -> list[_Attribute]:
        """Put back what all code needs, without a call of any of it."""
        changed: list[_Attribute] = []
        for name, value in self._builtins.items():
            if _BUILTINS.get(name, _GONE) is not value:
                attribute = (builtins, name, value)
                changed.append(attribute)
                if is_its(attribute):
                    _BUILTINS[name] = value
        return changed

    def _from_package_in_new_modules(self, package: str) -> Iterator[_Attribute]:
        for name, module in _our_modules():
            if name not in self._modules:
                for holder in _holders(module):
                    for member, value in list(vars(holder).items()):
                        if callable(value) and is_from(value, package):
                            yield holder, member, value


def is_from(value: object, package: str) -> bool:
    """Tell whether a function, a class or an instance is defined in a top-level package."""
    # Nothing else is asked for its module: it may be a module that is imported when it is asked.
    definer = _module_of(value) if callable(value) else ""
    return package in (definer.partition(".")[0], _module_of(type(value)).partition(".")[0])


def _module_of(value: object) -> str:
    try:
        return str(getattr(value, "__module__", ""))
    except Exception:  # noqa: BLE001 - a third party's object, which may do anything
        return ""


def _our_modules() -> Iterator[tuple[str, ModuleType]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _OURS and isinstance(module, ModuleType):
            yield name, module


def _holders(module: ModuleType) -> Iterator[ModuleType | type]:
    """Yield a module and the classes that it defines."""
    yield module
    for value in list(vars(module).values()):
        if isinstance(value, type) and _module_of(value) == module.__name__:
            yield value


def _is_same(now: Mapping[str, object], before: Mapping[str, object]) -> bool:
    """Tell quickly whether nothing has changed, as is so of nearly all."""
    return len(now) == len(before) and all(map(is_, now.values(), before.values()))


def _changes(holder: ModuleType | type, before: Mapping[str, object]) -> Iterator[_Attribute]:
    now = vars(holder)
    for name, value in before.items():
        if now.get(name, _GONE) is not value:
            yield holder, name, value


def _is_definition(holder: ModuleType | type, name: str, value: object) -> bool:
    """Tell what is called, members and constants from variables, which may change."""
    if isinstance(holder, type):
        # `typing` itself changes the __init__ of a Protocol's heirs when one is made.
        is_member = callable(value) or hasattr(type(value), "__get__")
        return is_member and _module_of(value) != "typing"
    if name.isupper():
        return True
    # A variable may hold a function of the same module, under another name.
    return callable(value) and (
        getattr(value, "__name__", "") == name or _module_of(value) != holder.__name__
    )


def _now(attribute: _Attribute) -> object:
    holder, name, _ = attribute
    return holder.__dict__.get(name, _GONE)


def _differs(attribute: _Attribute) -> bool:
    return _now(attribute) is not attribute[2]


def _path(attribute: _Attribute) -> str:
    holder, name, _ = attribute
    if isinstance(holder, ModuleType):
        return f"{holder.__name__}.{name}"
    return f"{holder.__module__}.{holder.__qualname__}.{name}"


def _sentence(attributes: list[_Attribute], outcome: str) -> Iterator[str]:
    if attributes:
        paths = ", ".join(map(_path, attributes[:_SHOWN]))
        more = f" and {len(attributes) - _SHOWN} more" if len(attributes) > _SHOWN else ""
        yield f"replaces {paths}{more}, {outcome}"
