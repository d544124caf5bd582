"""The command line: ``modelyard``."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module

from modelyard.__about__ import __version__
from modelyard.cli.parser import Parser
from modelyard.core import log
from modelyard.core.errors import ModelyardError

_MODULES: Mapping[str, tuple[str, ...]] = {
    "fit": ("fit",),
    "jobs": ("jobs",),
    "one_job": ("logs", "stop", "interrupt"),
    "serve": ("serve",),
    "endpoints": ("endpoints", "reload", "delete-endpoint"),
    "predict": ("predict",),
    "plugins": ("plugins",),
    "in_job": ("train",),
}
"""The commands of each module, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    0: it is done; 1: an error of modelyard's or a job that failed; 2: wrong usage; 130: Ctrl-C; 141:
    whoever read the output has gone.
    """
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(_modules(given)).parse_args(given)
    log.configure(level="ERROR")
    if isinstance(sys.stdout, io.TextIOWrapper):  # A log may hold what this terminal's encoding does not.
        sys.stdout.reconfigure(errors="replace")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except ModelyardError as error:
        sys.stderr.write(f"modelyard: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _mute_stdout()
        return 128 + signal.SIGPIPE
    return status


def _modules(arguments: Sequence[str]) -> Iterable[str]:
    """Return the module of the command that is asked for; all of them where that is not the first word."""
    first = arguments[0] if arguments else ""
    asked = [module for module, commands in _MODULES.items() if first in commands]
    return asked or _MODULES


def _parser(modules: Iterable[str] = _MODULES) -> Parser:
    parser = Parser(
        prog="modelyard",
        description="SageMaker's way of training and serving, with every part a plugin.",
        examples=(
            "modelyard fit train.py --input train=data/",
            "modelyard jobs",
            "modelyard serve model.tar.gz",
        ),
    )
    parser.add_argument("--version", action="version", version=f"modelyard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in modules:
        import_module(f"modelyard.cli.{module}").add_to(commands)
    return parser


def _mute_stdout() -> None:
    """Let the interpreter flush what is left of the output, at its end, without a complaint."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
