"""Every built-in codec keeps the promises of a codec."""

import numpy as np

from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.npy import NpyCodec
from modelyard.testing.codecs import CodecContract


class TestNpyCodec(CodecContract):
    codec = NpyCodec()
    values = (
        *CodecContract.values,
        np.float16(1.5),
        np.zeros((2, 0, 3), bool),
        np.asfortranarray([[1 + 2j, 3], [4, 5]]),
        np.array([1, 2, 3], ">i2"),
        [[1, 2], [3, 4]],
    )
    malformed = (b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"\x80\x04]\x94.", b"PK\x03\x04")
    unencodable = (None, {"a": 1}, "text", b"bytes", [[1], [2, 3]], np.array([None]), np.datetime64("2020"))


class TestJsonCodec(CodecContract):
    codec = JsonCodec()
    values = (
        *CodecContract.values,
        {"labels": ["cat", "dog"], "scores": [0.5, 0.25], "box": None},
        "null",
        [],
        True,
        -5,
    )
    malformed = (b"", b"[1,", b"[1] 2", b"NaN", b"[-Infinity]", b"\xff", b"{'a': 1}", b"[" * 100_000)
    unencodable = (b"bytes", {1}, 1j, float("nan"), [np.float32("inf")], np.array([None]), 2**70)


class TestCsvCodec(CodecContract):
    codec = CsvCodec()
    values = (
        *CodecContract.values,
        np.array([[np.nan, np.inf], [-np.inf, 1.0]], np.float32),
        np.array([[True], [False]]),
        [[1, 2], [3, 4]],
    )
    malformed = (b"", b" \r\n", b"1,2\n3", b"a,b", b"1,x", b'"1', b"\xff,1", b"1;2\n3;4", b"1\n1e999")
    unencodable = ({"a": 1}, b"bytes", {1}, 1j, np.zeros((1, 2, 3)), [[1], [2, 3]], [[{}]])
