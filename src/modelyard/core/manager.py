"""The plugin manager: the only module that calls pluggy, with one typed method per hook.

What it promises: one broken plugin (an import error, an unknown hook, a hook that raises, a wrong
object) becomes a row of `PluginManager.statuses` and a note on later errors, and everything else
works. There is no global manager: `PluginManager.discover` makes one, and whoever needs plugins is
handed it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import pluggy

from modelyard.core import hookspecs
from modelyard.core.contracts import (
    Backend,
    CheckingHardware,
    CheckingLauncher,
    Codec,
    Hardware,
    Host,
    JobDescription,
    Launcher,
    Packager,
    Storage,
)
from modelyard.core.discovery import Found, builtins, installed
from modelyard.core.errors import BrokenPluginError, InvalidPlanError, UnknownProviderError, did_you_mean
from modelyard.core.kinds import KINDS, Kind, check_classes
from modelyard.core.log import get_logger
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan
from modelyard.core.registry import Provider, Registry

if TYPE_CHECKING:
    from modelyard.core.http import Handler

Asked = ProviderRef | str | None
"""A provider that the user named; None where the selection decides."""

DISABLED = "MODELYARD_PLUGINS_DISABLED"
AUTOLOAD = "MODELYARD_PLUGINS_AUTOLOAD"
STRICT = "MODELYARD_PLUGINS_STRICT"

_SMDISTRIBUTED = "smdistributed"
_MODEL_PARALLEL = f"{_SMDISTRIBUTED}.modelparallel"
_NO_MODEL_PARALLEL = (
    "distribution {'smdistributed': {'modelparallel': ...}} needs a library that only SageMaker's images "
    "have; shard the model with torch.distributed.fsdp, and use distribution={'torch_distributed': ...}"
)

_ANYTHING = (Exception, SystemExit)
"""What a plugin's code may raise without harm to anybody else."""

_log = get_logger(__name__)


@attrs.define
class PluginStatus:
    """One plugin: ``state`` is ``active``, ``failed`` or ``disabled``; ``error`` says why it failed."""

    plugin: str
    distribution: str = ""
    version: str = ""
    state: str = "active"
    error: str = ""


class PluginManager:
    """Which plugins there are, and what they provide."""

    def __init__(self, *, strict: bool = False) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._strict = strict
        self._statuses: dict[str, PluginStatus] = {}
        self._registries: dict[str, Registry[Any]] = {}

    # -- finding plugins -----------------------------------------------------------------------

    @classmethod
    def discover(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return a manager with the built-in plugins and the installed ones.

        ``MODELYARD_PLUGINS_DISABLED`` (names, comma-separated) leaves plugins out,
        ``MODELYARD_PLUGINS_AUTOLOAD=0`` all that are not built in, and ``MODELYARD_PLUGINS_STRICT=1``
        makes the first broken plugin a `BrokenPluginError`.
        """
        settings = os.environ if environ is None else environ
        manager = cls(strict=settings.get(STRICT, "") not in ("", "0"))
        disabled = {name.strip() for name in settings.get(DISABLED, "").split(",")} - {""}
        autoload = settings.get(AUTOLOAD, "1") != "0"
        for found in (*builtins(), *(installed() if autoload else ())):
            manager._add(found, disabled=found.name in disabled)
        for name in disabled - set(manager._statuses):
            hint = did_you_mean(name, manager._statuses)
            _log.warning(f"{DISABLED} names a plugin that is not installed", plugin=name, hint=hint)
        return manager

    @classmethod
    def builtin(cls) -> Self:
        """Return a manager with the built-in plugins only, whatever is installed."""
        return cls.discover({AUTOLOAD: "0"})

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or any object with hook implementations.

        A plugin that is broken is raised here as `BrokenPluginError`: its author is the caller.
        """
        label = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        status = self._add(Found(label, lambda: plugin, "", ""))
        if status.error:
            raise BrokenPluginError(f"plugin {label!r}: {status.error}")

    def _add(self, found: Found, *, disabled: bool = False) -> PluginStatus:
        status = PluginStatus(found.name, found.distribution, found.version)
        if found.name in self._statuses:
            status.plugin = f"{found.name}#{len(self._statuses)}"
            self._statuses[status.plugin] = status
            self._fail(status, ValueError(f"a plugin called {found.name!r} is loaded already"))
            return status
        self._statuses[found.name] = status
        if disabled:
            status.state = "disabled"
            return status
        try:
            self._pluggy.register(found.load(), name=found.name)
            self._check_hooks(found.name)
        except _ANYTHING as error:
            if self._pluggy.has_plugin(found.name):
                self._pluggy.unregister(name=found.name)
            self._fail(status, error)
        self._registries.clear()
        return status

    def _check_hooks(self, name: str) -> None:
        known = [spec for spec in dir(hookspecs) if spec.startswith("modelyard_")]
        for caller in self._pluggy.get_hookcallers(self._pluggy.get_plugin(name)) or ():
            own = [impl for impl in caller.get_hookimpls() if impl.plugin_name == name]
            if not caller.has_spec() and not all(impl.optionalhook for impl in own):
                raise AttributeError(f"no hook is called {caller.name!r}{did_you_mean(caller.name, known)}")
            if any(impl.hookwrapper or impl.wrapper for impl in own):
                raise TypeError(f"{caller.name} is a hook wrapper; each hook is called on its own here")

    def _fail(self, status: PluginStatus, error: BaseException, *, observing: bool = False) -> None:
        status.state = "failed"
        status.error = f"{type(error).__name__}: {error}"
        if self._strict and not observing:
            raise BrokenPluginError(f"plugin {status.plugin!r}: {status.error}") from error
        _log.warning("plugin failed", plugin=status.plugin, error=status.error)

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

    def registry(self, word: str) -> Registry[Any]:
        """Return the registry of a kind by its word (``"codec"``). Raises `UnknownProviderError`."""
        if word not in self._registries:
            kind = next((kind for kind in KINDS if kind.word == word), None)
            if kind is None:
                hint = did_you_mean(word, [kind.word for kind in KINDS])
                raise UnknownProviderError(f"there is no kind of provider called {word!r}{hint}")
            self._registries[word] = Registry(word, tuple(self._providers(kind)), self._failures_note)
        return self._registries[word]

    def _providers(self, kind: Kind) -> Iterator[Provider[Any]]:
        for plugin, classes in self._each(kind.hook, {}):
            status = self._statuses[plugin]
            try:
                for cls in check_classes(kind, classes):
                    yield Provider(kind.word, cls, plugin, status.distribution, status.version)
            except Exception as error:
                self._fail(status, error)

    def _failures_note(self) -> str:
        failed = [s for s in self._statuses.values() if s.state == "failed"]
        notes = "; ".join(f"{s.plugin} ({s.error})" for s in failed)
        return f". Plugins that failed to load: {notes}" if notes else ""

    # -- calling hooks -------------------------------------------------------------------------

    def _each(
        self, hook: str, arguments: Mapping[str, Any], *, observing: bool = False, newest_first: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """Yield each plugin's answer to `hook`, in the order of registration or the reverse.

        pluggy's own call ends at the first exception and loses everybody's results; here an
        exception fails the plugin that raised it and nobody else. Of a hook that only observes it
        is not raised under ``MODELYARD_PLUGINS_STRICT`` either: the work it observes has happened.
        """
        impls = getattr(self._pluggy.hook, hook).get_hookimpls()
        for impl in reversed(impls) if newest_first else impls:
            try:
                yield impl.plugin_name, impl.function(*(arguments[name] for name in impl.argnames))
            except _ANYTHING as error:
                raised = RuntimeError(f"{hook} raised {type(error).__name__}: {error}")
                self._fail(self._statuses[impl.plugin_name], raised, observing=observing)

    def _select(self, hook: str, word: str, arguments: Mapping[str, Any]) -> ProviderRef | None:
        """Return the first answer, asked in pluggy's order: tryfirst, last registered, ..., trylast."""
        for plugin, answer in self._each(hook, arguments, newest_first=True):
            if isinstance(answer, (str, ProviderRef)):
                return self.resolve(word, answer)
            if answer is not None:
                self._reject(plugin, f"{hook} must return a name or a ProviderRef, not {answer!r}")
        return None

    def resolve(self, word: str, wanted: ProviderRef | str) -> ProviderRef:
        """Return `wanted` with the distribution and version of the provider that it names."""
        ref = ProviderRef(wanted) if isinstance(wanted, str) else wanted
        return self.registry(word).get(ref.name).ref(ref.options)

    # -- selection: what was asked for, else a plugin's choice, else what providers declare -------

    def select_hardware(self, resources: Resources, asked: Asked = None) -> ProviderRef:
        """Return the hardware for these resources.

        Raises `UnknownProviderError`, and `InvalidPlanError` for hardware that does not go with them.
        """
        ref = self._hardware(resources, asked)
        hardware = self.hardware.create(ref)
        if isinstance(hardware, CheckingHardware):
            hardware.check(resources)
        return ref

    def _hardware(self, resources: Resources, asked: Asked) -> ProviderRef:
        if asked is not None:
            return self.resolve("hardware", asked)
        if chosen := self._select("modelyard_select_hardware", "hardware", {"resources": resources}):
            return chosen
        if resources.accelerator_type is not None:
            return self._by("accelerator_type", resources.accelerator_type, "hardware")
        return self._by("instance_type", resources.instance_type, "hardware")

    def select_backend(self, resources: Resources, asked: Asked = None) -> ProviderRef:
        """Return the backend that offers these resources. Raises `UnknownProviderError`."""
        if asked is not None:
            return self.resolve("backend", asked)
        chosen = self._select("modelyard_select_backend", "backend", {"resources": resources})
        return chosen or self._by("instance_type", resources.instance_type, "backend")

    def select_launcher(
        self,
        resources: Resources,
        hardware: str,
        distribution: Mapping[str, Any] | None,
        asked: Asked = None,
    ) -> ProviderRef:
        """Return the launcher for ``distribution={...}`` as SDK v2 spells it.

        One key is the strategy and its value the launcher's options, of which ``enabled`` switches
        it; ``{"smdistributed": {"dataparallel": {...}}}`` is the strategy ``smdistributed.dataparallel``.
        Raises `UnknownProviderError` for a strategy that no launcher declares, and `InvalidPlanError`
        for a strategy beside a launcher that was `asked` for, and for options that do not go with the
        resources.
        """
        ref = self._launcher(resources, hardware, _enabled_strategies(distribution or {}), asked)
        launcher = self.launchers.create(ref)
        if isinstance(launcher, CheckingLauncher):
            launcher.check(resources)
        return ref

    def _launcher(
        self, resources: Resources, hardware: str, wanted: Mapping[str, dict[str, Any]], asked: Asked
    ) -> ProviderRef:
        if asked is not None:
            ref = self.resolve("launcher", asked)
            if wanted:
                raise InvalidPlanError(
                    f"distribution {', '.join(sorted(wanted))} and launcher {ref.name!r} both say how the "
                    "job is launched: leave one of them out"
                )
            return ref
        arguments = {"resources": resources, "hardware": hardware, "distribution": wanted}
        if chosen := self._select("modelyard_select_launcher", "launcher", arguments):
            return chosen
        if _MODEL_PARALLEL in wanted and not self.launchers.declaring("distributions", _MODEL_PARALLEL):
            raise InvalidPlanError(_NO_MODEL_PARALLEL)
        if len(wanted) > 1:
            raise UnknownProviderError(f"distribution takes one strategy, not {', '.join(sorted(wanted))}")
        for strategy, options in wanted.items():
            return self._by_distribution(strategy, options)
        return self._without_distribution()

    def _by_distribution(self, strategy: str, options: Mapping[str, Any]) -> ProviderRef:
        provider = self.launchers.declaring("distributions", strategy)
        if provider is None:
            hint = did_you_mean(strategy, self.launchers.declared("distributions"))
            raise UnknownProviderError(
                f"no launcher provides the distribution {strategy!r}{hint}{self._failures_note()}"
            )
        return provider.ref(options)

    def _without_distribution(self) -> ProviderRef:
        provider = next((p for p in self.launchers if not p.declares("distributions")), None)
        if provider is None:
            raise UnknownProviderError(f"no launcher runs a job without distribution{self._failures_note()}")
        return provider.ref()

    def select_packager(self, source: SourceCode | None, asked: Asked = None) -> ProviderRef:
        """Return the packager for this source."""
        if asked is not None:
            return self.resolve("packager", asked)
        chosen = self._select("modelyard_select_packager", "packager", {"source": source})
        return chosen or self.resolve("packager", "tarball")

    def _by(self, field: str, value: str, word: str) -> ProviderRef:
        """Return the provider that declares patterns, under ``<field>s``, of which one fits."""
        registry = self.registry(word)
        provider = registry.declaring(f"{field}s", value, pattern=True)
        if provider is None:
            hint = did_you_mean(value, registry.declared(f"{field}s"))
            raise UnknownProviderError(f"no {word} offers {field} {value!r}{hint}{self._failures_note()}")
        return provider.ref()

    # -- lifecycle -----------------------------------------------------------------------------

    def job_environ(self, host: Host, hardware: str) -> dict[str, str]:
        """Return the variables that plugins add to a job's environment."""
        environ: dict[str, str] = {}
        for plugin, added in self._each("modelyard_job_environ", {"host": host, "hardware": hardware}):
            if _is_environ(added):
                environ.update(added)
            else:
                self._reject(plugin, f"modelyard_job_environ must return strings by name, not {added!r}")
        return environ

    def job_started(self, plan: TrainingPlan) -> None:
        """Tell the plugins that a job was submitted."""
        self._observe("modelyard_job_started", {"plan": plan})

    def job_finished(self, description: JobDescription) -> None:
        """Tell the plugins that a job reached a terminal state."""
        self._observe("modelyard_job_finished", {"description": description})

    def model_loaded(self, model: object, model_dir: Path) -> None:
        """Tell the plugins that a worker has loaded its model."""
        self._observe("modelyard_model_loaded", {"model": model, "model_dir": model_dir})

    def wrap_handler(self, handler: "Handler") -> "Handler":
        """Return `handler` inside the middleware of all plugins."""
        arguments = {"handler": handler}
        # `_each` is lazy, so each plugin is handed what the one before it returned.
        for plugin, outer in self._each("modelyard_wrap_handler", arguments):
            if callable(outer):
                arguments["handler"] = outer
            elif outer is not None:
                self._reject(plugin, f"modelyard_wrap_handler must return a handler, not {outer!r}")
        return arguments["handler"]

    def _observe(self, hook: str, arguments: Mapping[str, Any]) -> None:
        for _ in self._each(hook, arguments, observing=True):
            pass


def _enabled_strategies(distribution: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each strategy that is not switched off, without the switch."""
    strategies = _options_by_strategy(distribution)
    strategies |= {
        f"{_SMDISTRIBUTED}.{library}": options
        for library, options in _options_by_strategy(strategies.pop(_SMDISTRIBUTED, {})).items()
    }
    return {
        strategy: {key: value for key, value in options.items() if key != "enabled"}
        for strategy, options in strategies.items()
        if options.get("enabled", True)
    }


def _options_by_strategy(distribution: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    if not isinstance(distribution, Mapping):
        raise InvalidPlanError(f"distribution takes options by strategy, not {distribution!r}")
    for strategy, options in distribution.items():
        if not isinstance(options, Mapping):
            raise InvalidPlanError(
                f"distribution takes options by strategy, such as {{{strategy!r}: {{'enabled': True}}}}, "
                f"not {options!r} for {strategy!r}"
            )
    return dict(distribution)


def _is_environ(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in (*value, *value.values()))
