"""Run one command to its end: the only place of a job that spawns.

The command gets a session of its own. Its output is relayed whole lines at a time, standard error
apart from standard output; signals to stop are passed on, and what it started has a time of grace to
end, also where the command itself ends at once; orphans are reaped, also where this process is PID 1.
Nothing is polled: signals, ended children, output and readers that come back all wake one `select`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import Self

import attrs

from modelyard.core.contracts import Command
from modelyard.core.errors import InvalidPlanError
from modelyard.core.processes import (
    become_subreaper,
    die_with_parent,
    end_descendants,
    exit_status,
    reap_orphans,
    signal_descendants,
)
from modelyard.training.relay import Relay
from modelyard.training.stopping import Interrupted, Stop, signals
from modelyard.training.streams import RelaySettings
from modelyard.training.tails import Said

__all__ = ["Interrupted", "Outcome", "Stop", "run", "signals"]

_KILL_AGAIN_SECONDS = 0.5


@attrs.frozen
class Outcome:
    """How a command ended.

    ``exit_code``: the command's own, or 128 plus the number of the signal that ended it;
    ``signal``: that number, else 0; ``stopped``: whether this process was told to stop it;
    ``stderr`` and ``ranks``: what the command and each rank with streams of its own said at the end;
    ``started``: False for a command that never was, because the order to stop came first.
    """

    exit_code: int
    signal: int
    stopped: bool
    stderr: Said = Said()  # noqa: RUF009 - frozen
    ranks: tuple[Said, ...] = ()
    started: bool = True

    @classmethod
    def unstarted(cls, sig: int) -> Self:
        """Return the outcome of what was to be started when the signal of that number arrived."""
        return cls(128 + sig, sig, stopped=True, started=False)

    @property
    def stderr_tail(self) -> str:
        """The end of the command's standard error."""
        return self.stderr.text


def run(
    command: Command,
    environ: Mapping[str, str],
    *,
    grace: float = 30.0,
    relay: RelaySettings = RelaySettings(),  # noqa: B008 - frozen
    stop: Stop | None = None,
) -> Outcome:
    """Run `command` with exactly `environ` (to which its own is added) and relay its output.

    `grace`: seconds that all it started has to end, once this process is told to stop, before SIGKILL;
    `stop`: of the `signals` that the caller has taken. If one has arrived, nothing is started.
    """
    if stop is None:
        with signals() as taken:
            return run(command, environ, grace=grace, relay=relay, stop=taken)
    if stop.pending:
        return Outcome.unstarted(stop.signal)
    become_subreaper()
    with stop.held(), Relay(relay, command.ranks, stop) as streams:
        told = {**environ, **command.environ, **streams.environ}
        with _started(command, told, streams) as child, stop.forwarded_to(child.pid):
            _watch(child, streams, stop, grace)
            _outwait(child.pid, streams, stop, grace)
    code = child.returncode
    said, ranks = streams.said
    return Outcome(exit_status(code), max(-code, 0), stop.pending, said, ranks)


def _watch(child: "subprocess.Popen[bytes]", streams: Relay, stop: Stop, grace: float) -> None:
    """Relay until the command has ended; kill everything once the time of grace is over."""
    while child.poll() is None:
        left = stop.seconds_left(grace)
        if left == 0:
            signal_descendants(signal.SIGKILL)
            left = _KILL_AGAIN_SECONDS
        streams.pump(left)
        reap_orphans(child.pid)


def _outwait(group: int, streams: Relay, stop: Stop, grace: float) -> None:
    """Leave what a stopped command has left behind the rest of its time.

    A shell dies of SIGTERM at once, while the program that it runs still saves. What is in another
    group than the command's has not had the signal, unless the command passed it on.
    """
    if stop.pending and reap_orphans():
        signal_descendants(signal.Signals(stop.signal), but_of=group)
    while (left := stop.seconds_left(grace)) and reap_orphans():
        streams.pump(left)


@contextlib.contextmanager
def _started(
    command: Command, environ: Mapping[str, str], streams: Relay
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the command; whatever happens in the block, nothing of it is left running."""
    parent = os.getpid()
    try:
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=streams.stdout,
            stderr=streams.stderr,
            start_new_session=True,
            # Safe: this process has one thread, and the call is a single system call.
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        program = command.argv[0]
        raise InvalidPlanError(f"{program} is not here: install it, or put it on the PATH") from error
    finally:
        streams.started()
    try:
        yield child
    finally:
        end_descendants()
