"""The plugins that were loaded, and the calls of their hooks: the only module that calls pluggy.

What it promises: one broken plugin (an import error, an unknown hook, a hook that raises, a wrong
object) becomes a row of `PluginHost.statuses` and a note on later errors, and everything else works.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import pluggy

from modelyard.core import hookspecs
from modelyard.core.contracts import Backend, Codec, Hardware, Launcher, Packager, Storage
from modelyard.core.discovery import Found
from modelyard.core.errors import BrokenPluginError, UnknownProviderError, did_you_mean
from modelyard.core.kinds import CHOOSING, KINDS, Kind, check_classes, check_plugin
from modelyard.core.log import get_logger
from modelyard.core.registry import Provider, Registry
from modelyard.core.statuses import PluginStatus, described

_NO_HOOK = "has no hook of modelyard's"

_log = get_logger(__name__)


class PluginHost:
    """Which plugins there are, what they provide, and each one's answer to a hook."""

    def __init__(self, *, strict: bool = False) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._strict = strict
        self._found: dict[str, Found] = {}
        self._statuses: dict[str, PluginStatus] = {}
        self._registries: dict[str, Registry[Any]] = {}

    # -- adding plugins ------------------------------------------------------------------------

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or any object with hook implementations.

        A plugin that is broken is raised here as `BrokenPluginError`: its author is the caller.
        """
        label = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        status = self._add(Found(label, lambda: plugin))
        if wrong := status.error or ("" if self._pluggy.get_hookcallers(plugin) else _without_hooks(plugin)):
            raise BrokenPluginError(f"plugin {label!r}: {wrong}")

    def _add(self, found: Found, *, disabled: bool = False) -> PluginStatus:
        status = PluginStatus(found.name, found.distribution, found.version)
        other = self._statuses.get(found.name)
        if other is not None:
            status.plugin = f"{found.name}#{len(self._statuses)}"
        self._statuses[status.plugin] = status
        if disabled:
            status.state = "disabled"
            return status
        if other is not None:
            whose = f", of {other.source}: uninstall one of them" if other.distribution else ""
            self._fail(status, ValueError(f"a plugin called {found.name!r} is loaded already{whose}"))
            return status
        self._found[found.name] = found
        try:
            with self._watched(found.name):
                self._load(found, status)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, without harm to others
            if self._pluggy.has_plugin(found.name):
                self._pluggy.unregister(name=found.name)
            self._fail(status, error)
        self._registries.clear()
        return status

    def _load(self, found: Found, status: PluginStatus) -> None:
        plugin = found.load()
        check_plugin(found.name, plugin, found.distribution)
        if other := self._pluggy.get_name(plugin):
            raise ValueError(f"what its entry point leads to is loaded already, as plugin {other!r}")
        with warnings.catch_warnings(record=True) as deprecations:
            warnings.simplefilter("always")
            self._pluggy.register(plugin, name=found.name)
        for warning in deprecations:
            text = f"plugin {status.plugin!r} ({status.source}): {warning.message}"
            status.note(f"{warning.category.__name__}: {warning.message}")
            warnings.warn_explicit(text, warning.category, warning.filename, warning.lineno)
        self._check_hooks(found.name)

    def _check_hooks(self, name: str) -> None:
        known = [spec for spec in dir(hookspecs) if spec.startswith("modelyard_")]
        callers = self._pluggy.get_hookcallers(self._pluggy.get_plugin(name)) or ()
        for caller in callers:
            own = [impl for impl in caller.get_hookimpls() if impl.plugin_name == name]
            if not caller.has_spec() and not all(impl.optionalhook for impl in own):
                hint = did_you_mean(caller.name, known)
                raise AttributeError(
                    f"no hook is called {caller.name!r}{hint}. If a newer modelyard has it: pip install -U "
                    "modelyard, or mark it by hookimpl.options(optionalhook=True)"
                )
            if any(impl.hookwrapper or impl.wrapper for impl in own):
                raise TypeError(f"{caller.name} is a hook wrapper; each hook is called on its own here")
        if not callers:
            self._statuses[name].note(_without_hooks(self.plugin(name)))

    def _watched(self, name: str, doing: str = "import") -> AbstractContextManager[None]:
        """Return the watch over a plugin's code, which only a third party's needs."""
        found = self._found[name]
        if not found.package:
            return nullcontext()
        from modelyard.core.watching import Watch  # Most machines have no plugin installed.

        return Watch(self._statuses[name], found.package, doing)

    def _fail(self, status: PluginStatus, error: BaseException, *, observing: bool = False) -> None:
        status.state = "failed"
        status.error = described(error)
        if self._strict and not observing:
            raise BrokenPluginError(f"plugin {status.plugin!r}: {status.error}") from error
        # What an observer was to do is not done: nobody will look it up in a list.
        (_log.error if observing else _log.warning)("plugin failed", plugin=status.plugin, error=status.error)

    def _reject(self, plugin: str, why: str) -> None:
        self._fail(self._statuses[plugin], TypeError(why))

    # -- what there is -------------------------------------------------------------------------

    @property
    def statuses(self) -> tuple[PluginStatus, ...]:
        """Every plugin that was found, in the order of loading; all hooks of registration called."""
        for kind in KINDS:
            self.registry(kind.word)
        return tuple(self._statuses.values())

    @property
    def codecs(self) -> Registry[Codec]:
        """The codecs."""
        return self.registry("codec")

    @property
    def hardware(self) -> Registry[Hardware]:
        """The kinds of hardware."""
        return self.registry("hardware")

    @property
    def launchers(self) -> Registry[Launcher]:
        """The launchers."""
        return self.registry("launcher")

    @property
    def packagers(self) -> Registry[Packager]:
        """The packagers."""
        return self.registry("packager")

    @property
    def storages(self) -> Registry[Storage]:
        """The storages."""
        return self.registry("storage")

    @property
    def backends(self) -> Registry[Backend]:
        """The backends."""
        return self.registry("backend")

    def plugin(self, name: str) -> object | None:
        """Return the plugin of that name, None where it is not active."""
        found: object | None = self._pluggy.get_plugin(name)
        return found

    def hooks(self, name: str) -> tuple[str, ...]:
        """Return the hooks that a plugin implements."""
        plugin = self.plugin(name)
        callers = self._pluggy.get_hookcallers(plugin) if plugin is not None else None
        return tuple(caller.name for caller in callers or () if caller.has_spec())

    def registry(self, word: str) -> Registry[Any]:
        """Return the registry of a kind by its word (``"codec"``). Raises `UnknownProviderError`."""
        if word not in self._registries:
            kind = next((kind for kind in KINDS if kind.word == word), None)
            if kind is None:
                hint = did_you_mean(word, [kind.word for kind in KINDS])
                raise UnknownProviderError(f"there is no kind of provider called {word!r}{hint}")
            self._registries[word] = Registry(word, self._providers(kind), self._failures_note)
        return self._registries[word]

    def _providers(self, kind: Kind) -> tuple[Provider[Any], ...]:
        """Return the providers of a kind, without third parties' that have the name of a built-in one."""
        registered = tuple(self._registered(kind))
        ours = tuple(each for each in registered if each.is_builtin)
        kept = tuple(each for each in registered if not self._is_shadowed(each, ours))
        count = Counter(each.name for each in kept)
        for each in kept:
            if count[each.name] > 1:
                others = " and ".join(o.source for o in kept if o.name == each.name and o is not each)
                self._statuses[each.plugin].note(
                    f"its {kind.word} {each.name!r} cannot be used: {others} has one of that name"
                )
        return kept

    def _registered(self, kind: Kind) -> Iterator[Provider[Any]]:
        for plugin, classes in self._each(kind.hook, {}, check=partial(check_classes, kind)):
            status = self._statuses[plugin]
            for cls in classes:
                yield Provider(kind.word, cls, plugin, status.distribution, status.version)

    def _is_shadowed(self, provider: Provider[Any], ours: Sequence[Provider[Any]]) -> bool:
        """Tell whether a third party's provider has the name of a built-in one; note what it cannot have."""
        if not self._found[provider.plugin].package:
            return False
        status, what = self._statuses[provider.plugin], f"its {provider.kind} {provider.name!r}"
        if any(provider.name == each.name for each in ours):
            status.note(f"{what} is left out: modelyard has one of that name")
            return True
        if lost := ", ".join(_claimed_by(ours, provider)):
            status.note(f"{what} is not used for {lost}: modelyard's is; ask for it by its name")
        return False

    def _failures_note(self) -> str:
        failed = [s for s in self._statuses.values() if s.state == "failed"]
        notes = "; ".join(f"{s.plugin} ({s.error})" for s in failed)
        disabled = ", ".join(s.plugin for s in self._statuses.values() if s.state == "disabled")
        return (f". Plugins that failed to load: {notes}" if notes else "") + (
            f". Plugins that are turned off: {disabled}" if disabled else ""
        )

    # -- calling hooks -------------------------------------------------------------------------

    def _each(
        self,
        hook: str,
        arguments: Mapping[str, Any],
        *,
        observing: bool = False,
        newest_first: bool = False,
        check: Callable[[Any], Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yield each plugin's answer to `hook`, in the order of registration or the reverse.

        pluggy's own call ends at the first exception and loses everybody's results; here an
        exception fails the plugin that raised it and nobody else. Of a hook that only observes it
        is not raised under ``MODELYARD_PLUGINS_STRICT`` either: the work it observes has happened.
        With `check`, which returns the answer or raises what is wrong with it, third parties are watched
        as at their import.
        """
        impls = getattr(self._pluggy.hook, hook).get_hookimpls()
        for impl in reversed(impls) if newest_first else impls:
            watch = self._watched(impl.plugin_name, hook) if check else nullcontext()
            try:
                with watch:
                    answer = _answer(hook, impl, arguments)
                    answer = check(answer) if check else answer
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - see `_add`
                self._fail(self._statuses[impl.plugin_name], error, observing=observing)
            else:
                yield impl.plugin_name, answer


def _without_hooks(plugin: object) -> str:
    """Return what is wrong with a plugin that implements no hook."""
    unmarked = [name for name in dir(plugin) if name.startswith(f"{hookspecs.PROJECT}_")]
    return f"{_NO_HOOK}: {', '.join(unmarked)} lacks @hookimpl" if unmarked else _NO_HOOK


def _answer(hook: str, impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    try:
        return impl.function(*(arguments[name] for name in impl.argnames))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RuntimeError(f"{hook} raised {described(error)}") from error


def _claimed_by(ours: Sequence[Provider[Any]], provider: Provider[Any]) -> Iterator[str]:
    """Yield what a provider declares to be chosen by, and a built-in one declares as well."""
    for attribute in CHOOSING:
        patterns = {item for each in ours for item in each.declares(attribute)}
        for item in provider.declares(attribute):
            if any(fnmatchcase(item, pattern) for pattern in patterns):
                yield item
