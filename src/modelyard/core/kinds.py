"""The six nouns as a table, and the check of what a plugin registers as one of them."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

from modelyard.core.contracts import Backend, Codec, Hardware, Launcher, Packager, Storage


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


_TUPLES = (
    "accelerator_types",
    "collectives",
    "distributions",
    "instance_types",
    "media_types",
    "schemes",
)


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
        if not isinstance(getattr(cls, "name", None), str) or not getattr(cls, "name", None):
            raise TypeError(f'{cls.__qualname__} has no name: a {kind.word} class needs `name = "..."`')
        for attribute in _TUPLES:
            if isinstance(getattr(cls, attribute, ()), str):
                raise TypeError(f"{cls.__qualname__}.{attribute} must be a tuple of strings, not a string")
        missing = [member for member in _members(kind.protocol) if not hasattr(cls, member)]
        if missing:
            raise TypeError(f"{cls.__qualname__} is not a {kind.word}: it lacks {', '.join(missing)}")
    return checked


def _members(protocol: type) -> list[str]:
    names = {*vars(protocol), *inspect.get_annotations(protocol)}
    return sorted(name for name in names if not name.startswith("_"))
