"""``modelyard serve``: a model's server on this machine, without an endpoint's records."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from modelyard.cli.serve_options import GROUPS, flag_of, serve_parser
from modelyard.core.listening import is_ready, listen

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands
    from modelyard.cli.served import Task

_POLL = 0.1
_ANSWERS_WITHIN = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where those can be reached from here


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    serve_parser(commands).set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from modelyard.cli.served import Task, unpacked
    from modelyard.serving.settings import ServerSettings

    given = _given(options)
    environ = {**os.environ, **given}
    names = {variable: flag_of(name) for name, variable in _variables().items() if variable in given}
    settings = ServerSettings.from_environ(environ, names)
    model = Path(options.model)
    # A signal during all this is to leave no folder behind; later the server has its own way with them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="modelyard-serve-") as own:
        with listen(settings.host, settings.port) as listening:
            folder = unpacked(model, Path(own))
            print(f"loading the model of {options.model}", flush=True)
            address = listening.getsockname()[:2]
            task = Task(str(model.absolute()), str(folder.absolute()), own, listening.fileno())
            server = _Server(task, environ)
        return server.run(options.model, address)


def _variables() -> dict[str, str]:
    """Return the variable of each setting."""
    from modelyard.serving.settings import PREFIX

    return {name: PREFIX + name.upper() for group in GROUPS.values() for name, *_ in group}


def _given(options: argparse.Namespace) -> dict[str, str]:
    """Return the options that were given, as the variables that the server reads."""
    values = {variable: getattr(options, name) for name, variable in _variables().items()}
    return {variable: str(value) for variable, value in values.items() if value is not None}


class _Server:
    """The server's process, in a session of its own: it gets the signals that this process passes on.

    In the terminal's foreground it would get Ctrl-C twice, and the second one means haste.
    """

    def __init__(self, task: "Task", environ: Mapping[str, str]) -> None:
        import subprocess

        from modelyard.core import values
        from modelyard.core.handover import GUARD_PID

        self._is_ready = self._is_stopped = False
        self._terminal = next((fd for fd in range(3) if os.isatty(fd)), None)
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            # -P: what lies in the folder that the program runs in is not to be imported by accident.
            [sys.executable, "-P", "-m", "modelyard.cli.served", values.to_json(task)],
            env={**environ, GUARD_PID: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(task.listen,),
        )

    def run(self, model: str, address: tuple[str, int]) -> int:
        """Wait for the server's end, say once that it is ready, and return the exit status."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        while self._process.poll() is None and not self._is_ready:
            self._is_ready = is_ready(address, _ANSWERS_WITHIN)
            if self._is_ready and not self._is_stopped:
                host = _EVERYWHERE.get(address[0], address[0])
                url = f"http://{f'[{host}]' if ':' in host else host}:{address[1]}"
                print(f"serving {model} at {url} (docs: {url}/docs); Ctrl-C ends it", flush=True)
            else:
                self._wait(_POLL)
        self._wait(None)
        from modelyard.core.processes import exit_status

        return 0 if self._is_stopped else exit_status(self._process.returncode)

    def _wait(self, seconds: float | None) -> None:
        import subprocess

        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _stop(self, sig: int, _frame: FrameType | None) -> None:
        self._is_stopped = True
        self._process.send_signal(sig)

    def _reload(self, _sig: int, frame: FrameType | None) -> None:
        """Pass a hang-up on, for a new model; but where the terminal was closed it means the end."""
        if self._terminal is not None and not os.isatty(self._terminal):
            self._stop(signal.SIGTERM, frame)
        elif self._is_ready:  # A server that is still starting would die of the signal.
            self._process.send_signal(signal.SIGHUP)
