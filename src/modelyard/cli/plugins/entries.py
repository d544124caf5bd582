"""What is installed, as rows: a provider, the hooks of a plugin, or a plugin that gives nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from modelyard.core.kinds import DECLARED, KINDS
from modelyard.core.statuses import PluginStatus

if TYPE_CHECKING:
    from modelyard.core.manager import PluginManager
    from modelyard.core.registry import Provider

HOOKS = "hooks"
"""The kind of a row for what a plugin does besides providing."""
PLUGIN = "plugin"
"""The kind of a row for a plugin that provides nothing: it failed, or was turned off."""

_IN_DETAIL = ("collectives", "suffixes")
"""What a list has no room for."""
_PREFIX = "modelyard_"


@attrs.frozen
class Entry:
    """One row. ``provides``: what it is chosen by, or the hooks, by the name of the class's attribute."""

    kind: str
    name: str
    status: PluginStatus
    provides: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @property
    def summary(self) -> str:
        """What it is chosen by, on one line."""
        shown = {key: values for key, values in self.provides.items() if key not in _IN_DETAIL}
        return ", ".join(value for values in shown.values() for value in values)

    def to_dict(self) -> dict[str, object]:
        """Return it as what JSON knows."""
        status = self.status
        return {
            "kind": self.kind,
            "name": self.name,
            "plugin": status.plugin,
            "distribution": status.distribution,
            "version": status.version,
            "state": status.state,
            "provides": {key: list(values) for key, values in self.provides.items()},
            "error": status.error,
            "notes": list(status.notes),
            "seconds": round(status.seconds, 6),
        }


def entries(plugins: "PluginManager") -> list[Entry]:
    """Return what there is: providers by kind and name, then hooks, then plugins without either."""
    statuses = {status.plugin: status for status in plugins.statuses}
    found = [
        Entry(kind.word, provider.name, statuses[provider.plugin], provided_by(provider))
        for kind in KINDS
        for provider in plugins.registry(kind.word)
    ]
    found += [
        Entry(HOOKS, status.plugin, status, {HOOKS: hooks})
        for status in statuses.values()
        if (hooks := tuple(other_hooks(plugins, status.plugin)))
    ]
    shown = {entry.status.plugin for entry in found}
    rest = (status for status in statuses.values() if status.plugin not in shown)
    return in_order((*found, *(Entry(PLUGIN, status.plugin, status) for status in rest)))


def in_order(found: Iterable[Entry]) -> list[Entry]:
    """Return the entries by kind, name and plugin."""
    kinds = [*(kind.word for kind in KINDS), HOOKS, PLUGIN]
    return sorted(found, key=lambda entry: (kinds.index(entry.kind), entry.name, entry.status.plugin))


def provided_by(provider: "Provider[Any]") -> dict[str, tuple[str, ...]]:
    """Return what the class declares, by attribute; the type of a hardware's devices as a tuple of one."""
    device_type = getattr(provider.cls, "device_type", None)
    devices = (device_type,) if isinstance(device_type, str) and device_type else ()
    declared = {"device_type": devices, **{name: provider.declares(name) for name in DECLARED}}
    return {name: values for name, values in declared.items() if values}


def other_hooks(plugins: "PluginManager", plugin: str) -> Iterator[str]:
    """Yield the hooks that a plugin implements, but those by which it provides, without their prefix."""
    registration = {kind.hook for kind in KINDS}
    for hook in plugins.hooks(plugin):
        if hook not in registration:
            yield hook.removeprefix(_PREFIX)
