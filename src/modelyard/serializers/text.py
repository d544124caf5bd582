"""Plain text."""

from typing import ClassVar

import attrs

from modelyard.core.errors import DecodeError, EncodeError


@attrs.frozen
class TextCodec:
    """text/plain: one string, as UTF-8. A byte order mark is a character of it."""

    name: ClassVar[str] = "text"
    media_types: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    def encode(self, value: object) -> bytes:
        """Return a string as UTF-8. Raises `EncodeError` for anything else, and for a lone surrogate."""
        if not isinstance(value, str):
            raise EncodeError(
                f"text/plain is written for strings, not for a {type(value).__name__}: ask for "
                "application/json or text/csv"
            )
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EncodeError(f"the text has no form in UTF-8: {error}") from error

    def decode(self, body: bytes) -> str:
        """Return the text. Raises `DecodeError` where the body is not UTF-8."""
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"the text is not UTF-8: {error}") from error
