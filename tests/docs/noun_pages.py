"""Makes a page of ``docs/reference`` for each noun of the docstrings: ``python -m tests.docs.noun_pages``."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill

import attrs
from tests.docs.hooks_and_nouns import REFERENCE, fields, members, summary

from modelyard.core import contracts
from modelyard.core.contracts import (
    ArrayCodec,
    BatchingHardware,
    Bundle,
    Carrier,
    CheckingHardware,
    CheckingLauncher,
    Command,
    DescribedHardware,
    DiagnosingLauncher,
    EndpointDescription,
    EndpointHandle,
    EndpointListingBackend,
    EntryPoint,
    GuardedCodec,
    Host,
    InterruptibleJob,
    Invocation,
    JobDescription,
    JobHandle,
    KeepingStorage,
    ListingBackend,
    MeasuredJob,
    Metric,
    PreparingHardware,
    ProfiledLauncher,
    RankFailure,
    RecoveringHardware,
    ReloadableEndpoint,
    Splice,
    SplicingCarrier,
    SplicingPackager,
    StreamingEndpoint,
    WorkerHardware,
)
from modelyard.core.kinds import DECLARED, KINDS, Kind
from modelyard.core.manager import PluginManager
from modelyard.core.registry import Provider


@attrs.frozen
class Noun:
    """What is on a noun's page beside its Protocol.

    ``plural``: its title; ``made``: Protocols of what its methods return; ``optional``: the small
    Protocols; ``given``: Protocols of what its methods are handed; ``values``: those that it takes or
    returns; ``contract``: its class of tests.
    """

    plural: str
    contract: str
    optional: tuple[type, ...] = ()
    made: tuple[type, ...] = ()
    given: tuple[type, ...] = ()
    values: tuple[type, ...] = ()


NOUNS: Mapping[str, Noun] = {
    "codec": Noun("Codecs", "CodecContract", (ArrayCodec, GuardedCodec)),
    "hardware": Noun(
        "Hardware",
        "HardwareContract",
        (
            BatchingHardware,
            CheckingHardware,
            DescribedHardware,
            PreparingHardware,
            RecoveringHardware,
            WorkerHardware,
        ),
        values=(Host, Command),
    ),
    "launcher": Noun(
        "Launchers",
        "LauncherContract",
        (CheckingLauncher, DiagnosingLauncher, ProfiledLauncher),
        values=(EntryPoint, Host, Command, RankFailure),
    ),
    "packager": Noun("Packagers", "PackagerContract", (SplicingPackager,), values=(Bundle, Splice)),
    "storage": Noun("Storages", "StorageContract", (KeepingStorage,)),
    "backend": Noun(
        "Backends",
        "BackendContract",
        (
            ListingBackend,
            EndpointListingBackend,
            MeasuredJob,
            InterruptibleJob,
            ReloadableEndpoint,
            StreamingEndpoint,
        ),
        made=(JobHandle, EndpointHandle),
        given=(Carrier, SplicingCarrier),
        values=(JobDescription, EndpointDescription, Metric, Invocation, Bundle, Splice),
    ),
}
"""In the order of `KINDS`."""


def path_of(kind: Kind) -> Path:
    """Return where the page of a noun is."""
    return REFERENCE / f"{kind.word}.md"


def page(kind: Kind) -> str:
    """Return the page of a noun."""
    noun = NOUNS[kind.word]
    return "\n".join([*_head(kind, noun), *_required(kind, noun), *_optional(noun), *_built_in(kind)]) + "\n"


def protocols() -> dict[str, type]:
    """Return every Protocol of the contract by its name."""
    return {
        name: each
        for name, each in vars(contracts).items()
        if getattr(each, "_is_protocol", False) and each.__module__ == contracts.__name__
    }


def _head(kind: Kind, noun: Noun) -> Iterator[str]:
    name = kind.protocol.__name__
    yield from (f"# {noun.plural}", "", summary(kind.protocol), "")
    said = (
        f"A class that has what `modelyard.core.contracts.{name}` requires is one; it need not inherit from "
        f"it. [`{kind.hook}`](hooks.md) registers it, and `modelyard.testing.{noun.contract}` is a class of "
        "tests of what follows."
    )
    yield fill(said, 110, break_long_words=False, break_on_hyphens=False)


def _required(kind: Kind, noun: Noun) -> Iterator[str]:
    yield from ("", f"## What a {kind.word} has", "", *members(kind.protocol))
    for each in noun.made:
        yield from ("", f"### `{each.__name__}`", "", summary(each), "", *members(each))


def _optional(noun: Noun) -> Iterator[str]:
    if noun.optional:
        yield from ("", "## What it may be able to do", "")
        yield "Each is a small Protocol of its own: who has its members has the ability."
    for each in noun.optional:
        yield from ("", f"### `{each.__name__}`", "", summary(each), "", *members(each))
    if noun.given or noun.values:
        yield from ("", "## What it is given and returns")
    for each in noun.given:
        yield from ("", f"### `{each.__name__}`", "", summary(each), "", *members(each))
    for each in noun.values:
        yield from ("", f"### `{each.__name__}`", "", summary(each), "", *fields(each))


def _built_in(kind: Kind) -> Iterator[str]:
    yield from ("", "## The built-in ones")
    for provider in PluginManager.builtin().registry(kind.word):
        yield from ("", f"### `{provider.name}`", "", summary(provider.cls), *_declared(provider))
        if inspect.signature(provider.cls).parameters:
            yield from ("", *fields(provider.cls))


def _declared(provider: Provider[object]) -> Iterator[str]:
    found = {attribute: provider.declares(attribute) for attribute in DECLARED}
    for attribute, values in found.items():
        if values:
            yield from ("", f"`{attribute}`: {', '.join(f'`{value}`' for value in values)}")


if __name__ == "__main__":
    for each in KINDS:
        path_of(each).write_text(page(each), "utf-8")
