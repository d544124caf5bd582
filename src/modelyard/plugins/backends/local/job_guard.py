"""The guard of a training job: an in-job program per host, ended together, begun again together."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, ClassVar, cast

import attrs

from modelyard.core import values
from modelyard.core.handover import OUTPUT_URI, ROOM, clip
from modelyard.core.layout import JobLayout
from modelyard.core.namespaces import Room
from modelyard.core.processes import end_descendants
from modelyard.plugins.backends.local import pipes
from modelyard.plugins.backends.local.guard import STOP_MARGIN, Guard, GuardSettings, how, recorded
from modelyard.plugins.backends.local.home import INTERRUPTED

_LIVE = ("InProgress", "Stopping")
_SIBLING_SECONDS = 3.0
"""What the other hosts are given when one has failed: there is nothing left to save."""


@attrs.frozen
class HostSettings:
    """One host of a job.

    ``base``: its ``/opt/ml``; ``feeder``: what writes its pipes, if it has any; ``room``: what it sees
    besides the machine.
    """

    name: str
    base: str
    feeder: tuple[str, ...] = ()
    room: Room = attrs.field(factory=Room)

    @property
    def layout(self) -> JobLayout:
        """Where its files are."""
        return JobLayout(Path(self.base))

    @property
    def environ(self) -> dict[str, str]:
        """Variables for its in-job program."""
        return {ROOM: self.room.to_json()} if self.room.mounts else {}


@attrs.frozen
class JobSettings(GuardSettings):
    """What the guard of a job is told.

    ``hosts``: the master first; ``output``: the URI below which the archives go; ``max_run``: seconds
    after which the job is stopped, or None.
    """

    hosts: tuple[HostSettings, ...] = attrs.field(kw_only=True)
    output: str = attrs.field(kw_only=True)
    max_run: float | None = attrs.field(kw_only=True)


@attrs.frozen
class _Failure:
    """Why a host failed, and when, in nanoseconds since 1970."""

    moment: int
    text: str


class JobGuard(Guard):
    """Keeps the hosts of one job.

    When one fails the others are stopped; when the job is interrupted all are, and are started again
    with what they left in ``checkpoints``.
    """

    _IN_JOB: ClassVar[Sequence[str]] = (sys.executable, "-P", "-m", "modelyard.training")

    def __init__(self, settings: JobSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._hosts: dict[str, subprocess.Popen[bytes]] = {}
        self._feeders: dict[str, subprocess.Popen[bytes]] = {}
        self._failures: dict[str, _Failure] = {}
        self._delivery: subprocess.Popen[bytes] | None = None
        self._interrupted = False
        self._hosts_ended = False
        self._ends_at = None if settings.max_run is None else time.monotonic() + settings.max_run

    def begin(self) -> None:
        """Start every host, and listen for interruptions."""
        signal.signal(signal.SIGUSR1, lambda *_: self._interrupt())
        self._start_hosts()

    def deadline(self) -> float | None:
        """Return when the hosts have used up the job's ``max_run``."""
        return None if self._hosts_ended or self._kill_at is not None else self._ends_at

    def stop(self, because: str) -> None:
        """Ask the hosts to end, for good. What hosts that have ended left is delivered all the same."""
        if not self._hosts_ended and not self._failures:
            super().stop(because)

    def is_over(self) -> bool:
        """Stop the job where it has taken too long or a host has failed; tell whether all has ended."""
        self._note_failures()
        if (deadline := self.deadline()) is not None and time.monotonic() >= deadline:
            self.stop(f"MaxRuntimeExceeded: it ran longer than max_run, {self._settings.max_run:g} s")
        self._end_feeders()
        if self.running():
            return False
        if self._interrupted and not self._stopped_because and not self._succeeded():
            self._restart()
            return False
        self._hosts_ended = True
        if self._delivery is None and self._has_to_deliver():
            self._deliver()
            return False
        return True

    def finish(self) -> None:
        """Record the end: Stopped, Completed, or Failed with the reason of the first host that failed."""
        succeeded = self._succeeded()
        if self._delivery is not None and (code := self._delivery.returncode):
            self._failures["delivery"] = _failure(
                self._settings.hosts[0], code, "the delivery of what it left"
            )
            succeeded = False
        status, reason = "Completed", ""
        if self._stopped_because:
            status, reason = "Stopped", self._stopped_because
        elif self._failures or not succeeded:
            status, reason = "Failed", self._first_failure()
        self._records.move(self._record_id, status, since=_LIVE, reason=reason, delivered=succeeded)

    # -- hosts ---------------------------------------------------------------------------------

    def _start_hosts(self) -> None:
        for host in self._settings.hosts:
            if host.feeder:
                self._start_feeder(host)
            self._hosts[host.name] = self.spawn(self._IN_JOB, host.base, host.environ)

    def _note_failures(self) -> None:
        """Remember which hosts have failed, and have the others end."""
        before = len(self._failures)
        for host in self._settings.hosts:
            code = self._hosts[host.name].poll()
            if code and not self._interrupted and host.name not in self._failures:
                self._failures[host.name] = _failure(host, code)
        if not before and self._failures and not self._stopped_because:
            self.end_programs(_SIBLING_SECONDS)

    def _start_feeder(self, host: HostSettings) -> None:
        feeder = self.spawn(host.feeder, host.base, {}, stdout=subprocess.PIPE)
        self._feeders[host.name] = feeder
        hear = partial(self._hear_feeder, host.name, feeder)
        self._selector.register(cast(IO[bytes], feeder.stdout), selectors.EVENT_READ, hear)

    def _hear_feeder(self, name: str, feeder: "subprocess.Popen[bytes]") -> None:
        """Fail a host whose script would train on less than its data, or wait for it for ever."""
        # It is not closed: without a listener a feeder ends, and the script would take that for the
        # end of an epoch.
        said = cast(IO[bytes], feeder.stdout)
        self._selector.unregister(said)
        text = os.read(said.fileno(), 4096).decode("utf-8", "replace").strip()
        if self._feeders.get(name) is feeder and self._kill_at is None:
            text = text or "what writes the pipes of its channels was killed"
            self._failures[name] = _Failure(time.time_ns(), text)
            self.end_programs(_SIBLING_SECONDS)

    def asked_to_end(self) -> Iterable["subprocess.Popen[bytes]"]:
        """Return the programs without the feeders: a script that saves its work may go on reading."""
        return [program for program in self.running() if program not in self._feeders.values()]

    def _end_feeders(self) -> None:
        """End what writes the pipes of a host whose script has ended."""
        for name in [name for name in self._feeders if self._hosts[name].poll() is not None]:
            self._feeders.pop(name).terminate()

    def _first_failure(self) -> str:
        if not self._failures:
            return "the job ended without a result"
        name, failure = min(self._failures.items(), key=lambda item: item[1].moment)
        return clip(failure.text if len(self._settings.hosts) == 1 else f"{name}: {failure.text}")

    # -- interruptions -------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """End the hosts as the end of a spot instance does: SIGTERM, and the time of grace."""
        if self._interrupted or self._stopped_because or self._failures or self._hosts_ended:
            return
        self._interrupted = True
        sys.stdout.write("modelyard: interrupted; the script has its time of grace\n")
        sys.stdout.flush()
        self.end_programs(self._grace + STOP_MARGIN)

    def _restart(self) -> None:
        """Begin again as on a new instance: with the input and the checkpoints, and nothing else."""
        self._interrupted, self._kill_at = False, None
        self._programs.clear()
        end_descendants()  # What a program that was killed has left would go on beside the new one.
        for host in self._settings.hosts:
            _set_aside(host.layout)
            if host.feeder:
                pipes.renew(host.layout)
        sys.stdout.write("modelyard: started again with the checkpoints\n")
        sys.stdout.flush()
        self._start_hosts()
        if self._stopped_because or self._interrupted:  # While they were being started.
            self.end_programs(self._grace + STOP_MARGIN)

    # -- delivery ------------------------------------------------------------------------------

    def _has_to_deliver(self) -> bool:
        """Tell whether the hosts left something."""
        hosts = self._settings.hosts
        return self._succeeded() or any(_holds_something(host.layout.output_data) for host in hosts)

    def _deliver(self) -> None:
        """Start the program that packs what all hosts left."""
        end_descendants()  # Nobody writes any more.
        bases = [host.base for host in self._settings.hosts]
        model = ["--model"] if self._succeeded() else []
        argv = (sys.executable, "-P", "-m", "modelyard.training.delivery", *model, *bases)
        self._kill_at = None
        self._delivery = self.spawn(argv, bases[0], {OUTPUT_URI: self._settings.output})

    def _succeeded(self) -> bool:
        """Tell whether every script ended well: by itself, or when it was asked to for good."""
        if self._stopped_because:
            return all(program.poll() == 0 for program in self._hosts.values())
        return all(host.layout.success.is_file() for host in self._settings.hosts)


def _failure(host: HostSettings, code: int, program: str = "the in-job program") -> _Failure:
    """Return why a host's program failed: its own words, as of the moment that they are about."""
    path = host.layout.failure
    if text := recorded(path):
        return _Failure(path.stat().st_mtime_ns, text)
    return _Failure(time.time_ns(), f"{program} ended with {how(code)}")


def _set_aside(layout: JobLayout) -> None:
    """Move what an interrupted run made to a folder beside it, and keep its checkpoints in place."""
    attempt = next(path for n in count(1) if not (path := layout.base / INTERRUPTED.format(n)).exists())
    attempt.mkdir()
    for folder in (layout.code, layout.model, layout.output):
        if folder.exists():
            folder.rename(attempt / folder.name)
    layout.create()


def _holds_something(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(folder.iterdir())
    return False


if __name__ == "__main__":
    JobGuard(values.from_json(JobSettings, sys.argv[1])).run()
