"""``modelyard endpoints``, ``reload`` and ``delete-endpoint``: which there are, and what is done to them."""

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from modelyard.cli.lookup import described_endpoint, endpoint_of, endpoints_of
from modelyard.core.errors import EndpointError

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands, Parser
    from modelyard.cli.terminal import Terminal
    from modelyard.core.contracts import EndpointDescription

_COLUMNS = ("name", "status", "started", "age", "url", "model")
_SHOWN = 20


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser of ``modelyard``."""
    _add_endpoints(commands)
    reload = commands.add_parser(
        "reload",
        help="have an endpoint load its model anew",
        description=(
            "Have an endpoint load its model's folder anew, code included. The old model answers until the\n"
            "new one can, and goes on where the new one cannot be loaded: the log says so."
        ),
        examples=("modelyard reload NAME",),
    )
    delete = commands.add_parser(
        "delete-endpoint",
        help="end an endpoint and free its name",
        description="End endpoints: what they are answering is answered first. Their names are free then.",
        examples=("modelyard delete-endpoint NAME", "modelyard delete-endpoint NAME NAME"),
    )
    for parser, run in ((reload, _reload), (delete, _delete)):
        parser.add_argument("names", nargs="+", metavar="NAME", help="as modelyard endpoints shows it")
        parser.add_argument("--backend", default="local", metavar="NAME", help="default: local")
        parser.set_defaults(run=run)


def _add_endpoints(commands: "Commands") -> None:
    endpoints = commands.add_parser(
        "endpoints",
        help="list the endpoints, or show one",
        description="List the live endpoints, the newest first; with show NAME, say all about one of them.",
        usage=(
            "modelyard endpoints [options]\n"
            "       modelyard endpoints show NAME [options]\n"
            "       modelyard endpoints logs NAME [options]"
        ),
        examples=(
            "modelyard endpoints",
            "modelyard endpoints --status Failed",
            "modelyard endpoints show NAME",
            "modelyard endpoints logs NAME --follow",
        ),
    )
    endpoints.add_argument("--all", action="store_true", help="also those that have ended")
    endpoints.add_argument(
        "--status", type=_status, metavar="STATUS", help="only those, as InService or Failed"
    )
    endpoints.add_argument(
        "--limit", type=_limit, default=_SHOWN, metavar="N", help="how many; default: %(default)s; 0: all"
    )
    _add_json(endpoints, default=False)
    endpoints.add_argument("--backend", default="local", metavar="NAME", help="default: local")
    endpoints.set_defaults(run=_list)
    within = endpoints.add_subparsers(title="commands", metavar="COMMAND", prog="modelyard endpoints")
    show = within.add_parser(
        "show", help="how an endpoint stands, and its plan", examples=("modelyard endpoints show NAME",)
    )
    # Suppressed: the defaults of a command within would win over what was said before its name.
    _add_json(show, default=argparse.SUPPRESS)
    logs = within.add_parser(
        "logs", help="print an endpoint's log", examples=("modelyard endpoints logs NAME --follow",)
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the endpoint has ended")
    for parser, run in ((show, _show), (logs, _logs)):
        parser.add_argument("name", metavar="NAME", help="of the endpoint")
        parser.add_argument("--backend", default=argparse.SUPPRESS, metavar="NAME", help="default: local")
        parser.set_defaults(run=run)


def _add_json(parser: "Parser", *, default: bool | str) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="for programs")


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of endpoints")
    return int(text)


def _status(text: str) -> str:
    from modelyard.core.plans import EndpointStatus

    states = {status.lower(): status for status in EndpointStatus}
    if text.lower() not in states:
        known = ", ".join(EndpointStatus)
        raise argparse.ArgumentTypeError(f"{text!r} is no state of an endpoint: use {known}")
    return states[text.lower()]


# -- looking -----------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    found = [endpoint for endpoint in endpoints_of(options) if _is_asked_for(endpoint, options)]
    shown = found[: options.limit or None]
    if options.json:
        import json

        from modelyard.cli.description import as_dict

        print(json.dumps([as_dict(endpoint) for endpoint in shown], indent=2))
    elif not shown:
        print(_none(options))
    else:
        from modelyard.cli.terminal import Terminal

        print("\n".join(_lines(shown, Terminal.of(sys.stdout), datetime.now().astimezone())))
        if len(found) > len(shown):
            print(f"and {len(found) - len(shown)} older ones: modelyard endpoints --limit 0 shows all")
    return 0


def _is_asked_for(endpoint: "EndpointDescription", options: argparse.Namespace) -> bool:
    if options.status:
        return bool(endpoint.status == options.status)
    return bool(options.all) or not endpoint.status.is_terminal


def _none(options: argparse.Namespace) -> str:
    if options.status:
        return f"there are no endpoints that are {options.status}"
    if options.all:
        return "there are no endpoints, and there were none"
    return "there are no live endpoints; modelyard endpoints --all shows those that have ended"


def _lines(endpoints: "list[EndpointDescription]", terminal: "Terminal", now: datetime) -> list[str]:
    """Return a table; the reason of an endpoint that has one is on a line of its own, below it."""
    from modelyard.cli.description import colour_of
    from modelyard.cli.tables import table

    def paint(column: str, cell: str) -> str:
        return terminal.paint(cell, colour_of(cell.strip())) if column == "status" else cell

    header, *rows = table([_row(endpoint, now) for endpoint in endpoints], _COLUMNS, paint)
    lines = [header]
    for endpoint, row in zip(endpoints, rows, strict=True):
        lines.append(row)
        if endpoint.reason:
            lines.append(terminal.cut("  " + " ".join(endpoint.reason.split())))
    return lines


def _row(endpoint: "EndpointDescription", now: datetime) -> dict[str, str]:
    from modelyard.cli.description import seconds_of
    from modelyard.cli.times import duration, moment
    from modelyard.core.carrier import local_path

    model = endpoint.plan.redacted().model.uri
    return {
        "name": endpoint.name,
        "status": endpoint.status,
        "started": moment(endpoint.created, now),
        "age": duration(seconds_of(endpoint)),
        "url": "" if endpoint.status.is_terminal else endpoint.url or "",
        "model": str(local_path(model) or model),
    }


def _show(options: argparse.Namespace) -> int:
    from modelyard.cli.description import as_json, endpoint_for_people
    from modelyard.cli.terminal import Terminal

    description = described_endpoint(options)
    if options.json:
        print(as_json(description))
    else:
        print(endpoint_for_people(description, Terminal.of(sys.stdout), datetime.now().astimezone()))
    return 0


def _logs(options: argparse.Namespace) -> int:
    for line in endpoint_of(options, options.name).logs(follow=options.follow):
        print(line, flush=options.follow)
    return 0


# -- doing -------------------------------------------------------------------------------------


def _reload(options: argparse.Namespace) -> int:
    from modelyard.core.contracts import ReloadableEndpoint

    # All are looked up before anything is done to one of them: so in `_delete`.
    for endpoint in [endpoint_of(options, name) for name in dict.fromkeys(options.names)]:
        if not isinstance(endpoint, ReloadableEndpoint):
            raise EndpointError(
                f"the backend {options.backend!r} cannot load an endpoint's model anew; deploy another one"
            )
        endpoint.reload()
        print(f"endpoint {endpoint.name}: loading its model anew; the old one answers meanwhile")
        print(f"follow it with: modelyard endpoints logs {endpoint.name} --follow")
    return 0


def _delete(options: argparse.Namespace) -> int:
    for endpoint in [endpoint_of(options, name) for name in dict.fromkeys(options.names)]:
        print(f"endpoint {endpoint.name}: deleting", flush=True)
        endpoint.delete()
        print(f"endpoint {endpoint.name}: deleted", flush=True)
    return 0
