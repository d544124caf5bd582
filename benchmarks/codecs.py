"""The codecs beside what numpy and the standard library offer. ``python -m benchmarks.codecs``."""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.timing import Row, compare, table
from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.npy import NpyCodec

Array = npt.NDArray[Any]

ROW, BATCH, TABLE, IMAGE = (1, 4), (32, 100), (1000, 10), (3, 224, 224)
NPY_AIMS = {ROW: (10, 5), BATCH: (10, 5), IMAGE: (10, 1.5)}
JSON_AIMS = {ROW: (2, 4), BATCH: (2, 4)}
CSV_AIMS = {ROW: (10, 5), BATCH: (10, 10), TABLE: (10, 10)}


def _array(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _written(save: Callable[[io.BytesIO, Array], None], array: Array) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array)
    return buffer.getvalue()


def _genfromtxt(body: bytes) -> Array:
    return np.genfromtxt(io.BytesIO(body), dtype=np.float32, delimiter=",")


def _savetxt(buffer: io.BytesIO, array: Array) -> None:
    """Write CSV as SageMaker's inference toolkit does."""
    np.savetxt(buffer, array, delimiter=",", fmt="%s")


def _load(body: bytes) -> Array:
    array: Array = np.load(io.BytesIO(body))
    return array


def _loads(body: bytes) -> Array:
    return np.array(json.loads(body), dtype=np.float32)


def _dumps(array: Array) -> bytes:
    return json.dumps(array.tolist()).encode()


def _npy() -> Iterator[Row]:
    codec = NpyCodec()
    for shape, (decode, encode) in NPY_AIMS.items():
        array, body = _array(shape), codec.encode(_array(shape))
        reading = compare(partial(codec.decode, body), partial(_load, body))
        yield Row(f"NPY decode {shape} / np.load", reading, decode)
        writing = compare(partial(codec.encode, array), partial(_written, np.save, array))
        yield Row(f"NPY encode {shape} / np.save", writing, encode)


def _json() -> Iterator[Row]:
    codec = JsonCodec()
    for shape, (decode, encode) in JSON_AIMS.items():
        array, body = _array(shape), _dumps(_array(shape))
        reading = compare(partial(codec.decode_array, body), partial(_loads, body))
        yield Row(f"JSON decode {shape} / json.loads", reading, decode)
        writing = compare(partial(codec.encode, array), partial(_dumps, array))
        yield Row(f"JSON encode {shape} / json.dumps", writing, encode)


def _csv() -> Iterator[Row]:
    codec = CsvCodec()
    for shape, (decode, encode) in CSV_AIMS.items():
        array = _array(shape)
        body = _written(_savetxt, array)
        reading = compare(partial(codec.decode_array, body), partial(_genfromtxt, body))
        yield Row(f"CSV decode {shape} / np.genfromtxt", reading, decode)
        writing = compare(partial(codec.encode, array), partial(_written, _savetxt, array))
        yield Row(f"CSV encode {shape} / np.savetxt", writing, encode)


def main() -> None:
    """Print medians, their ratios, and whether the aims are met."""
    for measure in (_npy, _json, _csv):
        table(measure())


if __name__ == "__main__":
    main()
