"""Which provider runs a job: what was asked for, else a plugin's choice, else what providers declare."""

from collections.abc import Mapping
from typing import Any

from modelyard.core.contracts import CheckingHardware, CheckingLauncher
from modelyard.core.errors import InvalidPlanError, ModelyardError, UnknownProviderError, did_you_mean
from modelyard.core.plans import ProviderRef, Resources, SourceCode
from modelyard.core.plugin_host import PluginHost
from modelyard.core.statuses import shown

Asked = ProviderRef | str | None
"""A provider that the user named; None where the selection decides."""

_SMDISTRIBUTED = "smdistributed"
_MODEL_PARALLEL = f"{_SMDISTRIBUTED}.modelparallel"
_NO_MODEL_PARALLEL = (
    "distribution {'smdistributed': {'modelparallel': ...}} needs a library that only SageMaker's images "
    "have; shard the model with torch.distributed.fsdp, and use distribution={'torch_distributed': ...}"
)


class Selection(PluginHost):
    """The choice of hardware, backend, launcher and packager among what the plugins provide."""

    def resolve(self, word: str, wanted: ProviderRef | str) -> ProviderRef:
        """Return `wanted` with the distribution and version of the provider that it names."""
        ref = ProviderRef(wanted) if isinstance(wanted, str) else wanted
        return self.registry(word).get(ref.name).ref(ref.options)

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
            names = registry.names()
            way = f" (or name the {word} itself, as {word}={names[0]!r})" if names else ""
            said = f"no {word} offers {field} {value!r}{hint}{way}"
            raise UnknownProviderError(f"{said}{self._failures_note()}")
        return provider.ref()

    def _select(self, hook: str, word: str, arguments: Mapping[str, Any]) -> ProviderRef | None:
        """Return the first answer, asked in pluggy's order: tryfirst, last registered, ..., trylast."""
        for plugin, answer in self._each(hook, arguments, newest_first=True):
            if isinstance(answer, (str, ProviderRef)):
                return self._chosen(plugin, word, answer)
            if answer is not None:
                self._reject(plugin, f"{hook} must return a name or a ProviderRef, not {shown(answer)}")
        return None

    def _chosen(self, plugin: str, word: str, answer: ProviderRef | str) -> ProviderRef:
        """Return what a plugin chose; who asked for nothing of the kind learns who did."""
        try:
            return self.resolve(word, answer)
        except ModelyardError as error:
            name = answer if isinstance(answer, str) else answer.name
            raise type(error)(
                f"plugin {plugin!r} chose the {word} {name!r}: {error}; "
                f"MODELYARD_PLUGINS_DISABLED={plugin} leaves that plugin out"
            ) from error


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
