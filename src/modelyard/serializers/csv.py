"""CSV, as RFC 4180 has it: tables of numbers."""

import csv
import io
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import orjson

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.core.lazy import lazy_module
from modelyard.serializers._arrays import NUMBERS, as_array, flatten, native, pack
from modelyard.serializers._strict import strict_option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy_module("numpy")  # Listing the codecs needs none of it.

_EXACT = 2.0**53
_TO_BE_QUOTED = re.compile(r'[",\r\n]')
_COMMENT = re.compile(rb"#[^\r\n]*")


@attrs.frozen
class CsvCodec:
    """text/csv: tables of numbers.

    Read: an empty field, ``NA`` and ``nan`` are NaN, ``inf`` is infinity, numbers may be quoted;
    blank lines, a UTF-8 byte order mark and a first row of words above the numbers are skipped.
    Written: NaN as ``nan``, infinity as ``inf``, True as 1, and a bare newline after every row.

    ``strict="2.0.25"`` does what SageMaker's toolkit does. Read: a table of one row or one column has
    one dimension, one of a single number none, and what follows a ``#`` on a line is passed over.
    Written: every cell as Python prints it, floats with the digits of float64, ``True``, ``None``,
    strings without quotes. Holes stay NaN, where the toolkit makes -1 of them between integers.
    """

    name: ClassVar[str] = "csv"
    media_types: ClassVar[tuple[str, ...]] = ("text/csv",)
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    strict: str = strict_option()

    def encode(self, value: object) -> bytes:
        """Return a table, a list (one item per line) or a scalar as CSV.

        Floats are written as short as their dtype allows; a table may hold strings and None (an
        empty field). An empty array makes an empty document, which `decode` refuses. Raises
        `EncodeError` for more than two dimensions, ragged rows and any other kind of item.
        """
        array = as_array(value)
        if array.ndim > 2:
            raise EncodeError(f"CSV has rows and columns only; the value has the shape {array.shape}")
        if self.strict:
            return _write_strictly(array)
        if array.dtype.str[1:] in NUMBERS:
            return _write_numbers(array)
        return _write_cells(array.tolist() if isinstance(value, np.ndarray) else value)

    def decode(self, body: bytes) -> "npt.NDArray[np.float64]":
        """Return the table, 2-D: one row is (1, n), one column (n, 1). Raises `DecodeError`."""
        return self.decode_array(body, "float64")

    def decode_array(self, body: bytes, dtype: str = "float32") -> "npt.NDArray[Any]":
        """Return the table as a writable array of `dtype`, 2-D.

        Raises `DecodeError` for an empty document, ragged rows, a field that is not a number, and a
        number that does not fit `dtype`.
        """
        text = body.removeprefix(BOM_UTF8).rstrip()
        if self.strict and b"#" in text:
            text = _COMMENT.sub(b"", text).rstrip()
        if not text:
            raise DecodeError("the CSV document is empty")
        table = pack(*(_read_plain(text) or _read(text)), dtype)
        return table.squeeze() if self.strict else table


# -- reading -----------------------------------------------------------------------------------


def _read_plain(text: bytes) -> tuple[tuple[int, int], list[float]] | None:
    """Return what `_read` does, ten times as fast, or None where the table is not plain enough.

    The bare numbers of a CSV document are those of a JSON list, and orjson reads them.
    """
    # `replace` looks for two bytes slowly, `in` for one byte at once.
    lines = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    separators = lines.translate(None, b"0123456789+-.eE \t")
    row, height = separators.partition(b"\n")[0], separators.count(b"\n") + 1
    if row.strip(b",") or separators != b"\n".join([row] * height):
        return None
    # The shape is known to hold, so the rows may become one.
    document = b"[" + lines.replace(b"\n", b",") + b"]"
    holes = bool(row) and (b",," in document or document[1:2] == b"," or document[-2:-1] == b",")
    if holes:
        document = document.replace(b",,", b",null,").replace(b",,", b",null,")
        document = document.replace(b"[,", b"[null,").replace(b",]", b",null]")
    try:
        numbers = orjson.loads(document)
    except ValueError:
        return None
    if holes:
        numbers = [math.nan if number is None else number for number in numbers]
    return (height, len(row) + 1), numbers


def _read(text: bytes) -> tuple[tuple[int, ...], list[float]]:
    """Return the shape and the numbers of a table. Raises `DecodeError`."""
    rows: list[list[float | None]] = []
    for place, (line, fields) in enumerate(_records(text)):
        numbers = [_number(field) for field in fields]
        if place == 0 and _is_header(numbers):
            continue
        _check(line, fields, numbers, len(rows[0]) if rows else len(numbers))
        rows.append(numbers)
    if not rows:
        raise DecodeError(f"the CSV document has no row of numbers, only {_excerpt(text.decode())}")
    return flatten(rows)


def _records(text: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line that is not blank, and its fields. Raises `DecodeError`."""
    try:
        lines = io.StringIO(text.decode("utf-8"), newline="")
    except UnicodeDecodeError as error:
        raise DecodeError(f"the CSV document is not UTF-8: {error}") from error
    # csv makes one empty field of a line of spaces, and no field of an empty line.
    stripped = ("\n" if line.isspace() else line for line in lines)
    reader = csv.reader(stripped, skipinitialspace=True, strict=True)
    try:
        yield from ((reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        raise DecodeError(f"line {reader.line_num}: {error}") from error


def _number(field: str) -> float | None:
    """Return the number in a field, or None where it holds something else."""
    try:
        number = float(field)
    except ValueError:
        return math.nan if field.strip().lower() in ("", "na") else None
    # Python also reads 1_000, and the digits of other scripts.
    if "_" in field or not field.isascii():
        return None
    return number if abs(number) < _EXACT else _unusual(field.strip(), number)


def _unusual(text: str, number: float) -> float | None:
    """Return a number beyond 2**53: an integer exactly; None for one that only overflow made infinite."""
    if text.lstrip("+-").isdigit() and len(text) <= 21:
        return int(text)
    return None if math.isinf(number) and "i" not in text.lower() else number


def _is_header(numbers: list[float | None]) -> bool:
    return None in numbers and all(number is None or math.isnan(number) for number in numbers)


def _check(line: int, fields: list[str], numbers: list[float | None], width: int) -> None:
    if None in numbers:
        column = numbers.index(None)
        raise DecodeError(f"line {line}, column {column + 1}: {_excerpt(fields[column])} is not a number")
    if len(numbers) != width:
        raise DecodeError(f"line {line} has {len(numbers)} fields; the rows above it have {width}")


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


# -- writing -----------------------------------------------------------------------------------


def _write_numbers(array: "npt.NDArray[Any]") -> bytes:
    if not array.size:
        return b""
    table = native(array.reshape(-1, 1) if array.ndim < 2 else array)
    if table.dtype.kind == "b":
        table = table.view(np.uint8)
    document = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)
    lines = document[2:-2].replace(b"],[", b"\n") + b"\n"
    return _with_words(lines, table) if b"null" in lines else lines


def _with_words(lines: bytes, table: "npt.NDArray[Any]") -> bytes:
    """Return the lines with ``nan``, ``inf`` and ``-inf`` where orjson wrote null."""
    unwritten = table[~np.isfinite(table)]
    if np.isnan(unwritten).all():
        return lines.replace(b"null", b"nan")
    words = (str(float(number)).encode() for number in unwritten)
    return re.sub(b"null", lambda _: next(words), lines)


def _write_strictly(array: "npt.NDArray[Any]") -> bytes:
    if array.ndim > 2:
        raise EncodeError(f"CSV has rows and columns only; the value has the shape {array.shape}")
    if array.dtype.kind not in "biufUO" or (array.dtype.kind == "O" and not all(map(_is_cell, array.flat))):
        raise EncodeError("CSV holds numbers and strings, and the value has something else in it")
    rows = array.reshape(-1, 1) if array.ndim < 2 else array
    try:
        return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()
    except ValueError as error:
        raise EncodeError(f"a cell cannot be written as CSV: {error}") from error


def _is_cell(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | np.bool_ | np.integer | np.floating)


def _write_cells(value: object) -> bytes:
    rows = value if isinstance(value, list | tuple) else [value]
    try:
        return "".join(map(_line, rows)).encode()
    except EncodeError:
        raise
    # A lone surrogate has no UTF-8, an integer of 5,000 digits no decimals.
    except ValueError as error:
        raise EncodeError(f"a cell cannot be written as CSV: {error}") from error


def _line(row: object) -> str:
    cells = map(_cell, row) if isinstance(row, list | tuple) else [_cell(row)]
    # A line with nothing on it would be no row.
    return (",".join(cells) or '""') + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"' if _TO_BE_QUOTED.search(value) else value
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, int | float | np.integer | np.floating):
        return str(value)
    raise EncodeError(f"CSV holds numbers and strings, and a {type(value).__name__} is neither")
