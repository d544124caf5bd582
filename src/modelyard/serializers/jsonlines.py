"""JSON Lines: one JSON document per line."""

import io
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core.errors import DecodeError
from modelyard.core.lazy import lazy_module
from modelyard.serializers._arrays import flatten, pack
from modelyard.serializers._strict import strict_option
from modelyard.serializers.json import JsonCodec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.


@attrs.frozen
class JsonLinesCodec:
    """application/jsonlines: a list with one JSON document per line, as batch transform sends records.

    Every line is read and written as `JsonCodec` does, with the same ``strict``. Blank lines and a
    UTF-8 byte order mark are skipped.
    """

    name: ClassVar[str] = "jsonlines"
    media_types: ClassVar[tuple[str, ...]] = (
        "application/jsonlines",
        "application/x-jsonlines",
        "application/jsonl",
        "application/x-ndjson",
    )
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    strict: str = strict_option()
    _line: JsonCodec = attrs.field(init=False, eq=False, repr=False)

    @_line.default
    def _of_lines(self) -> JsonCodec:
        return JsonCodec(strict=self.strict)

    def encode(self, value: object) -> bytes:
        """Return a list, a tuple or an array with one item per line, anything else as the only line.

        No items make an empty document, which `decode` refuses. Raises what `JsonCodec.encode` raises.
        """
        items: Any = [value]
        if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
            items = value
        return b"".join(self._line.encode(item) + b"\n" for item in items)

    def decode(self, body: bytes) -> list[Any]:
        """Return the documents. Raises `DecodeError` for an empty body and a line that is not JSON."""
        documents = []
        for place, line in enumerate(io.BytesIO(body.removeprefix(BOM_UTF8)), start=1):
            if line.isspace():
                continue
            try:
                documents.append(self._line.decode(line))
            except DecodeError as error:
                raise DecodeError(f"line {place}: {error}") from error
        if not documents:
            raise DecodeError("the document has no lines")
        return documents

    def decode_array(self, body: bytes, dtype: str = "float32") -> "npt.NDArray[Any]":
        """Return the lines, each of the same shape, stacked into a writable array of `dtype`.

        Lines that are numbers make one dimension. Raises `DecodeError` for lines of different shapes,
        for what is not a number, and for a number that does not fit `dtype`.
        """
        return pack(*flatten(self.decode(body)), dtype)
