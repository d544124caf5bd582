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


def size_text(number: int) -> str:
    """Return how a person writes a number of bytes, as `size` reads it."""
    unit, factor = next((unit, factor) for unit, factor in reversed(_UNITS.items()) if number % factor == 0)
    return f"{number // factor}{unit.upper()}"


Option = tuple[str, Callable[[str], Any], str, str]
"""The name of the setting, its type, the metavar, and the help without the default."""

_PLACE: tuple[Option, ...] = (
    ("host", str, "ADDRESS", "0.0.0.0 for all interfaces"),
    ("port", int, "N", "0 for any free one"),
)
_WORK: tuple[Option, ...] = (
    ("program", str, "FILE", "the inference script in the model's code"),
    ("workers", int, "N", "processes, each with the model"),
    ("batch_size", int, "N", "requests that the model is given at once"),
    ("max_batch_delay", float, "SECONDS", "how long a request waits for a batch to fill"),
    ("hardware", str, "NAME", "what the model runs on, as cuda"),
    ("hardware_options", str, "JSON", """its options, as '{"autocast": "bfloat16"}'"""),
    ("default_accept", str, "TYPE", "for clients that do not say"),
    ("strict", str, "VERSION", "with the quirks of that version of SageMaker's toolkit, as 2.0.25"),
    ("trust_pickle", bool, "", "read pickles: whoever may send one may run code here"),
)
_TIMES: tuple[Option, ...] = (
    ("request_timeout", float, "SECONDS", "from a request to its answer"),
    ("startup_timeout", float, "SECONDS", "for the model to load"),
    ("drain_timeout", float, "SECONDS", "for what is in progress at the end"),
    ("first_byte_timeout", float, "SECONDS", "from a connection to its first byte"),
    ("header_timeout", float, "SECONDS", "for a request's headers"),
    ("body_timeout", float, "SECONDS", "for a request's body"),
    ("idle_timeout", float, "SECONDS", "between two requests of a connection"),
    ("send_timeout", float, "SECONDS", "how long a client may take nothing of its answer"),
)
_LIMITS: tuple[Option, ...] = (
    ("max_body", size, "SIZE", "of a request"),
    ("max_header", size, "SIZE", "of a request's first line and headers"),
    ("max_queue", int, "N", "requests that one worker holds, more get 429"),
    ("max_pipelined", int, "N", "requests ahead of their answers on a connection"),
    ("max_buffered", size, "SIZE", "of all bodies that one worker holds, more get 503"),
    ("worker_memory", size, "SIZE", "that one worker may allocate"),
)
GROUPS = {
    "where it listens": _PLACE,
    "how it works": _WORK,
    "time-outs": _TIMES,
    "limits": _LIMITS,
}
_MEANT = {
    "program": "inference.py",
    "hardware": "what the machine has",
    "hardware_options": "",
    "workers": "one per GPU, else one per core",
    "worker_memory": "no limit",
    "strict": "",
    "trust_pickle": "",
}
"""What the default does where its value does not say it."""


def flag_of(name: str) -> str:
    """Return the option of a setting."""
    return f"--{name.replace('_', '-')}"


class Setting(argparse.Action):
    """The option of one setting; its default is looked up where the help is shown, as that takes time."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the value, or that the switch was given."""
        setattr(namespace, self.dest, True if self.nargs == 0 else values)

    def _told(self) -> str:
        default = default_of(self.dest)
        return f"{self._text}; default: {default}" if default else self._text

    def _tell(self, text: str) -> None:
        self._text = text

    help = property(_told, _tell)


def default_of(name: str) -> str:
    """Return the default of a setting as a person writes it, empty where there is nothing to say."""
    if name in _MEANT:
        return _MEANT[name]
    import attrs

    from modelyard.serving.settings import Limits, ServerSettings

    (field,) = (
        field for cls in (ServerSettings, Limits) for field in attrs.fields(cls) if field.name == name
    )
    if field.type is float:
        return f"{field.default:g}"
    is_size = any(name == option and kind is size for group in GROUPS.values() for option, kind, *_ in group)
    return size_text(field.default) if is_size else str(field.default)


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
            flag = flag_of(name)
            if kind is bool:
                group.add_argument(flag, action=Setting, nargs=0, help=text)
            else:
                group.add_argument(flag, action=Setting, type=kind, metavar=metavar, help=text)
    return parser
