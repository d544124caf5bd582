"""What ``modelyard serve`` takes: an option for each setting of the server."""

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelyard.cli.parser import Parser

if TYPE_CHECKING:
    from modelyard.cli.parser import Commands

_EXAMPLES = (
    "modelyard serve model.tar.gz",
    "modelyard serve model/ --program inference.py --port 0",
    "modelyard serve model/ --host 0.0.0.0 --workers 4 --batch-size 16",
    "modelyard predict http://127.0.0.1:8080 rows.csv",
)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """Return a number of bytes: ``1048576``, ``1024K``, ``1M`` or ``1MiB``."""
    match = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it as 100M, or in bytes")
    return int(match[1]) * _UNITS[match[2]]


Option = tuple[str, Callable[[str], Any], str, str]
"""The name of the setting, its type, the metavar, and the help."""

_PLACE: tuple[Option, ...] = (
    ("host", str, "ADDRESS", "default: 127.0.0.1; 0.0.0.0 for all interfaces"),
    ("port", int, "N", "default: 8080; 0: any free one"),
)
_WORK: tuple[Option, ...] = (
    ("program", str, "FILE", "the inference script in the model's code; default: inference.py"),
    ("workers", int, "N", "processes; default: one per GPU, else one per core"),
    ("batch_size", int, "N", "requests that the model is given at once; default: 1"),
    ("max_batch_delay", float, "SECONDS", "how long a request waits for a batch to fill; default: 0"),
    ("default_accept", str, "TYPE", "for clients that do not say; default: application/json"),
    ("strict", str, "VERSION", "with the quirks of that version of SageMaker's toolkit, as 2.0.25"),
    ("trust_pickle", bool, "", "read pickles: whoever may send one may run code here"),
)
_TIMES: tuple[Option, ...] = (
    ("request_timeout", float, "SECONDS", "from a request to its answer; default: 60"),
    ("startup_timeout", float, "SECONDS", "for the model to load; default: 600"),
    ("drain_timeout", float, "SECONDS", "for what is in progress at the end; default: 25"),
    ("first_byte_timeout", float, "SECONDS", "from a connection to its first byte; default: 30"),
    ("header_timeout", float, "SECONDS", "for a request's headers; default: 10"),
    ("body_timeout", float, "SECONDS", "for a request's body; default: 60"),
    ("idle_timeout", float, "SECONDS", "between two requests of a connection; default: 75"),
    ("send_timeout", float, "SECONDS", "how long a client may take nothing of its answer; default: 60"),
)
_LIMITS: tuple[Option, ...] = (
    ("max_body", size, "SIZE", "of a request; default: 100M"),
    ("max_header", size, "SIZE", "of a request's first line and headers; default: 64K"),
    ("max_queue", int, "N", "requests that one worker holds, more get 429; default: 1024"),
    ("max_pipelined", int, "N", "requests ahead of their answers on a connection; default: 32"),
    ("worker_memory", size, "SIZE", "that one worker may allocate; default: no limit"),
)
GROUPS = {
    "where it listens": _PLACE,
    "how it works": _WORK,
    "time-outs": _TIMES,
    "limits": _LIMITS,
}


def serve_parser(commands: "Commands") -> Parser:
    """Return the command's parser. An option that was not given is None, its ``dest`` the setting's name."""
    parser = commands.add_parser(
        "serve",
        help="serve a model: a folder, or a model.tar.gz",
        description=(
            "Serve a model until Ctrl-C or SIGTERM; what is being answered then is answered first.\n"
            "SIGHUP loads the model anew, an archive's too; the old one answers until the new one can.\n"
            "Each option can also be given as a variable, as MODELYARD_SERVE_BATCH_SIZE=16."
        ),
        usage="modelyard serve MODEL [options]",
        examples=_EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a folder with the model's files, or a model.tar.gz")
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, kind, metavar, text in options:
            flag = f"--{name.replace('_', '-')}"
            if kind is bool:
                group.add_argument(flag, action="store_const", const=True, help=text)
            else:
                group.add_argument(flag, type=kind, metavar=metavar, help=text)
    return parser
