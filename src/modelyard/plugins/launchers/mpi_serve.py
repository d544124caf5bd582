"""What a worker of an MPI job runs: it starts what mpirun wants started, as a child of its own."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import threading
import time

from modelyard.core.processes import become_subreaper, end_descendants, exit_status
from modelyard.plugins.launchers.mpi_connect import keep_alive, listen
from modelyard.plugins.launchers.mpi_ranks import RankSignal
from modelyard.plugins.launchers.mpi_wire import (
    EXIT,
    LEAD,
    OUTPUT,
    PATIENCE,
    READY,
    RUN,
    SIGNAL,
    WAIT_SECONDS,
    Channel,
    Cluster,
    HostError,
    admit,
    prepare_to_admit,
    reason,
    say,
)

_SAY_SECONDS = 30.0
_END_SECONDS = 2.0
_DEATH_SECONDS = 1.0
_PAUSE_SECONDS = 0.1
_BY_SIGNAL = 128
"""An exit status above is that of a process which a signal ended."""
_STRANGERS = 32
"""How many may be asked at once who they are; the others wait to be accepted."""


class Server:
    """Waits for the master, and lives as long as the master's connection.

    What it starts has the environment of this host's job, and ends with it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._led = threading.Event()
        self._status: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._running: list[tuple[subprocess.Popen[bytes], threading.Thread]] = []
        self._unwanted: set[int] = set()
        self._killed: set[int] = set()
        self._died = 0
        self._strangers = threading.BoundedSemaphore(_STRANGERS)
        self._refused = False
        self._ranks = RankSignal()

    def run(self) -> int:
        """Return the exit status of the master. Raises `HostError` where the master does not come."""
        become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._ranks.send(number))
        try:
            prepare_to_admit()
            with listen(self._cluster) as listener:
                threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
                self._wait_for_master()
                return self._told()
        finally:
            end_descendants(_END_SECONDS)

    def _wait_for_master(self) -> None:
        cluster = self._cluster
        began = said = time.monotonic()
        while (left := began + cluster.timeout - time.monotonic()) > 0:
            if self._led.wait(min(left, WAIT_SECONDS)):
                return
            if (now := time.monotonic()) > said + _SAY_SECONDS:
                say(f"{cluster.name} is waiting for {cluster.master}")
                said = now
        raise HostError(
            f"{cluster.master} did not come within {cluster.timeout:g} s; a longer start_timeout waits longer"
        )

    def _told(self) -> int:
        """Return the status that the master ends with, and attend to signals meanwhile."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._status.get(timeout=WAIT_SECONDS)

    def _accept(self, listener: socket.socket) -> None:
        """Attend to whoever calls, until the listener is closed: the job is over."""
        while listener.fileno() >= 0:
            self._strangers.acquire()
            try:
                self._attend_next(listener)
            except (OSError, RuntimeError):  # No descriptor or thread is left, or the caller is gone.
                self._strangers.release()
                time.sleep(_PAUSE_SECONDS)

    def _attend_next(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        try:
            threading.Thread(target=self._attend, args=(sock,), daemon=True).start()
        except RuntimeError:
            sock.close()
            raise

    def _attend(self, sock: socket.socket) -> None:
        channel = Channel(sock)
        try:
            kind, payload = self._asked(sock, channel)
        except (HostError, OSError, EOFError) as error:
            self._say_refused(error)
        else:
            with contextlib.suppress(HostError, OSError, EOFError):
                self._run(channel, payload.decode()) if kind == RUN else self._follow(channel)
        channel.close()

    def _say_refused(self, error: Exception) -> None:
        """Say so once: who may connect may do so without end, and fill the log."""
        if not self._refused:
            self._refused = True
            say(f"{self._cluster.name} refused a connection: {reason(error)}; of others it says nothing")

    def _asked(self, sock: socket.socket, channel: Channel) -> tuple[bytes, bytes]:
        """Return what a peer wants that has shown who it is. Raises `HostError` for anything else."""
        channel.wait(PATIENCE)
        try:
            admit(channel, self._cluster.key, self._cluster.name)
        finally:
            self._strangers.release()
        keep_alive(sock)
        channel.send(READY)
        kind, payload = channel.receive()
        if kind not in {RUN, LEAD} or (kind == LEAD and self._led.is_set()):
            raise HostError(f"it asks for {kind!r}")
        channel.wait(None)
        return kind, payload

    def _follow(self, channel: Channel) -> None:
        """Hold the master's connection: its end is the end of this host's part."""
        self._led.set()
        status = 1
        try:
            while (frame := channel.receive())[0] == SIGNAL:
                self._ranks.send(int(frame[1]))
            with contextlib.suppress(OSError):
                channel.send(EXIT)
            code, _, report = frame[1].decode().partition(" ")
            status = int(code)
            if report:
                say(report)
            # The master is done, and so will be what it started here: in a moment, by itself.
            deadline = time.monotonic() + _END_SECONDS
            for process, relay in self._running:
                relay.join(max(0.0, deadline - time.monotonic()))
                self._note_end(process)  # What it left behind may hold its output.
            if not status and self._died:
                # mpirun may take the loss of a host for the end of its ranks.
                say(f"what mpirun had started on {self._cluster.name} ended with status {self._died}")
                status = self._died
        except (HostError, OSError, EOFError):
            say(f"{self._cluster.name} has lost {self._cluster.master}")
        finally:
            self._status.put(status)

    def _run(self, channel: Channel, command: str) -> None:
        """Run a command until it ends, or until the one who wants it has gone."""
        process = subprocess.Popen(
            ("/bin/sh", "-c", command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        relay = threading.Thread(target=self._relay, args=(process, channel), daemon=True)
        self._running.append((process, relay))
        relay.start()
        try:
            channel.receive()
        finally:
            self._unwanted.add(process.pid)
            # Of one that was killed mpirun may know, and be gone, before it is known here.
            relay.join(_DEATH_SECONDS)
            if process.poll() is None:
                self._killed.add(process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _relay(self, process: "subprocess.Popen[bytes]", channel: Channel) -> None:
        """Send the output of a process, and how it ended."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process:
            while chunk := os.read(process.stdout.fileno(), 64 * 1024):
                with contextlib.suppress(OSError):  # How it ends counts, though nobody hears what it says.
                    channel.send(OUTPUT, chunk)
            status = exit_status(process.wait())
            self._note_end(process)
            with contextlib.suppress(OSError):
                channel.send(EXIT, str(status).encode())

    def _note_end(self, process: "subprocess.Popen[bytes]") -> None:
        """Remember the status of a process that has ended, if it counts."""
        code = process.poll()
        if code and self._counts(process.pid, exit_status(code)):
            self._died = self._died or exit_status(code)

    def _counts(self, pid: int, status: int) -> bool:
        """Tell whether the end of a process is of its own: what nobody wants any more may end as it likes."""
        by_signal = status > _BY_SIGNAL
        return pid not in self._killed and (by_signal or pid not in self._unwanted)
