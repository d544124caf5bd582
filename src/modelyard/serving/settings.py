"""What an endpoint may be told: one value of settings, read from the environment once, at start.

The variables are those of SageMaker's PyTorch model server and of TorchServe's toolkit where they have
one, and ``MODELYARD_SERVE_<FIELD>`` for every field, which wins.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.core.media_types import parse_media_type

PREFIX = "MODELYARD_SERVE_"
_MIB = 1024 * 1024
_SWITCH = {"true": True, "false": False, "1": True, "0": False}
_TOOLKITS = ("2.0.25",)

# What the system's calls can take.
_MOST_SECONDS = 10**9
_MOST = 2**63 - 1
_LAST_PORT = 65535

_CHECK = "check"

Check = Callable[[Any], str]
"""Returns what is wrong with a value, as "must be ...", or nothing."""


def _number(most: int, *, zero: bool = False) -> Check:
    """Return the check of a number up to `most` that is above 0, or also `zero`."""

    def check(value: float) -> str:
        if value > 0 or (zero and value == 0):
            return "" if value <= most else f"must be at most {most}"
        return "must be 0 or more" if zero else "must be above 0"

    return check


def _port(value: int) -> str:
    return "" if 0 <= value <= _LAST_PORT else f"must be from 0, for any free port, to {_LAST_PORT}"


def _media_type(value: str) -> str:
    return "" if parse_media_type(value) else "must be a media type, as application/json"


def _toolkit(value: str) -> str:
    return "" if value in ("", *_TOOLKITS) else f"must be {' or '.join(_TOOLKITS)}, or nothing"


def _json_object(value: str) -> str:
    try:
        good = not value or isinstance(json.loads(value), dict)
    except ValueError:
        good = False
    return "" if good else 'must be options as JSON, as {"autocast": "bfloat16"}'


def _field(default: Any, check: Check) -> Any:
    def validate(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if wrong := check(value):
            raise InvalidPlanError(f"{attribute.name} {wrong}, not {value!r}")

    return attrs.field(default=default, validator=validate, metadata={_CHECK: check})


_count = _number(_MOST)
_seconds = _number(_MOST_SECONDS)


@attrs.frozen(kw_only=True)
class Limits:
    """What one connection may ask of the server. Sizes in bytes, times in seconds.

    ``max_body``: of a request; ``max_header``: of its first line and headers together;
    ``first_byte_timeout``: from the connection to its first byte; ``header_timeout``: from the first
    byte of a request to the end of its headers; ``body_timeout``: from there to the end of the body;
    ``idle_timeout``: between two requests; ``send_timeout``: how long a client may take nothing of
    its answer; ``max_pipelined``: requests that are sent before the first of them is answered;
    ``max_buffered``: of all bodies together that one worker holds, of requests that are not complete or
    wait for their answer.
    """

    max_body: int = _field(100 * _MIB, _count)
    max_header: int = _field(64 * 1024, _count)
    first_byte_timeout: float = _field(20.0, _seconds)
    header_timeout: float = _field(10.0, _seconds)
    body_timeout: float = _field(60.0, _seconds)
    idle_timeout: float = _field(75.0, _seconds)
    send_timeout: float = _field(60.0, _seconds)
    max_pipelined: int = _field(32, _count)
    max_buffered: int = _field(1024 * _MIB, _count)

    def __attrs_post_init__(self) -> None:
        if self.max_buffered < self.max_body:
            raise InvalidPlanError(
                f"max_buffered must be at least max_body, {self.max_body}, not {self.max_buffered}"
            )


@attrs.frozen(kw_only=True)
class ServerSettings:
    """How an endpoint is served. Times in seconds.

    ``host`` and ``port``: where it listens, port 0 for any free one; ``workers``: processes, 0 for one
    per GPU or else one per core; ``batch_size``: requests that the model is given at once;
    ``max_batch_delay``: how long a request may wait for others to fill a batch, 0 for not at all;
    ``request_timeout``: from a request to its answer; ``startup_timeout``: for the model to load;
    ``drain_timeout``: for what is in progress when the server is stopped; ``max_queue``: requests that
    one worker holds, more are refused with 429; ``worker_memory``: bytes of data that one worker may
    allocate, 0 for no limit; ``program``: the inference script; ``default_accept``: what a client gets
    that does not say; ``strict``: the version of SageMaker's toolkit whose quirks are wanted, or none;
    ``trust_pickle``: whether clients are trusted so far that their bodies may be pickles; ``hardware``:
    what the model runs on, or what the machine has; ``hardware_options``: its options, as JSON.
    """

    host: str = "127.0.0.1"
    port: int = _field(8080, _port)
    workers: int = _field(0, _number(_MOST, zero=True))
    batch_size: int = _field(1, _count)
    max_batch_delay: float = _field(0.0, _number(_MOST_SECONDS, zero=True))
    request_timeout: float = _field(60.0, _seconds)
    startup_timeout: float = _field(600.0, _seconds)
    drain_timeout: float = _field(25.0, _seconds)
    max_queue: int = _field(1024, _count)
    worker_memory: int = _field(0, _number(_MOST, zero=True))
    program: str = ""
    default_accept: str = _field("application/json", _media_type)
    strict: str = _field("", _toolkit)
    trust_pickle: bool = False
    hardware: str = ""
    hardware_options: str = _field("", _json_object)
    limits: Limits = attrs.field(factory=Limits)

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] = os.environ, names: Mapping[str, str] | None = None
    ) -> Self:
        """Return the settings that the environment describes.

        `names`: by what name the user knows a variable, where it is another. Raises `InvalidPlanError`
        for a value that makes no sense, with that name.
        """
        limits = Limits(**_given(Limits, environ, names or {}))
        return cls(**_given(cls, environ, names or {}), limits=limits)


_Read = Callable[[str], Any]

_SAGEMAKER: tuple[tuple[str, str, _Read], ...] = (
    # A later line wins over an earlier one.
    ("SAGEMAKER_BIND_TO_PORT", "port", int),
    ("SAGEMAKER_TS_MIN_WORKERS", "workers", int),
    ("SAGEMAKER_TS_MAX_WORKERS", "workers", int),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "workers", int),
    ("SAGEMAKER_TS_BATCH_SIZE", "batch_size", int),
    ("SAGEMAKER_TS_MAX_BATCH_DELAY", "max_batch_delay", lambda text: float(text) / 1000),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "request_timeout", float),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "request_timeout", float),
    ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "request_timeout", float),
    ("SAGEMAKER_STARTUP_TIMEOUT", "startup_timeout", float),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "max_body", lambda text: int(text) * _MIB),
    ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "max_buffered", lambda text: max(1024, int(text)) * _MIB),
    ("SAGEMAKER_PROGRAM", "program", str),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "default_accept", str),
)


def _given(cls: type, environ: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of `cls` that the environment gives; an empty variable gives none."""
    found: dict[str, Any] = {}
    for field in attrs.fields(cls):
        theirs = [(variable, read) for variable, name, read in _SAGEMAKER if name == field.name]
        for variable, read in ((PREFIX + field.name.upper(), field.type), *reversed(theirs)):
            if field.name != "limits" and (text := environ.get(variable, "").strip()):
                found[field.name] = _value(names.get(variable, variable), text, read, field)
                break
    return found


def _value(name: str, text: str, read: Any, field: "attrs.Attribute[Any]") -> Any:
    """Return what a variable says. Raises `InvalidPlanError`, by its `name`."""
    if read is bool:
        if text.lower() not in _SWITCH:
            raise InvalidPlanError(f"{name} must be {' or '.join(_SWITCH)}, not {text!r}")
        return _SWITCH[text.lower()]
    try:
        value = read(text)
    except ValueError as error:
        kind = "a whole number" if field.type is int else "a number"
        raise InvalidPlanError(f"{name} must be {kind}, not {text!r}") from error
    check: Check | None = field.metadata.get(_CHECK)
    if check and (wrong := check(value)):
        raise InvalidPlanError(f"{name} {wrong}, not {text!r}")
    return value
