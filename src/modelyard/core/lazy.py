"""Modules that are imported when something of them is used for the first time."""

from importlib import import_module
from types import ModuleType


class _Unloaded(ModuleType):
    """Becomes the module of its name, for whoever has it, at the first look at an attribute."""

    def __getattr__(self, attribute: str) -> object:
        module = import_module(self.__name__)
        vars(self).update(vars(module))
        self.__class__ = ModuleType  # type: ignore[assignment]  # From now on as fast as any module.
        return getattr(module, attribute)


def lazy_module(name: str) -> ModuleType:
    """Return the module `name`, which is imported when it is used.

    For modules of classes that ``modelyard plugins list`` and every job look at, and of which they need
    no more than the names: numpy takes longer to import than all of modelyard.
    """
    return _Unloaded(name)
