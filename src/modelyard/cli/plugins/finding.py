"""The provider or the plugin that a name on the command line means."""

import argparse
from typing import TYPE_CHECKING, Any

from modelyard.core.errors import UnknownProviderError, did_you_mean
from modelyard.core.kinds import KINDS

if TYPE_CHECKING:
    from modelyard.core.manager import PluginManager
    from modelyard.core.registry import Provider


def providers_called(plugins: "PluginManager", options: argparse.Namespace) -> "list[Provider[Any]]":
    """Return the providers of that name, of the kind that was given or of any."""
    words = [options.kind] if options.kind else [kind.word for kind in KINDS]
    return [each for word in words for each in plugins.registry(word) if each.name == options.name]


def providers_of(plugins: "PluginManager", plugin: str) -> "list[Provider[Any]]":
    """Return what a plugin provides."""
    return [each for kind in KINDS for each in plugins.registry(kind.word) if each.plugin == plugin]


def unknown(plugins: "PluginManager", options: argparse.Namespace) -> UnknownProviderError:
    """Return the error for a name that nothing has, with the one that was meant."""
    if options.kind:
        registry = plugins.registry(options.kind)
        hint = did_you_mean(options.name, registry.names())
        return UnknownProviderError(f"no {options.kind} is called {options.name!r}{hint}{registry.note()}")
    names = {name for kind in KINDS for name in plugins.registry(kind.word).names()}
    names |= {status.plugin for status in plugins.statuses}
    hint = did_you_mean(options.name, names)
    note = plugins.registry(KINDS[0].word).note()
    return UnknownProviderError(f"no provider and no plugin is called {options.name!r}{hint}{note}")


def ambiguous(found: "list[Provider[Any]]", command: str) -> UnknownProviderError:
    """Return the error for a name of several kinds, which says how to name one of them."""
    kinds = " and a ".join(provider.kind for provider in found)
    first = found[0]
    return UnknownProviderError(
        f"{first.name!r} is a {kinds}: say which, as modelyard plugins {command} {first.kind} {first.name}"
    )
