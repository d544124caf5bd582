"""``modelyard logs``, ``stop`` and ``interrupt``: what is done to one job."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.cli.lookup import job_of
from modelyard.core.errors import JobError

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands, Parser


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser of ``modelyard``."""
    logs = _command(commands, "logs", _logs, "print a job's log")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    _command(commands, "stop", _stop, "stop a job, and wait until it has ended")
    _command(commands, "interrupt", _interrupt, "rehearse a spot interruption: SIGTERM, then a new start")


def _command(
    commands: "Commands", name: str, run: Callable[[argparse.Namespace], int], purpose: str
) -> "Parser":
    parser = commands.add_parser(name, help=purpose, examples=(f"modelyard {name} NAME",))
    parser.add_argument("name", metavar="NAME", help="of the job, as modelyard jobs shows it")
    parser.add_argument("--backend", default="local", metavar="NAME", help="default: local")
    parser.set_defaults(run=run)
    return parser


def _logs(options: argparse.Namespace) -> int:
    for line in job_of(options).logs(follow=options.follow):
        print(line, flush=options.follow)
    return 0


def _stop(options: argparse.Namespace) -> int:
    job = job_of(options)
    if (status := job.describe().status).is_terminal:
        print(f"training job {job.name} has ended already: {status}")
        return 0
    print(f"training job {job.name}: stopping", flush=True)
    job.stop()
    print(f"training job {job.name}: {job.describe().status}")
    return 0


def _interrupt(options: argparse.Namespace) -> int:
    from modelyard.core.contracts import InterruptibleJob

    job = job_of(options)
    if not isinstance(job, InterruptibleJob):
        raise JobError(
            f"the backend {options.backend!r} cannot interrupt a job and start it again; "
            f"to end it: modelyard stop {job.name}"
        )
    status = job.describe().status
    if status.is_terminal:
        raise JobError(f"training job {job.name!r} has ended already: {status}")
    job.interrupt()
    print(f"training job {job.name}: interrupting; it starts again with its checkpoints")
    print(f"follow it with: modelyard logs {job.name} --follow")
    return 0
