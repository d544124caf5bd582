"""Starting a server on its cores, waiting for its first right answer, and ending all of it."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs
import psutil

from benchmarks.serving.environments import ROOT, Absent
from benchmarks.serving.load import pinned
from benchmarks.serving.workloads import Case

START_SECONDS = 60
END_SECONDS = 8


@attrs.frozen
class Command:
    """How a server is started in a folder of its own, and where it takes requests."""

    argv: list[str]
    env: Mapping[str, str] = attrs.field(factory=dict)
    path: str = "/invocations"


@attrs.frozen
class Server:
    """A server that runs."""

    process: psutil.Popen
    port: int
    path: str
    log: Path

    def processes(self) -> list[psutil.Process]:
        """Return every process of its session: some launchers end and leave the server an orphan."""
        return [each for each in psutil.process_iter() if _session(each.pid) == self.process.pid]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in bound]


@contextlib.contextmanager
def started(command: Command, port: int, folder: Path, cores: Collection[int]) -> Iterator[Server]:
    """Run a server in `folder`, its output in ``log`` there; with the block it ends, to the last process."""
    log = folder / "log"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Its own folder for temporary files: TorchServe keeps its only instance's id there.
    environ = {**os.environ, **threads, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **command.env}
    with log.open("wb") as output:
        process = psutil.Popen(
            pinned(command.argv, cores),
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, command.path, log)
    try:
        yield server
    finally:
        _end(server)


def _end(server: Server) -> None:
    """End the server's session: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = server.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(processes, timeout=END_SECONDS)
    server.process.wait(END_SECONDS)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Return a folder for a server's files, which the last of its processes may still write to."""
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def await_answer(server: Server, case: Case) -> None:
    """Wait until the case's request is answered, and rightly. Raises `Absent`."""
    deadline, said = time.monotonic() + START_SECONDS, "nothing"
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise Absent(f"it ended with {server.process.returncode}: {_tail(server.log)}")
        try:
            status, body = ask(server, case)
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        else:
            if status == 200:
                _check(case, body)
                return
            said = f"{status} {body[:200]!r}"
        time.sleep(0.05)
    raise Absent(f"no answer in {START_SECONDS} s, but {said}: {_tail(server.log)}")


def ask(server: Server, case: Case) -> tuple[int, bytes]:
    """Send the case's request once; return the status and the body of the answer."""
    headers = dict.fromkeys(("Content-Type", "Accept"), case.workload.media_type)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", server.path, case.body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _check(case: Case, body: bytes) -> None:
    try:
        case.check(body)
    except ValueError as error:
        raise Absent(f"a wrong answer: {error}") from error


def _tail(log: Path) -> str:
    """Return the last line that names an error, or else the last one."""
    lines = log.read_text(errors="replace").split("\n")
    named = [line for line in lines if re.search(r"\w+Error\b", line)]
    return (named or [line for line in lines if line] or ["it printed nothing"])[-1].strip()[-300:]
