"""Providers of one kind by name: looked up once, with errors that help."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar, cast

import attrs

from modelyard.core.errors import (
    InvalidPlanError,
    ModelyardError,
    ProviderConflictError,
    UnknownProviderError,
    did_you_mean,
)
from modelyard.core.kinds import is_declaration
from modelyard.core.plans import ProviderRef

P = TypeVar("P")


@attrs.frozen
class Provider(Generic[P]):
    """A provider class and where it came from.

    ``plugin``: the name it was registered under; ``distribution`` and ``version``: of the package
    that brought it, empty for a plugin that was registered by hand.
    """

    kind: str
    cls: type[P]
    plugin: str
    distribution: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """The provider's identity."""
        return cast(str, cast(Any, self.cls).name)

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of modelyard's own."""
        return self.distribution == "modelyard"

    @property
    def source(self) -> str:
        """The distribution and its version, for people."""
        return f"{self.distribution} {self.version}".strip() or self.plugin

    def declares(self, attribute: str) -> tuple[str, ...]:
        """Return a tuple that the class declares (media types, schemes, instance types)."""
        declared = getattr(self.cls, attribute, ())
        return tuple(declared) if is_declaration(declared) else ()

    def create(self, options: Mapping[str, Any] | None = None) -> P:
        """Return an instance with these options. Raises `InvalidPlanError` for one that it does not take."""
        self._check(options or {})
        try:
            return self.cls(**(options or {}))
        except (TypeError, ValueError) as error:
            if isinstance(error, ModelyardError):
                raise
            # Those of attrs' own validators have more arguments, which nobody wants to read.
            said = next(iter(error.args), type(error).__name__)
            given = ", ".join(f"{name}={value!r}" for name, value in (options or {}).items())
            what = f"does not take {given}" if given else "is not made without options"
            raise InvalidPlanError(f"{self.kind} {self.name!r} {what}: {said}") from error

    def ref(self, options: Mapping[str, Any] | None = None) -> ProviderRef:
        """Return what a plan records of this provider. Raises what `create` raises."""
        if options:
            self.create(options)
        return ProviderRef(self.name, options or {}, self.distribution, self.version)

    def _check(self, options: Mapping[str, Any]) -> None:
        known = inspect.signature(self.cls).parameters if options else {}
        for option in options:
            if option not in known:
                raise InvalidPlanError(
                    f"{self.kind} {self.name!r} has no option {option!r}{did_you_mean(option, known)}"
                )


class Registry(Generic[P]):
    """All providers of one kind. A name that two plugins provide is an error when it is used."""

    def __init__(
        self, kind: str, providers: tuple[Provider[P], ...], note: Callable[[], str] = lambda: ""
    ) -> None:
        self.kind = kind
        self._providers = providers
        self._note = note

    def __iter__(self) -> Iterator[Provider[P]]:
        return iter(self._providers)

    def names(self) -> tuple[str, ...]:
        """Return the registered names, sorted, each once."""
        return tuple(sorted({provider.name for provider in self._providers}))

    def get(self, name: str) -> Provider[P]:
        """Return the provider of that name.

        Raises `UnknownProviderError` with the closest name and the plugins that failed to load, and
        `ProviderConflictError` where two plugins provide it.
        """
        found = [provider for provider in self._providers if provider.name == name]
        if not found:
            hint = did_you_mean(name, self.names())
            raise UnknownProviderError(f"no {self.kind} is called {name!r}{hint}{self._note()}")
        return self._only(found, f"the {self.kind} {name!r}")

    def create(self, ref: ProviderRef | str) -> P:
        """Return an instance of the provider that `ref` names, with its options."""
        if isinstance(ref, str):
            return self.get(ref).create()
        return self.get(ref.name).create(ref.options)

    def declaring(self, attribute: str, value: str, *, pattern: bool = False) -> Provider[P] | None:
        """Return the one provider whose tuple `attribute` holds `value`, or None.

        With `pattern` the tuple holds shell-style patterns. What is merely installed takes nothing from a
        built-in provider. Raises `ProviderConflictError` for two.
        """
        match = fnmatchcase if pattern else str.__eq__
        found = [p for p in self if any(match(value, item) for item in p.declares(attribute))]
        if any(p.is_builtin for p in found):
            found = [p for p in found if p.is_builtin or not p.distribution]
        return self._only(found, f"{value!r} ({attribute} of a {self.kind})") if found else None

    def declared(self, attribute: str) -> tuple[str, ...]:
        """Return everything that the providers declare under `attribute`, sorted, each once."""
        return tuple(sorted({item for provider in self for item in provider.declares(attribute)}))

    def note(self) -> str:
        """Return the end of an error message that names the plugins that failed to load."""
        return self._note()

    def _only(self, found: list[Provider[P]], what: str) -> Provider[P]:
        if len(found) > 1:
            sources = " and ".join(f"{p.source} (plugin {p.plugin!r})" for p in found)
            names = ",".join(p.plugin for p in found[1:])
            raise ProviderConflictError(
                f"{what} is provided by {sources}; uninstall one of them, or turn one off with "
                f"MODELYARD_PLUGINS_DISABLED={names}"
            )
        return found[0]
