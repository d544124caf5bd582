"""One stream of a job's process on its way to the log: told apart, masked, searched, remembered."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from modelyard.core.plans import MetricDefinition
from modelyard.training.lines import Lines, Mask
from modelyard.training.sink import Sink
from modelyard.training.tails import Said, Tail

if TYPE_CHECKING:
    from modelyard.training.metrics import Recorder

CHUNK = 64 * 1024

_RANK = re.compile(rb"\x01rank (\d+)\n")


@attrs.frozen
class RelaySettings:
    """What becomes of a job's output on its way to the log.

    ``host``: the name that its lines bear, empty where there is one host; ``secrets``: texts that are
    masked; ``metrics``: numbers to look for, which are appended to ``metrics_file``.
    """

    host: str = ""
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    metrics: tuple[MetricDefinition, ...] = ()
    metrics_file: Path | None = None


class Filters:
    """What every line of one command goes through."""

    def __init__(self, settings: RelaySettings) -> None:
        self.host = settings.host
        self.mask = Mask(settings.secrets)
        self.recorder = _recorder(settings)


class Stream:
    r"""What arrives from `source` goes to ``sink``, whole lines at a time.

    `source`: the descriptor of a pipe, or the path of a named one, which outlives its writers. The
    lines of a rank bear its number, unless it is `alone`. The line ``\x01rank 3`` is no output: it says
    that a process of that rank writes from there on.
    """

    def __init__(
        self,
        source: int | Path,
        sink: Sink,
        filters: Filters,
        *,
        rank: int | None = None,
        alone: bool = False,
    ) -> None:
        self.sink = sink
        self.lines = Lines(self._emit, filters.mask)
        self._path = source if isinstance(source, Path) else None
        self._fd = _opened(source) if isinstance(source, Path) else source
        self._filters = filters
        self._rank = rank
        self._alone = alone
        self._announced = rank is None
        self._tail = Tail()
        self._prefix = self._bear()
        os.set_blocking(self._fd, False)

    def fileno(self) -> int:
        """Return the descriptor, negative once the stream is closed."""
        return self._fd

    def read(self) -> bool | None:
        """Relay what there is: False at the end of the stream, None where there is nothing yet."""
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return None
        if chunk:
            self.lines.feed(chunk)
        else:
            self._end()
        return bool(chunk)

    def reopen(self) -> bool:
        """Wait for the next process that writes to a named pipe; False where there can be none."""
        try:
            # Opened before it is closed: a writer never finds it without a reader.
            fd = _opened(self._path) if self._path else -1
        except OSError:  # The job has removed it.
            fd = -1
        self.close()
        self._fd = fd
        return fd >= 0

    def close(self) -> None:
        """Give back the descriptor."""
        if self._fd >= 0:
            self._end()
            os.close(self._fd)
            self._fd = -1

    def _end(self) -> None:
        """End the line that has not ended: whoever wrote it has gone."""
        self.lines.flush()
        self._tail.end()

    @property
    def said(self) -> Said | None:
        """The end of what the present process has written; None where there has been none."""
        said = self._tail.said(self._rank, self._filters.host)
        return said if self._announced or said.pieces else None

    def _emit(self, block: bytes, *, show: bool = True, keep: bool = True, broken: bool = False) -> None:
        said, *announced = [block] if self._rank is None else _RANK.split(block)
        self._pass_on(said, show=show, keep=keep)
        for number, text in zip(announced[::2], announced[1::2], strict=True):
            self._rank = int(number)
            self._announced = True
            self._prefix = self._bear()
            self._tail.clear()
            self._pass_on(text, show=show, keep=keep)
        if keep:
            self._tail.broken = broken

    def _pass_on(self, text: bytes, *, show: bool, keep: bool) -> None:
        if not text:
            return
        # Only what a process that died has left unfinished lacks a newline here.
        block = self._filters.mask(text if text.endswith(b"\n") else text + b"\n")
        if keep:
            self._tail.add(block)
        if show:
            self.sink.write(self._prefixed(block) if self._prefix else block)
        if keep and self._filters.recorder and (complaint := self._filters.recorder.search(block)):
            self.sink.write(f"modelyard: {complaint}".encode())

    def _prefixed(self, block: bytes) -> bytes:
        return self._prefix + block[:-1].replace(b"\n", b"\n" + self._prefix) + b"\n"

    def _bear(self) -> bytes:
        """Return the prefix of its lines: ``[host rank 3] ``, of which what is not needed is left out."""
        rank = "" if self._rank is None or self._alone else f"rank {self._rank}"
        name = " ".join(filter(None, (self._filters.host, rank)))
        return f"[{name}] ".encode() if name else b""


def _recorder(settings: RelaySettings) -> "Recorder | None":
    if not settings.metrics or settings.metrics_file is None:
        return None
    from modelyard.training.metrics import Recorder

    return Recorder(settings.metrics, settings.metrics_file, settings.host)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
