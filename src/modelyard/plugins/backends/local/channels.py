"""The channels of a job: data copied, streamed, or read where it lies, host by host."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Carrier
from modelyard.core.errors import InvalidPlanError, StorageError, did_you_mean
from modelyard.core.layout import JobLayout
from modelyard.core.plans import Channel, InputMode, Replication
from modelyard.plugins.backends.local import pipes


@attrs.frozen
class Bind:
    """A file or folder that is to be seen at ``target``, which is there, and not written through it."""

    source: Path
    target: Path


@attrs.frozen
class Staged:
    """What the channels of a job still need: binds for each host, and notes for the job's log."""

    binds: tuple[tuple[Bind, ...], ...]
    notes: tuple[str, ...]


def stage(
    channels: Sequence[Channel],
    layouts: Sequence[JobLayout],
    carrier: Carrier,
    *,
    shared: Path,
    binds: bool,
) -> Staged:
    """Put each channel where the script of each host looks for it, in the channel's input mode.

    File: a copy of its own for each host. Pipe: the pipes of epoch 0 and the settings of the feeder
    (`pipes.start`). FastFile: binds, or a copy where `binds` says that there can be none. The files
    of a sharded channel are dealt out by name, one by one, host by host. `shared`: a folder for
    downloads that all hosts read.

    Raises `InvalidPlanError` for a channel with fewer files than hosts to share them or with none to
    stream, and `StorageError` for what cannot be read.
    """
    stager = _Stager(layouts, carrier, shared, binds=binds)
    _check_names(channels)
    for channel in channels:
        stager.add(channel)
    for layout, streams in zip(layouts, stager.streams, strict=True):
        if streams:
            pipes.prepare(layout, streams)
    return Staged(tuple(map(tuple, stager.binds)), tuple(stager.notes))


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

    def __init__(
        self, layouts: Sequence[JobLayout], carrier: Carrier, shared: Path, *, binds: bool
    ) -> None:
        self.binds: list[list[Bind]] = [[] for _ in layouts]
        self.streams: list[list[pipes.Stream]] = [[] for _ in layouts]
        self.notes: list[str] = []
        self._layouts = layouts
        self._carrier = carrier
        self._shared = shared
        self._can_bind = binds
        self._copies: dict[tuple[str, Replication], str] = {}
        self._downloads: dict[str, Path] = {}

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
        """Copy a channel for each host; on a host, a channel of the same data is a link to the first."""
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
        folder, names = self._files(channel)
        self._check_enough(channel, names)
        files = {name: _identity(folder / name) for name in names}
        for rank, layout in enumerate(self._layouts):
            share = (rank, len(self._layouts)) if channel.replication is Replication.SHARDED else (0, 1)
            fifo = str(layout.channel(channel.name))
            self.streams[rank].append(pipes.Stream(fifo, str(folder), files, channel.shuffle_seed, *share))

    # -- FastFile ------------------------------------------------------------------------------

    def _lend(self, channel: Channel) -> None:
        """Have the data seen in the channel's folder, or copy it where that would not protect it."""
        if not self._can_bind:
            self._copy_instead(channel, "this system has no mounts that a process could have for itself")
            return
        source = self._source(channel).resolve()
        if source.is_dir() and _holds_links(source):
            self._copy_instead(channel, f"there are links in '{source}', and what they lead to is not protected")
            return
        sharded = channel.replication is Replication.SHARDED and len(self._layouts) > 1
        ...
