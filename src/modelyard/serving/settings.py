"""What an endpoint may be told: one value of settings, read from the environment once, at start.

The variables are those of SageMaker's PyTorch model server and of TorchServe's toolkit where they have
one, and ``MODELYARD_SERVE_<FIELD>`` for every field, which wins.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from modelyard.core.errors import InvalidPlanError

PREFIX = "MODELYARD_SERVE_"
_MIB = 1024 * 1024
_SWITCH = {"true": True, "false": False, "1": True, "0": False}


def _positive(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value > 0:
        raise InvalidPlanError(f"{attribute.name} must be above 0, not {value!r}")


def _not_negative(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value >= 0:
        raise InvalidPlanError(f"{attribute.name} must not be negative, not {value!r}")


def _field(default: float, check: Any = _positive) -> Any:
    return attrs.field(default=default, validator=check)


@attrs.frozen(kw_only=True)
class Limits:
    """What one connection may ask of the server. Sizes in bytes, times in seconds.

    ``max_body``: of a request; ``max_header``: of its first line and headers together;
    ``first_byte_timeout``: from the connection to its first byte; ``header_timeout``: from the first
    byte of a request to the end of its headers; ``body_timeout``: from there to the end of the body;
    ``idle_timeout``: between two requests; ``send_timeout``: how long a client may take nothing of
    its answer; ``max_pipelined``: requests that are sent before the first of them is answered.
    """

    max_body: int = _field(100 * _MIB)
    max_header: int = _field(64 * 1024)
    first_byte_timeout: float = _field(20.0)
    header_timeout: float = _field(10.0)
    body_timeout: float = _field(60.0)
    idle_timeout: float = _field(75.0)
    send_timeout: float = _field(60.0)
    max_pipelined: int = _field(32)


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
    ``trust_pickle``: whether clients are trusted so far that their bodies may be pickles.
    """

    host: str = "127.0.0.1"
    port: int = _field(8080, _not_negative)
    workers: int = _field(0, _not_negative)
    batch_size: int = _field(1)
    max_batch_delay: float = _field(0.0, _not_negative)
    request_timeout: float = _field(60.0)
    startup_timeout: float = _field(600.0)
    drain_timeout: float = _field(25.0)
    max_queue: int = _field(1024)
    worker_memory: int = _field(0, _not_negative)
    program: str = ""
    default_accept: str = "application/json"
    strict: str = ""
    trust_pickle: bool = False
    limits: Limits = attrs.field(factory=Limits)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the settings that the environment describes.

        Raises `InvalidPlanError` for a value that makes no sense, by the variable's name.
        """
        return cls(**_given(cls, environ), limits=Limits(**_given(Limits, environ)))


_SAGEMAKER: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
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
    ("SAGEMAKER_PROGRAM", "program", str),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "default_accept", str),
)


def _given(cls: type, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of `cls` that the environment gives; an empty variable gives none."""
    fields = {field.name: field.type for field in attrs.fields(cls) if field.name != "limits"}
    found: dict[str, Any] = {}
    own = ((PREFIX + name.upper(), name, kind) for name, kind in fields.items() if kind is not None)
    for variable, name, read in (*_SAGEMAKER, *own):
        text = environ.get(variable, "").strip()
        if text and name in fields:
            found[name] = _read(variable, text, read)
    return found


def _read(variable: str, text: str, read: Callable[[str], Any]) -> Any:
    if read is bool:
        if text.lower() not in _SWITCH:
            raise InvalidPlanError(f"{variable} must be {' or '.join(_SWITCH)}, not {text!r}")
        return _SWITCH[text.lower()]
    try:
        return read(text)
    except ValueError as error:
        raise InvalidPlanError(f"{variable} must be a number, not {text!r}") from error
