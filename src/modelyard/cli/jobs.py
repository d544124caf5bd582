"""``modelyard jobs``: which there are, and all about one of them."""

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from modelyard.cli.lookup import job_of, jobs_of

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands, Parser
    from modelyard.cli.terminal import Terminal
    from modelyard.core.contracts import JobDescription

_COLUMNS = ("name", "status", "started", "duration", "hosts", "entry point")
_SHOWN = 20


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    jobs = commands.add_parser(
        "jobs",
        help="list the training jobs, or show one",
        description="List the training jobs, the newest first; with show NAME, say all about one of them.",
        usage="modelyard jobs [options]\n       modelyard jobs show NAME [options]",
        examples=("modelyard jobs --status Failed", "modelyard jobs show NAME"),
    )
    jobs.add_argument(
        "--limit", type=_limit, default=_SHOWN, metavar="N", help="how many; default: %(default)s; 0: all"
    )
    jobs.add_argument("--status", type=_status, metavar="STATUS", help="only those, as Failed or InProgress")
    _add_common(jobs, backend="local", json=False)
    jobs.set_defaults(run=_list)
    show = jobs.add_subparsers(title="commands", metavar="COMMAND", prog="modelyard jobs").add_parser(
        "show", help="how a job stands, its plan, its metrics", examples=("modelyard jobs show NAME",)
    )
    show.add_argument("name", metavar="NAME", help="of the job")
    # Suppressed: the defaults of a command within would win over what was said before its name.
    _add_common(show, backend=argparse.SUPPRESS, json=argparse.SUPPRESS)
    show.set_defaults(run=_show)


def _add_common(parser: "Parser", *, backend: str, json: bool | str) -> None:
    parser.add_argument("--backend", default=backend, metavar="NAME", help="default: local")
    parser.add_argument("--json", action="store_true", default=json, help="for programs")


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs")
    return int(text)


def _status(text: str) -> str:
    from modelyard.core.plans import JobStatus

    states = {status.lower(): status for status in JobStatus}
    if text.lower() not in states:
        raise argparse.ArgumentTypeError(f"{text!r} is no state of a job: use {', '.join(JobStatus)}")
    return states[text.lower()]


def _list(options: argparse.Namespace) -> int:
    found = [job for job in jobs_of(options) if options.status in (None, job.status)]
    shown = found[: options.limit or None]
    if options.json:
        import json

        from modelyard.cli.description import as_dict

        print(json.dumps([as_dict(job) for job in shown], indent=2))
    elif not shown:
        which = f" that are {options.status}" if options.status else ""
        print(f"there are no training jobs{which}; start one with: modelyard fit train.py")
    else:
        from modelyard.cli.terminal import Terminal

        print("\n".join(_lines(shown, Terminal.of(sys.stdout), datetime.now().astimezone())))
        if len(found) > len(shown):
            print(f"and {len(found) - len(shown)} older ones: modelyard jobs --limit 0 shows all")
    return 0


def _lines(jobs: "list[JobDescription]", terminal: "Terminal", now: datetime) -> list[str]:
    """Return a table; the reason of a job that has one is on a line of its own, below the job's."""
    from modelyard.cli.description import colour_of
    from modelyard.cli.tables import table

    def paint(column: str, cell: str) -> str:
        return terminal.paint(cell, colour_of(cell.strip())) if column == "status" else cell

    header, *rows = table([_row(job, now) for job in jobs], _COLUMNS, paint)
    lines = [header]
    for job, row in zip(jobs, rows, strict=True):
        lines.append(row)
        if job.reason:
            lines.append(terminal.cut("  " + " ".join(job.reason.split())))
    return lines


def _row(job: "JobDescription", now: datetime) -> dict[str, str]:
    from modelyard.cli.description import seconds_of
    from modelyard.cli.times import duration, moment

    return {
        "name": job.name,
        "status": job.status,
        "started": moment(job.created, now),
        "duration": duration(seconds_of(job)),
        "hosts": str(job.plan.resources.instance_count),
        "entry point": job.plan.source.program if job.plan.source else "the image's",
    }


def _show(options: argparse.Namespace) -> int:
    from modelyard.cli.description import as_json, for_people
    from modelyard.cli.terminal import Terminal
    from modelyard.core.contracts import MeasuredJob

    job = job_of(options)
    description = job.describe()
    metrics = job.metrics() if isinstance(job, MeasuredJob) else ()
    if options.json:
        print(as_json(description, metrics))
    else:
        terminal = Terminal.of(sys.stdout)
        print(for_people(description, metrics, terminal, datetime.now().astimezone()))
    return 0
