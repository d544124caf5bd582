"""Keywords that only some backends have a use for: ``PyTorch(..., volume_size=50, subnets=[...])``.

Each is an option of a registered backend. It becomes an option of the plan's own backend where that
one has it, and is named in a note where it has not; what no backend knows is a typo.
"""

import inspect
import os
from collections.abc import Collection, Mapping
from typing import Any, Self

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.core.keywords import check_names
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef
from modelyard.core.values import thaw

_NOTHING: tuple[object, ...] = (None, False, 0, "", [], {})
"""What asks for nothing: no backend that cannot do it needs to say so."""

_log = get_logger(__name__)


def backend_options(plugins: PluginManager) -> dict[str, tuple[str, ...]]:
    """Return the options of the registered backends, each with the names of those that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for provider in plugins.backends:
        for option in inspect.signature(provider.cls).parameters:
            found[option] = (*found.get(option, ()), provider.name)
    return found


@attrs.define
class BackendKeywords:
    """What a caller gave for backends: plain values by the names of options.

    ``quiet``: what is handed on if the backend has a use for it, without a note otherwise.
    """

    plugins: PluginManager
    given: Mapping[str, Any] = attrs.field(factory=dict)
    quiet: Mapping[str, Any] = attrs.field(factory=dict)
    _noted: set[str] = attrs.field(factory=set, init=False)

    @classmethod
    def of(
        cls,
        plugins: PluginManager,
        options: Mapping[str, Any],
        *,
        called: str,
        known: Collection[str],
        quiet: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the keywords that a call was given beyond those that it knows.

        Raises ``TypeError`` for a name that neither the call nor any backend knows.
        """
        if options.keys() - known:
            check_names(called, options, {*known, *backend_options(plugins)})
        given = {name: _plain(name, value) for name, value in options.items() if value is not None}
        return cls(plugins, given, quiet or {})

    def merged(self, later: "BackendKeywords") -> "BackendKeywords":
        """Return these with what a later call says, which wins."""
        return BackendKeywords(self.plugins, {**self.given, **later.given}, {**self.quiet, **later.quiet})

    def only(self, names: Collection[str]) -> "BackendKeywords":
        """Return those of them that have one of these names, and the quiet ones."""
        given = {name: value for name, value in self.given.items() if name in names}
        return BackendKeywords(self.plugins, given, self.quiet)

    def applied(self, backend: ProviderRef) -> ProviderRef:
        """Return the backend with those of them as options that it has; the others are noted once.

        Raises `InvalidPlanError` for a value that the backend refuses, and for an option that the
        reference to the backend has with another value.
        """
        if not self.given and not self.quiet:
            return backend
        known = inspect.signature(self.plugins.backends.get(backend.name).cls).parameters
        own = {name: value for name, value in self.given.items() if name in known}
        for name, value in own.items():
            if name in backend.options and thaw(backend.options[name]) != value:
                raise InvalidPlanError(
                    f"the backend {backend.name!r} was given {name}={thaw(backend.options[name])!r}, and the "
                    f"keyword {name} is {value!r}: leave one of them out"
                )
        if note := self.note(backend):
            self._log(note)
        handed_on = {name: value for name, value in self.quiet.items() if name in known}
        options = {**handed_on, **backend.options, **own}
        return self.plugins.resolve("backend", ProviderRef(backend.name, options)) if options else backend

    def note(self, backend: ProviderRef) -> str:
        """Return which of them this backend has no use for, and which one has; empty for none."""
        having = backend_options(self.plugins)
        useless = [
            name
            for name, value in self.given.items()
            if backend.name not in having.get(name, ()) and value not in _NOTHING
        ]
        if not useless:
            return ""
        others = sorted({other for name in useless for other in having.get(name, ())})
        whose = f" ({'it is' if len(useless) == 1 else 'they are'} for {', '.join(map(repr, others))})"
        return f"the backend {backend.name!r} has no use for {', '.join(useless)}{whose if others else ''}"

    def _log(self, note: str) -> None:
        if note not in self._noted:
            self._noted.add(note)
            _log.warning(note)


def _plain(name: str, value: object) -> Any:
    """Return a value as JSON knows it. Raises `InvalidPlanError` for one that it cannot carry."""
    plain = _jsonable(value)
    if plain is NotImplemented:
        raise InvalidPlanError(
            f"{name} is a {type(value).__name__}, which a plan cannot carry: give strings, numbers, "
            "booleans, and lists and dicts of these"
        )
    return plain


def _jsonable(value: object) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if as_request := getattr(value, "_to_request_dict", None):  # So SDK v2's objects say what they are.
        return _jsonable(as_request())
    if attrs.has(type(value)):
        return thaw(value)
    if isinstance(value, Mapping):
        items = {key: _jsonable(item) for key, item in value.items()}
        whole = all(isinstance(key, str) for key in items) and NotImplemented not in items.values()
        return items if whole else NotImplemented
    if isinstance(value, (list, tuple)):
        listed = [_jsonable(item) for item in value]
        return NotImplemented if NotImplemented in listed else listed
    return value if value is None or isinstance(value, (str, int, float)) else NotImplemented
