"""JSON, as strict as RFC 8259 in both directions."""

import json
import math
from codecs import BOM_UTF8
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import orjson

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.lazy import lazy_module
from modelyard.serializers._arrays import NUMBERS, flatten, native, pack
from modelyard.serializers._strict import strict_option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


@attrs.frozen
class JsonCodec:
    """application/json: plain Python, and arrays of numbers as nested lists.

    A UTF-8 byte order mark is ignored, as RFC 8259 allows. An integer beyond 64 bits is read as a
    float; ``NaN``, ``Infinity`` and a number beyond float64 are errors. Of two members of one name the
    last one counts.

    ``strict="2.0.25"`` does what SageMaker's toolkit does: NaN and infinity are read and written as
    ``NaN`` and ``Infinity``, a number beyond float64 is infinity, integers have any size, floats are
    written with the digits of float64, a space follows every comma and colon, and what is not ASCII
    is escaped. A scalar stays 0-d, where the toolkit takes it for the size of an array.
    """

    name: ClassVar[str] = "json"
    media_types: ClassVar[tuple[str, ...]] = ("application/json",)
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    strict: str = strict_option()

    def encode(self, value: object) -> bytes:
        """Return plain Python, with numpy arrays and scalars anywhere in it, as JSON.

        Floats are written as short as their dtype allows. Raises `EncodeError` for NaN and infinity,
        and for what JSON has no form for: bytes, sets, complex numbers, objects.
        """
        if self.strict:
            return _encode_strictly(value)
        try:
            document = orjson.dumps(value, _plain, _OPTIONS)
        except TypeError as error:
            reason = error.__cause__ or error
            raise EncodeError(f"a {type(value).__name__} cannot be written as JSON: {reason}") from error
        # orjson writes NaN and infinity as null, so a document without null has neither.
        if b"null" in document and _has_non_finite(value):
            raise EncodeError(
                "JSON has no NaN and no infinity: replace them, or ask for application/x-npy or text/csv"
            )
        return document

    def decode(self, body: bytes) -> Any:
        """Return the document as plain Python. Raises `DecodeError`."""
        try:
            return orjson.loads(body.removeprefix(BOM_UTF8))
        except orjson.JSONDecodeError as error:
            if self.strict:
                return _decode_strictly(body)
            raise DecodeError(f"not a JSON document: {error}") from error

    def decode_array(self, body: bytes, dtype: str = "float32") -> "npt.NDArray[Any]":
        """Return a number, or nested lists of numbers, as a writable array of `dtype`.

        A number has the shape (); true and false are 1 and 0. Raises `DecodeError` for ragged lists,
        for what is not a number, and for a number that does not fit `dtype`.
        """
        return pack(*flatten(self.decode(body)), dtype)


def _plain(value: object) -> object:
    """Return what orjson is to write for a value that it does not know."""
    if isinstance(value, np.ndarray) and value.dtype.str[1:] in NUMBERS:
        array = native(value)
        return array if value.ndim else array[0]
    raise TypeError(f"{_described(value)} has no form in JSON")


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"


def _has_non_finite(value: object) -> bool:
    if isinstance(value, float | np.floating):
        return not math.isfinite(value)
    if isinstance(value, np.ndarray):
        return not np.isfinite(value).all()
    if isinstance(value, dict):
        return any(map(_has_non_finite, chain(value, value.values())))
    return isinstance(value, list | tuple) and any(map(_has_non_finite, value))


# -- as SageMaker's toolkit does it ------------------------------------------------------------


def _encode_strictly(value: object) -> bytes:
    try:
        return json.dumps(value, default=_listed).encode("ascii")
    # A circular list or one that is too deep, an integer of 5,000 digits.
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"a {type(value).__name__} cannot be written as JSON: {error}") from error


def _listed(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str[1:] in NUMBERS:
        return value.tolist()
    raise TypeError(f"{_described(value)} has no form in JSON")


def _decode_strictly(body: bytes) -> Any:
    """Return a document that only Python's own parser reads."""
    try:
        return json.loads(body.removeprefix(BOM_UTF8).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a JSON document: {error}") from error
