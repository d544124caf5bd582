"""The six nouns as a table, and the checks of a plugin and of what it registers as one of them."""

import inspect
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from modelyard.core.contracts import (
    CONTRACT_VERSION,
    Backend,
    Codec,
    Hardware,
    Launcher,
    Packager,
    Storage,
)
from modelyard.core.errors import ContractVersionError
from modelyard.core.media_types import fault_of


class Kind(NamedTuple):
    """One of the six nouns: its word, its Protocol and its registration hook."""

    word: str
    protocol: type
    hook: str


KINDS = (
    Kind("codec", Codec, "modelyard_register_codecs"),
    Kind("hardware", Hardware, "modelyard_register_hardware"),
    Kind("launcher", Launcher, "modelyard_register_launchers"),
    Kind("packager", Packager, "modelyard_register_packagers"),
    Kind("storage", Storage, "modelyard_register_storages"),
    Kind("backend", Backend, "modelyard_register_backends"),
)


CHOOSING = ("media_types", "distributions", "schemes", "instance_types", "accelerator_types", "suffixes")
"""What classes declare to be chosen by."""
DECLARED = (*CHOOSING, "collectives")
"""All that classes declare, each a tuple of strings."""
_MEANT_OTHERWISE = ("suffixes",)
"""What a class that was written before it was declared may have as something else."""

NAME = re.compile(r"[a-z][a-z0-9_.-]*")
"""Of a provider."""
_PLUGIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"(\d+)\.(\d+)")

CONTRACT = "MODELYARD_CONTRACT"
"""The variable of a plugin module that says for which contract it was written: ``"1.0"``."""


def check_plugin(name: str, plugin: object, distribution: str = "") -> None:
    """Check what can be known of a plugin before it is asked anything.

    Raises ``ValueError`` for a name that ``MODELYARD_PLUGINS_DISABLED`` could not hold, ``TypeError``
    for an entry point that leads nowhere, and `ContractVersionError`.
    """
    if not _PLUGIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a plugin: take a letter, then letters, digits, _, - and .")
    if plugin is None:
        raise TypeError("its entry point leads to None, not to a module or an object with hooks")
    _check_contract(getattr(plugin, CONTRACT, None), distribution)


def _check_contract(built_for: object, distribution: str) -> None:
    if built_for is None:
        return
    match = _VERSION.fullmatch(built_for) if isinstance(built_for, str) else None
    if match is None:
        raise ContractVersionError(
            f'{CONTRACT} must be a version such as "{CONTRACT_VERSION}", not {built_for!r}'
        )
    if _version(match[0]) > _version(CONTRACT_VERSION):
        raise ContractVersionError(
            f"it is built for version {built_for} of modelyard's contract, and this modelyard has "
            f"{CONTRACT_VERSION}: pip install -U modelyard, or install an older release of "
            f"{distribution or 'the plugin'}"
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def check_classes(kind: Kind, classes: Any) -> tuple[type, ...]:
    """Return the classes that a registration hook gave, if each has the members of its Protocol.

    Raises ``TypeError`` that says what is wrong with which class.
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise TypeError(f"{kind.hook} must return an iterable of classes, not {classes!r}")
    checked = tuple(classes)
    for cls in checked:
        if not isinstance(cls, type):
            raise TypeError(f"{kind.hook} must return classes, not {cls!r}")
        _check_name(kind, cls)
        for attribute in DECLARED:
            declared = getattr(cls, attribute, ())
            if not is_declaration(declared) and attribute not in _MEANT_OTHERWISE:
                said = f"{cls.__qualname__}.{attribute} must be a tuple of strings"
                raise TypeError(f"{said}, not {declared!r}")
        _check_media_types(cls)
        missing = [member for member in members(kind.protocol) if not hasattr(cls, member)]
        if missing:
            raise TypeError(f"{cls.__qualname__} is not a {kind.word}: it lacks {', '.join(missing)}")
    return checked


def _check_name(kind: Kind, cls: type) -> None:
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise TypeError(f'{cls.__qualname__} has no name: a {kind.word} class needs `name = "..."`')
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a {kind.word}: take a lower-case letter, then such letters, digits, "
            "_, - and ."
        )


def _check_media_types(cls: type) -> None:
    """Refuse what no request would ever find."""
    for text in getattr(cls, "media_types", ()):
        if fault := fault_of(text):
            raise ValueError(f"{cls.__qualname__}.media_types: {fault}")


def is_declaration(value: object) -> bool:
    """Tell whether a class's attribute is such as `DECLARED` are."""
    return isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value)


def members(protocol: type) -> list[str]:
    """Return the names that a Protocol requires, sorted."""
    names = {*vars(protocol), *inspect.get_annotations(protocol)}
    return sorted(name for name in names if not name.startswith("_"))
