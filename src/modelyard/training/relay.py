"""Everything that a command writes, to this process's own two streams.

The command has two pipes. Each rank that its tool starts may have two of its own, named pipes in a
private folder that `modelyard.core.handover.STREAMS` announces.
"""

import math
import os
import selectors
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Protocol, Self

from modelyard.core.handover import STREAMS
from modelyard.training.sink import Sink
from modelyard.training.streams import Filters, RelaySettings, Stream
from modelyard.training.tails import Said

_DRAIN_SECONDS = 1.0
"""What the pipes are read for once all processes are gone: one that is stuck may hold them open."""

_STALL_SECONDS = 5.0
"""For how long who reads the log may take nothing, once the job is over, before it loses the rest."""


class Waker(Protocol):
    """Something to wait for beside the streams."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when something has happened."""
        ...

    def clear(self) -> None:
        """Make it unreadable until the next time."""
        ...


class Relay:
    """The streams of one command.

    ``environ``: what the command must be told of them; ``stdout``, ``stderr``: descriptors for it to
    write to, given up by `started`. Never waits for who reads this process's own streams: while they
    are far behind, the command's are not read.
    """

    def __init__(self, settings: RelaySettings, ranks: int, waker: Waker) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(waker, selectors.EVENT_READ, waker.clear)
        self._filters = Filters(settings)
        self._out, self._err = Sink(1), Sink(2)
        self._behind: set[Sink] = set()
        self._full: set[Sink] = set()
        reading, self.stdout = os.pipe()
        errors, self.stderr = os.pipe()
        self._folder = _private_folder() if ranks else None
        self._streams = [
            Stream(reading, self._out, self._filters),
            Stream(errors, self._err, self._filters),
            *self._of_ranks(ranks, alone=ranks == 1 and not settings.host),
        ]
        for stream in self._streams:
            self._watch(stream)

    @property
    def environ(self) -> Mapping[str, str]:
        """Where its ranks find streams of their own."""
        return {STREAMS: str(self._folder)} if self._folder else {}

    def started(self) -> None:
        """Leave the command's ends of its pipes to it."""
        for fd in (self.stdout, self.stderr):
            os.close(fd)

    @property
    def said(self) -> tuple[Said, tuple[Said, ...]]:
        """What the command and what each rank that there was wrote to standard error."""
        command, *ranks = (stream.said for stream in self._streams if stream.sink is self._err)
        return command or Said(), tuple(filter(None, ranks))

    def pump(self, seconds: float | None) -> None:
        """Relay what there is; wait for something, `seconds` at most, or for as long as it takes."""
        due = min((stream.lines.due for stream in self._flowing()), default=math.inf) - time.monotonic()
        limit = min(due, math.inf if seconds is None else seconds)
        for key, _ in self._selector.select(None if limit == math.inf else max(limit, 0.0)):
            key.data()
        now = time.monotonic()
        for stream in self._flowing():
            if stream.lines.due <= now:
                stream.lines.tick()
        self._balance(self._out)
        self._balance(self._err)

    def finish(self) -> None:
        """Relay what is left, once nobody is there to write more."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        for stream in self._streams:
            while stream.fileno() >= 0 and stream.read() and time.monotonic() < deadline:
                pass
            stream.close()
        for sink in (self._out, self._err):
            sink.flush(_STALL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.finish()
        self._selector.close()
        self._out.close()
        self._err.close()
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)

    def _of_ranks(self, ranks: int, *, alone: bool) -> Iterator[Stream]:
        """Make named pipes, and yield their streams."""
        if self._folder:
            for rank, (name, sink) in product(range(ranks), (("out", self._out), ("err", self._err))):
                path = self._folder / f"{rank}.{name}"
                os.mkfifo(path, 0o600)
                yield Stream(path, sink, self._filters, rank=rank, alone=alone)

    def _watch(self, stream: Stream) -> None:
        self._selector.register(stream, selectors.EVENT_READ, partial(self._receive, stream))

    def _receive(self, stream: Stream) -> None:
        if stream.read() is False:
            self._selector.unregister(stream)
            if stream.reopen():
                self._watch(stream)

    def _flowing(self) -> Iterator[Stream]:
        """Yield the streams whose lines can be taken."""
        return (stream for stream in self._streams if stream.sink not in self._full)

    def _balance(self, sink: Sink) -> None:
        """Wait for a reader that is behind; while it is far behind, read nothing for it."""
        if sink.waiting != (sink in self._behind):
            self._behind ^= {sink}
            if sink.waiting:
                self._selector.register(sink, selectors.EVENT_WRITE, sink.flush)
            else:
                self._selector.unregister(sink)
        if sink.full != (sink in self._full):
            self._full ^= {sink}
            for stream in self._streams:
                if stream.sink is sink and stream.fileno() >= 0:
                    (self._selector.unregister if sink.full else self._watch)(stream)


def _private_folder() -> Path:
    from tempfile import mkdtemp

    return Path(mkdtemp(prefix="modelyard-streams-"))
