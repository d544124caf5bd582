"""Bytes as they are."""

from typing import ClassVar

import attrs

from modelyard.core.errors import EncodeError


@attrs.frozen
class OctetStreamCodec:
    """application/octet-stream: bytes, unchanged in both directions."""

    name: ClassVar[str] = "octet-stream"
    media_types: ClassVar[tuple[str, ...]] = ("application/octet-stream",)

    def encode(self, value: object) -> bytes:
        """Return bytes, a bytearray or a memoryview as bytes. Raises `EncodeError` for anything else."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise EncodeError(
            f"application/octet-stream is written for bytes, not for a {type(value).__name__}: ask for "
            "application/x-npy or application/json"
        )

    def decode(self, body: bytes) -> bytes:
        """Return the body."""
        return body
