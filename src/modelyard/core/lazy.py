"""Modules that are imported when something of them is used for the first time."""

from importlib import import_module
from types import ModuleType


def lazy_module(name: str) -> ModuleType:
    """Return the module `name`, which is imported when it is used.

    For modules of classes that ``modelyard plugins list`` and every job look at, and of which they need
    no more than the names: numpy takes longer to import than all of modelyard.
    """
    lazy = ModuleType(name)

    def look_up(attribute: str) -> object:
        value = getattr(import_module(name), attribute)
        setattr(lazy, attribute, value)  # From now on found without this function.
        return value

    # Python asks it for what the module does not have. A subclass's method would slow down each look.
    lazy.__getattr__ = look_up  # type: ignore[method-assign]
    return lazy
