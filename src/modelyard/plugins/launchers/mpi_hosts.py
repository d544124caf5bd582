"""The programs that let mpirun reach hosts: ``python -m modelyard.plugins.launchers.mpi_hosts``.

``lead CLUSTER -- MPIRUN...``
    the master: finds all workers, runs mpirun, and tells them how it ended;
``serve CLUSTER``
    a worker: starts what mpirun wants started, with the environment of its own host;
``reach HOST COMMAND...``
    what mpirun starts in place of ssh;
``join SOCKET``
    what ssh, or the agent in its place, starts on a worker: connects it with the one that serves;
``abort STATUS``
    what a rank of MPICH's mpirun that failed has to say.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from modelyard.core.processes import die_with_parent, exit_status
from modelyard.plugins.launchers.mpi_ranks import RankSignal, abort
from modelyard.plugins.launchers.mpi_wire import (
    EXIT,
    LEAD,
    OUTPUT,
    PATIENCE,
    RUN,
    SIGNAL,
    WAIT_SECONDS,
    Channel,
    Cluster,
    HostError,
    say,
)

CLUSTER = "MODELYARD_MPI_CLUSTER"
"""What `lead` tells `reach`, which mpirun starts."""

_ENDING = (signal.SIGTERM, signal.SIGINT)
_ANSWER_SECONDS = 60.0
"""For a worker to say that it knows how mpirun ended: a network that is lost takes half a minute."""
_KILL_SECONDS = 3.0
_LAST_WORDS_SECONDS = 1.0
_REPORT_BYTES = 64 * 1024


def main(argv: Sequence[str]) -> int:
    """Run one of the programs and return its exit status."""
    try:
        match argv:
            case ["lead", cluster, "--", *command]:
                return Lead(Cluster.from_json(cluster)).run(command)
            case ["serve", cluster]:
                from modelyard.plugins.launchers.mpi_serve import Server

                return Server(Cluster.from_json(cluster)).run()
            case ["reach", *words]:
                return reach(Cluster.from_json(os.environ[CLUSTER]), words)
            case ["join", name]:
                return join(name)
            case ["abort", status]:
                return abort(int(status))
    except HostError as error:
        say(str(error))
        return 1
    say(f"unknown: {' '.join(argv)}")
    return 2


class Lead:
    """Runs mpirun between the moment when all workers are there and the one when they are told to end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._channels: dict[str, Channel] = {}
        self._mpirun: subprocess.Popen[bytes]
        self._ranks = RankSignal()
        self._watching: dict[str, threading.Thread] = {}
        self._said = b""
        self._lost: set[str] = set()
        self._losing = threading.Lock()

    def run(self, command: Sequence[str]) -> int:
        """Return mpirun's exit status, or 128 plus the number of the signal that ended it.

        It is 1 where mpirun takes the loss of a worker for success. Raises `HostError` where a worker
        cannot be reached.
        """
        status = 1
        try:
            self._find_workers()
            status = self._run(command)
        finally:
            for channel in self._channels.values():
                with contextlib.suppress(OSError):
                    channel.send(EXIT, f"{status} {self._report(status)}".encode())
            self._hear_answers()
            for channel in self._channels.values():
                channel.close()
        return status or int(bool(self._lost))

    def _find_workers(self) -> None:
        if not self._cluster.workers:
            return
        from modelyard.plugins.launchers.mpi_connect import connect  # One host starts sooner without.

        deadline = time.monotonic() + self._cluster.timeout
        for name in self._cluster.workers:
            channel = self._channels[name] = connect(self._cluster, name, deadline)
            channel.send(LEAD)

    def _run(self, command: Sequence[str]) -> int:
        with self._stoppable() as before:
            self._mpirun = self._started(command, before)
        for name, channel in self._channels.items():
            watching = threading.Thread(target=self._watch, args=(name, channel), daemon=True)
            self._watching[name] = watching
            watching.start()
        listening = threading.Thread(target=self._listen, daemon=True)
        listening.start()
        status = self._ended()
        # mpirun may have known of a loss, and be gone, before `_watch` has. The others are to fail too.
        for name, channel in self._channels.items():
            if channel.has_hung_up():
                self._lose(name)
        # What mpirun has left behind may hold its stderr for as long as it lives.
        listening.join(_LAST_WORDS_SECONDS)
        return status or int(bool(self._lost))

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[set[signal.Signals | int]]:
        """Take signals once the block is over, also one that comes in it; yield which were held before."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            yield before
            for number in _ENDING:
                signal.signal(number, lambda number, _frame: self._stop(number))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _started(self, command: Sequence[str], held: set[signal.Signals | int]) -> "subprocess.Popen[bytes]":
        """Start mpirun, with the signals held that were before."""
        parent = os.getpid()

        def prepare() -> None:
            die_with_parent(signal.SIGTERM, parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

        return subprocess.Popen(
            command,
            env={**os.environ, CLUSTER: self._cluster.to_json()},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE if self._channels else None,
            # A group of its own: a signal for the job's group is for the ranks, see `RankSignal`.
            process_group=0,
            # Safe: this process has one thread yet, and the calls are single system calls.
            preexec_fn=prepare,  # noqa: PLW1509
        )

    def _ended(self) -> int:
        """Return mpirun's exit status once it has ended, and attend to signals meanwhile.

        A signal that comes just before a wait is attended to after it: no wait is long.
        """
        waiting = threading.Thread(target=self._mpirun.wait, daemon=True)
        waiting.start()
        while waiting.is_alive():
            waiting.join(WAIT_SECONDS)
        return exit_status(self._mpirun.returncode)

    def _listen(self) -> None:
        """Pass on what mpirun says, and remember the end of it: the workers do not hear it."""
        if self._mpirun.stderr is None:
            return
        while chunk := os.read(self._mpirun.stderr.fileno(), 64 * 1024):
            _write_all(2, chunk)
            self._said = (self._said + chunk)[-_REPORT_BYTES:]

    def _report(self, status: int) -> str:
        """Return which rank failed first, if mpirun has said so, for the workers."""
        if not status or not self._said:
            return ""
        from modelyard.plugins.launchers.mpi_dialects import first_failure, report

        first = first_failure(self._said.decode("utf-8", "replace"))
        return report(first) if first else ""

    def _stop(self, number: int) -> None:
        for channel in self._channels.values():
            with contextlib.suppress(OSError):
                channel.send(SIGNAL, str(number).encode())
        if not self._ranks.send(number):  # They are not there yet, or all elsewhere.
            self._mpirun.send_signal(number)

    def _watch(self, name: str, channel: Channel) -> None:
        """End mpirun when a worker is lost: not every mpirun notices.

        A worker says one thing, when it has been told how mpirun ended; before, its end is a loss.
        """
        with contextlib.suppress(HostError, OSError, EOFError):
            channel.receive()
            return
        self._lose(name)
        self._mpirun.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._mpirun.wait(_KILL_SECONDS)
        self._mpirun.kill()

    def _hear_answers(self) -> None:
        """Wait until every worker has said that it knows how mpirun ended, or is lost."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        for name, watching in self._watching.items():
            while watching.is_alive() and time.monotonic() < deadline:
                watching.join(WAIT_SECONDS)
            if watching.is_alive():
                self._lose(name)

    def _lose(self, name: str) -> None:
        """Say once that a worker is lost."""
        with self._losing:
            if name not in self._lost:
                self._lost.add(name)
                say(f"{self._cluster.name} has lost {name}")


def reach(cluster: Cluster, words: Sequence[str]) -> int:
    """Run a command on a host, as ``ssh [OPTIONS] HOST COMMAND...`` does; return its exit status."""
    from modelyard.plugins.launchers.mpi_connect import connect

    name, *command = [*_after_options(words)]
    channel = connect(cluster, name, time.monotonic() + PATIENCE)
    channel.send(RUN, " ".join(command).encode())
    try:
        while (frame := channel.receive())[0] == OUTPUT:
            os.write(2, frame[1])
    except EOFError as error:
        raise HostError(f"{name} has gone") from error
    return int(frame[1])


def _after_options(words: Sequence[str]) -> Sequence[str]:
    """Return the words from the first that is no option: those that mpirun gives to ssh have no values."""
    first = next(i for i, word in enumerate(words) if not word.startswith("-"))
    return words[first:]


def join(name: str) -> int:
    """Copy between the standard streams and the Unix socket of this host's server."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(f"\0{name}")
        except ConnectionRefusedError as error:
            raise HostError(f"nothing serves at {name.partition('/')[2]} yet") from error
        # Anybody on this host may take the name first.
        Channel(sock).check_user()
        while True:
            ready, _, _ = select.select((0, sock.fileno()), (), ())
            if sock.fileno() in ready:
                if not (data := sock.recv(64 * 1024)):
                    return 0
                try:
                    _write_all(1, data)
                except BrokenPipeError:  # Who called has gone, and wants no answer.
                    return 0
            if 0 in ready:
                if not (data := os.read(0, 64 * 1024)):
                    return 0
                sock.sendall(data)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
