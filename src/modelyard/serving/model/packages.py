"""What the model's code asks pip for: installed before the server starts, which then starts anew.

Anew, because what a running Python has imported stays as it is, whatever pip installs; and only a
Python that was started in an environment has all of it: its packages, its tools, its plugins, and
whatever else user code starts with ``sys.executable``.
"""

import contextlib
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn, TextIO

import attrs

from modelyard.core import packages
from modelyard.core.contracts import Command
from modelyard.core.errors import InstallError
from modelyard.core.handover import HANDED_OVER, clip
from modelyard.core.processes import become_subreaper, die_with_parent, end_descendants, exit_status
from modelyard.serving.model.folder import ModelFolder

_INSTALLED = "MODELYARD_SERVE_PACKAGES_INSTALLED"
_LINES = 200
"""How much of the end of what pip says is looked through for the reason of a failure."""
_STEPS = ("Collecting ", "Processing ", "Obtaining ", "Building wheel for ", "Downloading ")
"""How lines begin by which pip says which requirement it is at."""
_WIDTH = 120


@attrs.frozen
class _Ended:
    """How pip ended."""

    exit_code: int
    stderr_tail: str


def provide(folder: ModelFolder, *, into: Path | None, timeout: float) -> None:
    """Install what the model's code asks for, and start this program anew with it; return without.

    `into`: the folder of an environment to make, instead of that of this process; `timeout`: seconds.
    For the main thread, while there are neither other threads nor children. Raises `InstallError`.
    """
    if os.environ.pop(_INSTALLED, "") or folder.requirements is None:
        return
    interpreter = install(folder.requirements, into=into, timeout=timeout)
    environ = {**os.environ, **packages.activation(interpreter, os.environ), _INSTALLED: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(interpreter, [interpreter, *sys.orig_argv[1:]], environ)  # noqa: S606 - this same program


def install(requirements: Path, *, into: Path | None, timeout: float) -> str:
    """Install what a file asks for; return the interpreter that has it. Raises `InstallError`.

    pip is ended, with all that it started, where it takes longer than `timeout` seconds or this process
    is told to stop, which ends it as well.
    """
    environ = {name: value for name, value in os.environ.items() if name not in HANDED_OVER}
    needed, pip = _needed(), _Pip(timeout)
    with tempfile.TemporaryDirectory(prefix="constraints-") as scratch, _stoppable():
        constraints = Path(scratch, "constraints.txt")
        constraints.write_text("\n".join(needed), "utf-8")
        try:
            return packages.install(
                ("-r", requirements.name),
                requirements.parent,
                environ,
                pip.run,
                into=into,
                constraints=constraints,
            )
        except InstallError as error:
            said = f"the packages that the model's code asks for were not installed{pip.place}: {error}"
            if "conflicting dependencies" in said:
                said += f". The model server needs {', '.join(needed)}"
            raise InstallError(clip(said)) from error


def _needed() -> list[str]:
    """Return what the model server itself needs, which a requirement must not replace by less."""
    try:
        named = importlib.metadata.requires("modelyard") or []
    except importlib.metadata.PackageNotFoundError:  # Copied, not installed.
        return []
    return [requirement for requirement in named if "extra ==" not in requirement]


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Have the signals to stop end this process in good order: that is no failure."""

    def stop(*_: object) -> NoReturn:
        sys.exit(0)

    before = {sig: signal.signal(sig, stop) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


class _Pip:
    """Runs pip within `timeout` seconds, and remembers what it said."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._out: deque[bytes] = deque(maxlen=_LINES)
        self._err: deque[bytes] = deque(maxlen=_LINES)

    @property
    def place(self) -> str:
        """Which requirement pip was at; empty where it had come to none."""
        lines = (line.decode("utf-8", "replace").strip() for line in reversed(self._out))
        found = next((line for line in lines if line.startswith(_STEPS)), "")
        return f" (it ended at '{found[:_WIDTH]}')" if found else ""

    def run(self, command: Command, environ: Mapping[str, str]) -> _Ended:
        """Run a command to its end, in time; nothing of it is left running. Raises `InstallError`."""
        become_subreaper()
        parent = os.getpid()
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Safe: this process has one thread, and the call is a single system call.
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509
        )
        streams = ((child.stdout, sys.stdout, self._out), (child.stderr, sys.stderr, self._err))
        relays = [threading.Thread(target=_relay, args=stream, daemon=True) for stream in streams]
        for relay in relays:
            relay.start()
        try:
            code = child.wait(self._timeout)
        except subprocess.TimeoutExpired:
            raise InstallError(
                f"pip had not finished after {self._timeout:g} s, the time that the model has to start: ask "
                "for less, pin the versions, or raise the start-up time-out"
            ) from None
        finally:
            end_descendants()
            child.poll()
            for relay in relays:
                relay.join()
        return _Ended(exit_status(code), b"".join(self._err).decode("utf-8", "replace"))


def _relay(pipe: IO[bytes], log: TextIO, said: deque[bytes]) -> None:
    """Pass each line on to the log, and remember it."""
    with pipe:
        for line in pipe:
            said.append(line)
            log.buffer.write(line)
            log.buffer.flush()
