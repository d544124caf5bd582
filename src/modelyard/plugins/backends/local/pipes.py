"""The feeder: streams the files of a host's Pipe channels into named pipes, epoch by epoch.

Usage: ``python -m modelyard.plugins.backends.local.pipes SETTINGS``, a file that `prepare` wrote. One
process serves all Pipe channels of a host, until SIGTERM or until nobody reads its standard output.
There it says, in one line, why a channel cannot go on. It keeps that channel's pipe open: a script
that waits for more is to be ended by whoever reads the line, and never takes a fault for the end of
an epoch.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import stat
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from modelyard.core.handover import end_with_guard
from modelyard.core.layout import JobLayout

_CHUNK = 1 << 20
_NOT_BY_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP)


class FeedError(Exception):
    """A channel's files are no longer what they were when the job was submitted."""


@attrs.frozen
class Stream:
    """A Pipe channel of one host.

    ``fifo``: the path of its pipes without ``_<epoch>``; ``files``: of all hosts, below ``source``,
    each with its size and modification time in nanoseconds; ``seed``: of their order, by name where
    it is None; ``host`` of ``hosts``: which of them are this host's.
    """

    fifo: str
    source: str
    files: Mapping[str, Sequence[int]]
    seed: int | None = None
    host: int = 0
    hosts: int = 1

    def order(self, epoch: int) -> list[str]:
        """Return this host's files for an epoch; each file is one host's in every epoch.

        With a seed they come in the order of the SHA-256 of ``<seed>/<epoch>/<file>``.
        """
        return sorted(self.files, key=lambda name: self._place(name, epoch))[self.host :: self.hosts]

    def _place(self, name: str, epoch: int) -> tuple[bytes, str]:
        if self.seed is None:
            return b"", name
        drawn = f"{self.seed}/{epoch}/{name}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(drawn).digest(), name


# -- for the backend and the guard ---------------------------------------------------------------


def prepare(layout: JobLayout, streams: Iterable[Stream]) -> tuple[str, ...]:
    """Make the pipes of epoch 0 and return the command of the feeder, its settings in the job's folder.

    The command's standard output is to be read: a line of it, or its end, is why the job must fail.
    """
    _settings(layout).write_text(json.dumps([attrs.asdict(stream) for stream in streams]), "utf-8")
    renew(layout)
    return (sys.executable, "-P", "-m", "modelyard.plugins.backends.local.pipes", str(_settings(layout)))


def renew(layout: JobLayout) -> None:
    """Replace a host's pipes by those of epoch 0, for a script that is started again with a new feeder."""
    clear(layout)
    for stream in _streams(_settings(layout)):
        _make(f"{stream.fifo}_0")


def clear(layout: JobLayout) -> None:
    """Remove a host's pipes: whoever searches the folder later would wait on them for ever."""
    for path in layout.data.iterdir():
        if stat.S_ISFIFO(path.lstat().st_mode):
            path.unlink()


def _make(fifo: str) -> None:
    try:
        os.mkfifo(fifo, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, fifo) from error  # Its own has no name.


def _settings(layout: JobLayout) -> Path:
    return layout.config / "pipes.json"


def _streams(settings: Path) -> list[Stream]:
    return [Stream(**stream) for stream in json.loads(settings.read_text("utf-8"))]


# -- the program ---------------------------------------------------------------------------------


def main() -> None:
    """Feed the pipes that the first argument describes, for as long as somebody listens."""
    end_with_guard()
    for stream in _streams(Path(sys.argv[1])):
        _serve_in_background(stream, 0)
    listener = select.poll()
    listener.register(sys.stdout.fileno(), 0)  # Reports nothing but that its reader is gone.
    listener.poll()


def _serve_in_background(stream: Stream, epoch: int) -> None:
    threading.Thread(target=_serve, args=(stream, epoch), daemon=True).start()


def _serve(stream: Stream, epoch: int) -> None:
    try:
        _serve_epoch(stream, epoch)
    except Exception as error:  # noqa: BLE001 - whatever it is, the script would wait for ever
        reason = f"channel {Path(stream.fifo).name!r}, epoch {epoch}: {error}\n"
        os.write(sys.stdout.fileno(), reason.encode("utf-8", "backslashreplace"))


def _serve_epoch(stream: Stream, epoch: int) -> None:
    """Wait for a reader and give it the files, with the next epoch's pipe there from the start."""
    fifo = f"{stream.fifo}_{epoch}"
    pipe = os.open(fifo, os.O_WRONLY)
    _make(f"{stream.fifo}_{epoch + 1}")
    _serve_in_background(stream, epoch + 1)
    _widen(pipe)
    with contextlib.suppress(BrokenPipeError):  # The reader has had enough.
        for name in stream.order(epoch):
            _send(os.path.join(stream.source, name), stream.files[name], pipe)  # noqa: PTH118 - a Path is slower
    # In this order: whoever opened it between the two would wait for ever. After an error neither
    # is done, as the module's docstring says.
    Path(fifo).unlink(missing_ok=True)
    os.close(pipe)


def _widen(pipe: int) -> None:
    """Have the kernel hold more of the data: fewer switches between the feeder and the script."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # It may be more than the user's share.
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)


def _send(path: str, known: Sequence[int], pipe: int) -> None:
    """Write a file into the pipe. Raises `FeedError` where it is not, or does not stay, the one known."""
    source = os.open(path, os.O_RDONLY)
    try:
        _check(source, path, known)
        sent = 0
        while moved := _move(source, pipe, sent):
            sent += moved
        _check(source, path, known)
    finally:
        os.close(source)


def _check(source: int, path: str, known: Sequence[int]) -> None:
    now = os.fstat(source)
    if (now.st_size, now.st_mtime_ns) != tuple(known):
        raise FeedError(
            f"{path!r} has changed since the job was submitted; leave the data of a Pipe channel alone, "
            "or use input_mode='File', which trains on a copy"
        )


def _move(source: int, pipe: int, offset: int) -> int:
    """Move what comes next from a file into the pipe and return how many bytes; 0 at its end."""
    try:
        return os.sendfile(pipe, source, offset, _CHUNK)
    except OSError as error:
        if error.errno not in _NOT_BY_SENDFILE:
            raise
    # A system whose sendfile is for sockets, or a file system that has none.
    return os.write(pipe, os.pread(source, _CHUNK, offset))


if __name__ == "__main__":
    main()
