"""The channels of a job: data copied, streamed, or read where it lies, host by host."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Carrier
from modelyard.core.errors import InvalidPlanError
from modelyard.core.layout import JobLayout
from modelyard.core.plans import Channel, InputMode, Replication
from modelyard.plugins.backends.local import pipes, sources


@attrs.frozen
class HostInput:
    """What the channels of one host still need.

    ``data``: what is to be shown to the script, and not written by it, at which path; something empty
    is there already. ``feeder``: the command that writes the host's pipes (`pipes.prepare`), if any.
    """

    data: Mapping[Path, Path]
    feeder: tuple[str, ...]


@attrs.frozen
class Staged:
    """The channels of a job in their places. ``notes``: what its log should say about them."""

    hosts: tuple[HostInput, ...]
    notes: tuple[str, ...]


def stage(
    channels: Sequence[Channel],
    layouts: Sequence[JobLayout],
    carrier: Carrier,
    *,
    shared: Path,
    no_mounts: str,
) -> Staged:
    """Put each channel where the script of each host looks for it, in the channel's input mode.

    File: a copy for each host. Pipe: the pipes of epoch 0. FastFile: a place to show the data at, or
    a copy if `no_mounts` says why nothing can be shown. The files of a sharded channel are dealt out
    by name, one by one, host by host. `shared`: an absolute path for downloads that all hosts read.

    Raises `InvalidPlanError` for a channel with fewer files than hosts that share them, or none to
    stream; `StorageError` for what cannot be read.
    """
    _check_names(channels)
    stager = _Stager(layouts, carrier, shared, no_mounts)
    for channel in channels:
        stager.add(channel)
    return stager.result()


def channel_config(channel: Channel) -> dict[str, str]:
    """Return what ``inputdataconfig.json`` says about a channel, as SageMaker writes it."""
    told = {
        "TrainingInputMode": channel.input_mode.value,
        "S3DistributionType": channel.replication.value,
        "RecordWrapperType": "None",
    }
    return told | ({"ContentType": channel.content_type} if channel.content_type else {})


class _Stager:
    """Stages the channels of one job, one after the other."""

    def __init__(self, layouts: Sequence[JobLayout], carrier: Carrier, shared: Path, no_mounts: str) -> None:
        self._layouts = layouts
        self._carrier = carrier
        self._shared = shared
        self._no_mounts = no_mounts
        self._shown: list[dict[Path, Path]] = [{} for _ in layouts]
        self._streams: list[list[pipes.Stream]] = [[] for _ in layouts]
        self._notes: list[str] = []
        self._copies: dict[tuple[str, Replication], str] = {}
        self._downloads: dict[str, Path] = {}

    def result(self) -> Staged:
        feeders = [
            pipes.prepare(layout, streams) if streams else ()
            for layout, streams in zip(self._layouts, self._streams, strict=True)
        ]
        return Staged(tuple(map(HostInput, self._shown, feeders)), tuple(self._notes))

    def add(self, channel: Channel) -> None:
        match channel.input_mode:
            case InputMode.FILE:
                self._copy(channel)
            case InputMode.PIPE:
                self._stream(channel)
            case InputMode.FAST_FILE:
                self._lend(channel)

    # -- File ----------------------------------------------------------------------------------

    def _copy(self, channel: Channel) -> None:
        """Copy the data for each host; a channel of the same data is a link to the first one."""
        folders = [layout.channel(channel.name) for layout in self._layouts]
        first = self._copies.setdefault((channel.uri, channel.replication), channel.name)
        if first != channel.name:
            for folder in folders:
                folder.symlink_to(first)
            return
        self._carrier.download(channel.uri, folders[0])
        if channel.replication is Replication.SHARDED:
            _deal(channel, folders)
            return
        for folder in folders[1:]:
            self._carrier.download(folders[0].as_uri(), folder)

    # -- Pipe ----------------------------------------------------------------------------------

    def _stream(self, channel: Channel) -> None:
        """Describe the data to the feeder, which reads it where it lies."""
        source = self._source(channel)
        names = sources.names(source)
        sharded = channel.replication is Replication.SHARDED
        _check_enough(channel, names, len(self._layouts) if sharded else 1)
        folder = source if source.is_dir() else source.parent
        files = {name: sources.identity(folder / name) for name in names}
        for host, layout in enumerate(self._layouts):
            share = (host, len(self._layouts)) if sharded else (0, 1)
            fifo = str(layout.channel(channel.name))
            self._streams[host].append(pipes.Stream(fifo, str(folder), files, channel.shuffle_seed, *share))

    # -- FastFile ------------------------------------------------------------------------------

    def _lend(self, channel: Channel) -> None:
        """Have the data shown in the channel's folder, or copied where it would be unprotected there."""
        if self._no_mounts:
            self._copy_instead(channel, self._no_mounts)
            return
        source = self._source(channel)
        if sources.holds_links(source):
            self._copy_instead(channel, f"there are links in '{source}', through which it could be written")
            return
        if channel.replication is Replication.SHARDED:
            self._lend_shares(channel, source)
            return
        for host, layout in enumerate(self._layouts):
            self._show(host, source, layout.channel(channel.name))

    def _copy_instead(self, channel: Channel, because: str) -> None:
        self._notes.append(f"channel {channel.name!r} is copied, not read in place (FastFile): {because}")
        self._copy(channel)

    def _lend_shares(self, channel: Channel, source: Path) -> None:
        """Show the source out of the way and link to each host's files: too many to be shown one by one."""
        names = sources.names(source)
        _check_enough(channel, names, len(self._layouts))
        for host, layout in enumerate(self._layouts):
            whole = layout.input / "source" / channel.name
            self._show(host, source, whole)
            for name in names[host :: len(self._layouts)]:
                link = layout.channel(channel.name) / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(whole / name)

    def _show(self, host: int, source: Path, folder: Path) -> None:
        """Have a folder shown as `folder`, and a file in it: a link's file by the link's name."""
        folder.mkdir(parents=True)
        target = folder
        if not source.is_dir():
            target = folder / source.name
            target.touch()
        self._shown[host][target] = source.resolve()

    # -- where the data lies -------------------------------------------------------------------

    def _source(self, channel: Channel) -> Path:
        """Return where the data lies on this machine, downloaded if it comes from elsewhere."""
        if path := local_path(channel.uri):
            return sources.existing(channel.name, path)
        if channel.uri not in self._downloads:
            self._downloads[channel.uri] = self._shared / channel.name
            self._carrier.download(channel.uri, self._downloads[channel.uri])
        return self._downloads[channel.uri]


def _check_names(channels: Sequence[Channel]) -> None:
    """Refuse a channel whose folder would be in the way of another one's pipes."""
    for channel in channels:
        stem, _, epoch = channel.name.rpartition("_")
        if re.fullmatch("[0-9]+", epoch) and any(
            other.name == stem and other.input_mode is InputMode.PIPE for other in channels
        ):
            raise InvalidPlanError(
                f"channel {channel.name!r} has the name of a pipe of channel {stem!r}: rename one of them"
            )


def _check_enough(channel: Channel, names: Sequence[str], needed: int) -> None:
    if not names:
        raise InvalidPlanError(f"channel {channel.name!r}: there is no file in {channel.uri}")
    if len(names) < needed:
        raise InvalidPlanError(
            f"channel {channel.name!r}: {needed} hosts cannot share {len(names)} file(s) in {channel.uri}; "
            "split them, or use distribution='FullyReplicated'"
        )


def _deal(channel: Channel, folders: Sequence[Path]) -> None:
    """Deal the files of the first host's folder out to all hosts."""
    first, *others = folders
    names = sources.names(first)
    _check_enough(channel, names, len(folders))
    for place, name in enumerate(names):
        if host := place % len(folders):
            target = others[host - 1] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (first / name).rename(target)
    # A host has the folders of its own files, as where the data comes from S3.
    for folder, _, _ in os.walk(first, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
