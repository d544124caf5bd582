"""AWS's event stream, the framing in which ``InvokeEndpointWithResponseStream`` carries an answer.

Each message is a prelude (its length, that of its headers, a CRC of both), headers, a payload and a CRC
of all of it; botocore's ``eventstream.py`` reads it.
"""

import struct
from collections.abc import Iterator
from zlib import crc32

from modelyard.core.log import get_logger

MEDIA_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7
_OVERHEAD = 16
"""Bytes of a message besides its headers and its payload."""

_log = get_logger(__name__)


def framed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield each piece as a message, and what breaks the stream off as its last one."""
    try:
        for piece in pieces:
            if piece:
                yield _message(
                    {":event-type": "PayloadPart", ":content-type": "application/octet-stream"},
                    piece,
                    "event",
                )
    except Exception:  # noqa: BLE001 - the user's generator may raise anything; the client is told no more
        _log.error("the stream broke off", exc_info=True)
        said = b'{"Message": "the model failed in the middle of its answer", "ErrorCode": "StreamBroken"}'
        headers = {":exception-type": "ModelStreamError", ":content-type": "application/json"}
        yield _message(headers, said, "exception")


def _message(headers: dict[str, str], payload: bytes, kind: str) -> bytes:
    head = b"".join(_header(name, value) for name, value in (headers | {":message-type": kind}).items())
    prelude = struct.pack("!II", _OVERHEAD + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING, len(text)) + text
