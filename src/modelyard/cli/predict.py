"""``modelyard predict``: one request to an endpoint, from a file."""

import argparse
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.lookup import endpoint_of
from modelyard.core.errors import EndpointError, InvocationError, ProviderConflictError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import urllib3

    from modelyard.cli.parser import Commands, Parser
    from modelyard.core.contracts import Invocation
    from modelyard.core.manager import PluginManager

_STDIN = "-"
_CONNECT_SECONDS = 5.0
_SHOWN = 500
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")


def add_to(commands: "Commands") -> None:
    """Add the command to the parser of ``modelyard``."""
    parser = commands.add_parser(
        "predict",
        help="send a file to an endpoint and print the answer",
        description="Send a file to an endpoint as one request, and print the answer as it comes.",
        examples=(
            "modelyard predict NAME rows.csv",
            "modelyard predict NAME images.npy --accept application/x-npy --output scores.npy",
            "echo '[[1, 2]]' | modelyard predict http://127.0.0.1:8080 - --content-type application/json",
        ),
    )
    parser.add_argument(
        "endpoint", metavar="ENDPOINT", help="the endpoint's name, or http://HOST:PORT of modelyard serve"
    )
    parser.add_argument("file", metavar="FILE", help="what to send; - for standard input")
    parser.add_argument(
        "--content-type",
        metavar="TYPE",
        help="of the file; known by its ending where a codec declares that, and of images",
    )
    parser.add_argument(
        "--accept",
        default="application/json",
        metavar="TYPE",
        help="what the answer is to be; default: %(default)s",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the answer goes")
    parser.add_argument("--backend", default="local", metavar="NAME", help="default: local")
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: "Parser", options: argparse.Namespace) -> int:
    plugins = cache(_discovered)
    try:
        content_type = options.content_type or _type_of(options.file, plugins)
    except ProviderConflictError as error:
        parser.error(f"{error}; or say the file's --content-type")
    if not content_type:
        what = "standard input" if options.file == _STDIN else repr(Path(options.file).name)
        parser.error(f"the content type of {what} is not known: say it, as --content-type text/csv")
    body = _read(options.file)
    if "://" in options.endpoint:
        answer = _post(options.endpoint, body, content_type, options.accept)
    else:
        endpoint = endpoint_of(options, options.endpoint, plugins())
        answer = endpoint.invoke(body, content_type=content_type, accept=options.accept)
    _write(answer, options.output)
    return 0


def _discovered() -> "PluginManager":
    from modelyard.core.manager import PluginManager

    return PluginManager.discover()


def _type_of(file: str, plugins: "Callable[[], PluginManager]") -> str:
    """Return the media type of a file's ending; empty where it is not known.

    A built-in codec says it, or a third party's, which is asked where it may know better than Python.
    Raises `ProviderConflictError` for two of these.
    """
    from mimetypes import MimeTypes

    from modelyard.core.manager import PluginManager

    # Python's own table: what this machine has been told about endings does not count.
    guessed, coding = MimeTypes().guess_type(Path(file).name)
    guessed = guessed if guessed and not coding else ""
    suffix = Path(file).suffix.lower()
    known = _declared(PluginManager.builtin(), suffix)
    if known or guessed.startswith("image/") or not suffix:
        return known or guessed
    return _declared(plugins(), suffix) or guessed


def _declared(plugins: "PluginManager", suffix: str) -> str:
    codec = plugins.codecs.declaring("suffixes", suffix)
    return next(iter(codec.declares("media_types")), "") if codec else ""


def _read(file: str) -> bytes:
    if file == _STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read '{file}': {error.strerror}") from error


# -- an endpoint at an address -----------------------------------------------------------------


def _post(url: str, body: bytes, content_type: str, accept: str) -> "Invocation":
    """Send one request to a server, which has a time-out of its own. Raises `InvocationError`."""
    import urllib3

    from modelyard.core.contracts import Invocation

    try:
        address = urllib3.util.parse_url(url)
        if address.scheme not in ("http", "https") or not address.host:
            raise EndpointError(f"{url!r} is no address of a server: use http://HOST:PORT")
        if address.path in (None, "", "/"):
            url = address._replace(path="/invocations").url
        answer = urllib3.request(
            "POST",
            url,
            body=body,
            headers={"Content-Type": content_type, "Accept": accept},
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=None),
            retries=False,
            redirect=False,
        )
    except urllib3.exceptions.HTTPError as error:
        raise EndpointError(f"{url} cannot be reached: {error}") from error
    if answer.status != 200:
        raise InvocationError(url, answer.status, _said(answer), _which(answer))
    return Invocation(answer.data, answer.headers.get("Content-Type", ""))


def _said(answer: "urllib3.BaseHTTPResponse") -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.data[:_SHOWN].decode("utf-8", "replace")


def _which(answer: "urllib3.BaseHTTPResponse") -> str:
    request_id = answer.headers.get("x-request-id")
    return f"This was request {request_id}; the server's output has more about it" if request_id else ""


# -- the answer --------------------------------------------------------------------------------


def _write(answer: "Invocation", output: Path | None) -> None:
    if output is not None:
        try:
            output.write_bytes(answer.body)
        except OSError as error:
            raise StorageError(f"cannot write '{output}': {error.strerror}") from error
        print(f"{output}: {len(answer.body)} bytes of {answer.content_type or 'no type'}")
        return
    end = b""
    if sys.stdout.isatty():
        if not _is_text(answer.body):
            raise EndpointError(
                f"the answer is {answer.content_type or 'of no type'}, which a terminal does not show: use "
                "--output FILE, or > FILE, or --accept application/json"
            )
        end = b"" if answer.body.endswith(b"\n") else b"\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body + end)


def _is_text(body: bytes) -> bool:
    """Tell whether a terminal can be sent this: UTF-8, and nothing that moves its cursor."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(body)
