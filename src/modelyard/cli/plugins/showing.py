"""``modelyard plugins show``: all about one provider, or about one plugin."""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from modelyard.cli.plugins.entries import HOOKS, PLUGIN, Entry, other_hooks, provided_by
from modelyard.cli.plugins.options import Option, options_of
from modelyard.core import contracts, kinds

if TYPE_CHECKING:
    from modelyard.cli.terminal import Terminal
    from modelyard.core.manager import PluginManager
    from modelyard.core.registry import Provider
    from modelyard.core.statuses import PluginStatus


@attrs.frozen
class Description:
    """All about one. ``facts``: by their labels; ``abilities``: by the name of the Protocol, its members."""

    entry: Entry
    where: str
    doc: str
    facts: Mapping[str, str]
    abilities: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    options: tuple[Option, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return it as what JSON knows."""
        return {
            **self.entry.to_dict(),
            "class" if self.entry.kind != PLUGIN else "module": self.where,
            "doc": self.doc,
            "abilities": {name: list(members) for name, members in self.abilities.items()},
            "options": [attrs.asdict(option) for option in self.options],
        }

    def lines(self, terminal: "Terminal") -> Iterator[str]:
        """Yield it for people."""
        from modelyard.cli.plugins.listing import COLOURS, remarks

        status = self.entry.status
        state = terminal.paint(status.state, COLOURS.get(status.state))
        yield f"{self.entry.kind} {self.entry.name}: {state}"
        yield from (f"  {text}" for text in remarks(status))
        yield from (f"  {label:<18}{text}" for label, text in self.facts.items() if text)
        for name, members in self.abilities.items():
            yield f"  {'is also a':<18}{name}: {', '.join(members)}"
        if self.doc:
            yield ""
            yield from (f"  {line}".rstrip() for line in self.doc.splitlines())
        if self.options:
            yield ""
            yield "  options:"
            yield from (f"    {line}" for option in self.options for line in self._about(option))

    def _about(self, option: Option) -> Iterator[str]:
        kind = f": {option.type}" if option.type else ""
        default = option.default if option.default.startswith("(") else f"= {option.default}"
        yield f"{option.name}{kind} {default}"
        if option.doc and option.doc not in " ".join(self.doc.split()):
            yield from (f"    {line}" for line in option.doc.splitlines())


def run(options: argparse.Namespace) -> int:
    """Print what is known of the provider of that name, or else of the plugin."""
    from modelyard.cli.plugins.quiet import discovered
    from modelyard.cli.terminal import Terminal

    found = descriptions(discovered(), options)
    if options.json:
        shown = [description.to_dict() for description in found]
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=2))
    else:
        terminal = Terminal.of(sys.stdout)
        print("\n\n".join("\n".join(description.lines(terminal)) for description in found))
    return 0


def descriptions(plugins: "PluginManager", options: argparse.Namespace) -> list[Description]:
    """Return what there is of that name; more than one where two plugins provide it.

    Raises `UnknownProviderError`.
    """
    from modelyard.cli.plugins import finding

    statuses = {status.plugin: status for status in plugins.statuses}
    found = finding.providers_called(plugins, options)
    if len({provider.kind for provider in found}) > 1:
        raise finding.ambiguous(found, "show")
    if found:
        return [of_provider(provider, statuses[provider.plugin]) for provider in found]
    if options.kind or options.name not in statuses:
        raise finding.unknown(plugins, options)
    return [of_plugin(plugins, statuses[options.name])]


def of_provider(provider: "Provider[Any]", status: "PluginStatus") -> Description:
    """Return all about a provider."""
    provides = provided_by(provider)
    where = f"{provider.cls.__module__}.{provider.cls.__qualname__}"
    labelled = {name.replace("_", " "): ", ".join(values) for name, values in provides.items()}
    return Description(
        entry=Entry(provider.kind, provider.name, status, provides),
        where=where,
        doc=inspect.getdoc(provider.cls) or "",
        facts={"plugin": status.plugin, "from": status.source, "class": where, **labelled},
        abilities=dict(abilities_of(provider)),
        options=tuple(options_of(provider.cls)),
    )


def of_plugin(plugins: "PluginManager", status: "PluginStatus") -> Description:
    """Return all about a plugin."""
    from modelyard.cli.plugins.finding import providers_of

    loaded = plugins.plugin(status.plugin)
    module = getattr(loaded, "__name__", type(loaded).__name__) if loaded is not None else ""
    provided = [f"{provider.kind} {provider.name}" for provider in providers_of(plugins, status.plugin)]
    hooks = tuple(other_hooks(plugins, status.plugin))
    return Description(
        entry=Entry(PLUGIN, status.plugin, status, {HOOKS: hooks} if hooks else {}),
        where=module,
        doc=(inspect.getdoc(loaded) or "") if loaded is not None else "",
        facts={
            "from": status.source,
            "module": module,
            "contract": str(getattr(loaded, "MODELYARD_CONTRACT", "")),
            "provides": ", ".join(provided),
            "hooks": ", ".join(hooks),
            "import": f"{status.seconds * 1000:.0f} ms" if status.seconds else "",
        },
    )


def abilities_of(provider: "Provider[Any]") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the Protocols that the class keeps besides that of its kind, each with its members.

    By their names they are more than the kind's: an `ArrayCodec` is a `Codec`.
    """
    noun = next(kind.protocol.__name__ for kind in kinds.KINDS if kind.word == provider.kind)
    for name, protocol in vars(contracts).items():
        if name != noun and name.endswith(noun) and getattr(protocol, "_is_protocol", False):
            members = tuple(kinds.members(protocol))
            if all(_has(provider.cls, member) for member in members):
                yield name, members


def _has(cls: type, member: str) -> bool:
    """Tell whether instances of the class will have a member, fields without a default included."""
    return hasattr(cls, member) or (attrs.has(cls) and member in attrs.fields_dict(cls))
