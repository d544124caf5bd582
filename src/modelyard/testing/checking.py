"""Run a contract on what is installed, in a process of its own, and get a verdict for each promise.

The process may end in the middle of a promise, or never: that promise is broken then, and another
process goes on with those after it.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.errors import PluginError
from modelyard.core.processes import signal_name
from modelyard.core.values import to_json

OK, BROKEN, SKIPPED = "ok", "broken", "skipped"
_STARTUP = 60.0
"""Seconds, at least, for the process to say something: it imports a plugin, pytest and more."""
_GLANCE = 0.2
"""Seconds between two looks at whether the process still lives."""


@attrs.frozen
class Task:
    """What is to be checked, and with what.

    ``kind``: a provider's, or ``plugin``; ``options``: to make the provider with; ``uri``: below which a
    storage may write; ``run``: whether what may be seen by others, or cost money, may be done;
    ``instance_type``: what a backend is to run on; ``contract``: ``module:class`` of the author's own
    tests; ``timeout``: seconds for each promise; ``done``: the promises that have a verdict.
    """

    kind: str
    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    uri: str = ""
    run: bool = False
    instance_type: str = ""
    contract: str = ""
    timeout: float = 120.0
    done: tuple[str, ...] = ()


@attrs.frozen
class Verdict:
    """Of one promise, or of the whole where ``promise`` is empty: ``outcome`` is ok, broken or skipped."""

    promise: str
    text: str
    outcome: str
    reason: str = ""


def check(task: Task) -> Iterator[Verdict]:
    """Yield the verdict of each promise, as soon as there is one.

    Raises `PluginError` where the task itself is wrong: an option that there is not, say.
    """
    while True:
        with tempfile.TemporaryDirectory(prefix="modelyard-check-", ignore_cleanup_errors=True) as scratch:
            process = _Process(task, Path(scratch))
            try:
                yield from process.verdicts()
            finally:
                process.end()
        if not process.is_cut_short:
            return
        task = attrs.evolve(task, done=(*task.done, *process.judged))


def named(patterns: Iterable[str]) -> str | None:
    """Return the first instance type that is one, and no pattern of several."""
    return next((pattern for pattern in patterns if not set("*?[").intersection(pattern)), None)


class _Process:
    """One process that runs a contract; what it says comes through a pipe, line by line."""

    def __init__(self, task: Task, scratch: Path) -> None:
        self.judged: list[str] = []
        self.is_cut_short = False
        self._timeout = task.timeout
        self._patience = max(task.timeout, _STARTUP)
        self._current: tuple[str, str] | None = None
        self._said_all = False
        self._output = (scratch / "output").open("w+b")
        self._pipe, theirs = os.pipe()
        # -P: what lies in the working directory is not to be imported by accident.
        argv = [sys.executable, "-P", "-m", "modelyard.testing.promises", str(theirs), str(scratch)]
        environ = {**os.environ, "MODELYARD_HOME": str(scratch / "home"), "TMPDIR": str(scratch)}
        self._process = subprocess.Popen(
            [*argv, to_json(task)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(theirs,),
            start_new_session=True,
        )
        os.close(theirs)

    def verdicts(self) -> Iterator[Verdict]:
        """Yield what the process says, and what its end says."""
        for message in self._messages():
            if "error" in message:
                raise PluginError(message["error"])
            if "start" in message:
                self._current = (message["start"], message["text"])
            elif "verdict" in message:
                self._current = None
                self.judged.append(message["verdict"]["promise"])
                yield Verdict(**message["verdict"])
            else:
                self._said_all = True
        if not self._said_all:
            yield self._verdict_of_its_end()

    def _verdict_of_its_end(self) -> Verdict:
        status = self._process.poll()
        if status is None:
            why = f"not ended after {self._patience:g} s"
        else:
            how = f"by {signal_name(-status)}" if status < 0 else f"with status {status}"
            why = f"the interpreter ended {how}{self._last_line()}"
        if self._current is None:
            return Verdict("", "it can be imported and made", BROKEN, why)
        promise, text = self._current
        self.judged.append(promise)
        self.is_cut_short = True
        return Verdict(promise, text, BROKEN, why)

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Yield what comes through the pipe, until the process has ended or has been silent too long."""
        buffer = b""
        deadline = time.monotonic() + self._patience
        while True:
            # Looked at before the pipe: what was said in time may be read late.
            is_late, has_ended = time.monotonic() >= deadline, self._process.poll() is not None
            ready, _, _ = select.select([self._pipe], [], [], 0 if has_ended or is_late else _GLANCE)
            if not ready and not has_ended:
                if is_late:
                    return
                continue
            data = os.read(self._pipe, 65536) if ready else b""
            if not data:
                with contextlib.suppress(subprocess.TimeoutExpired):  # What has closed its pipe may live on.
                    self._process.wait(max(_GLANCE, deadline - time.monotonic()))
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._patience = self._timeout
                deadline = time.monotonic() + self._patience
                yield json.loads(line)

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def end(self) -> None:
        """End the process and those below it that have not left its session, where it has ended too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._pipe)
        self._output.close()
