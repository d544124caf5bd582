"""``modelyard plugins``: what is installed, and what a plugin of one's own needs."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands, Parser

_KINDS = ("codec", "hardware", "launcher", "packager", "storage", "backend")


def add_to(commands: "Commands") -> None:
    """Add the commands to the parser of ``modelyard``."""
    plugins = commands.add_parser(
        "plugins",
        help="what is installed: list, show and check it, write more",
        examples=("modelyard plugins list", "modelyard plugins new codec yaml"),
    )
    within = plugins.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(within)
    _add_show(within)
    _add_check(within)
    _add_new(within)


def _add_list(commands: "Commands") -> None:
    parser = commands.add_parser(
        "list",
        help="every provider, where it is from, its state, and what it is chosen by",
        examples=("modelyard plugins list",),
    )
    _add_json(parser)
    parser.set_defaults(run=_list)


def _add_show(commands: "Commands") -> None:
    parser = commands.add_parser(
        "show",
        help="all about one provider, or about one plugin",
        usage="modelyard plugins show [KIND] NAME [options]",
        examples=("modelyard plugins show csv", "modelyard plugins show codec csv"),
    )
    _add_name(parser)
    _add_json(parser)
    parser.set_defaults(run=_show)


def _add_check(commands: "Commands") -> None:
    parser = commands.add_parser(
        "check",
        help="try whether it keeps the promises of its kind",
        description="Try whether a provider, or a plugin and all that it provides, keeps its promises.",
        usage="modelyard plugins check [KIND] NAME [options]",
        examples=(
            "modelyard plugins check csv",
            "modelyard plugins check s3 --uri s3://my-bucket/tests",
            "modelyard plugins check local --run",
        ),
    )
    _add_name(parser)
    parser.add_argument(
        "--options", metavar="JSON", help="to make the provider with, as '{\"trusted\": true}'"
    )
    parser.add_argument("--uri", metavar="URI", help="of a storage: below which it may write")
    parser.add_argument(
        "--run",
        action="store_true",
        dest="for_real",
        help="of a backend: run jobs and endpoints, which may cost money",
    )
    parser.add_argument("--instance-type", metavar="TYPE", help="of a backend: what to run them on")
    parser.add_argument(
        "--contract", metavar="MODULE:CLASS", help="the author's own class of tests, in place of modelyard's"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="for each promise; default: %(default)g",
    )
    _add_json(parser)
    parser.set_defaults(run=_check)


def _add_new(commands: "Commands") -> None:
    parser = commands.add_parser(
        "new",
        help="write the skeleton of a plugin, which works and passes its tests",
        description="Write a distribution with a plugin that works and passes its tests as it is.",
        examples=("modelyard plugins new codec yaml", "modelyard plugins new launcher deepspeed"),
    )
    kinds = (*_KINDS, "middleware")
    parser.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    parser.add_argument("name", metavar="NAME", help="of the provider; the distribution is modelyard-NAME")
    parser.add_argument("--directory", metavar="DIR", help="a new or empty folder; default: modelyard-NAME")
    parser.set_defaults(run=_new)


def _add_name(parser: "Parser") -> None:
    parser.add_argument(
        "kind",
        nargs="?",
        choices=_KINDS,
        metavar="KIND",
        help=f"for a name of two kinds: {', '.join(_KINDS)}",
    )
    parser.add_argument("name", metavar="NAME", help="of a provider or a plugin, as the list shows it")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _add_json(parser: "Parser") -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


# Each is imported when it is run: every command of modelyard's makes this parser.


def _list(options: argparse.Namespace) -> int:
    from modelyard.cli.plugins.listing import run

    return run(options)


def _show(options: argparse.Namespace) -> int:
    from modelyard.cli.plugins.showing import run

    return run(options)


def _check(options: argparse.Namespace) -> int:
    from modelyard.cli.plugins.checking import run

    return run(options)


def _new(options: argparse.Namespace) -> int:
    from modelyard.cli.plugins.new import run

    return run(options)
