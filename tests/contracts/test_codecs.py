"""Every built-in codec keeps the promises of a codec."""

import io
import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.jsonlines import JsonLinesCodec
from modelyard.serializers.npy import NpyCodec
from modelyard.serializers.npz import NpzCodec
from modelyard.serializers.octet_stream import OctetStreamCodec
from modelyard.serializers.pickle import PickleCodec
from modelyard.serializers.text import TextCodec
from modelyard.serializers.torch import TorchCodec
from modelyard.testing import CodecContract


def _saved(save, *args, **arrays):
    """Return what numpy itself writes."""
    file = io.BytesIO()
    save(file, *args, **arrays)
    return file.getvalue()


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
    documents = ((_saved(np.save, [[1, 2], [3, 4]]), [[1, 2], [3, 4]]),)
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
    documents = ((b' {"a": [1, 2.5e0, null]}\n', {"a": [1, 2.5, None]}), (b'"\\u00e9"', "\u00e9"))
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
    documents = ((b"1,2\r\n3,4", [[1, 2], [3, 4]]), (b'"1", +2e0\n', [[1, 2]]))
    malformed = (b"", b" \r\n", b"1,2\n3", b"a,b", b"1,x", b'"1', b"\xff,1", b"1;2\n3;4", b"1\n1e999")
    unencodable = ({"a": 1}, b"bytes", {1}, 1j, np.zeros((1, 2, 3)), [[1], [2, 3]], [[{}]])


class TestNpzCodec(CodecContract):
    codec = NpzCodec()
    values = (
        *CodecContract.values,
        {"a": np.float16(1.5), "b/c": np.zeros((2, 0, 3), bool), "\u00e9": np.asfortranarray([[1 + 2j, 3]])},
        {"big-endian": np.array([1, 2, 3], ">i2")},
        {},
    )
    documents = ((_saved(np.savez_compressed, a=[1, 2], b=1.5), {"a": [1, 2], "b": 1.5}),)
    malformed = (b"", b"PK", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"\x80\x04]\x94.", bytes(100))
    unencodable = (None, {"a": None}, {"a": "text"}, {1: [1]}, {"../a": [1]}, [[1], [2, 3]])


class TestJsonLinesCodec(CodecContract):
    codec = JsonLinesCodec()
    values = (
        *CodecContract.values,
        [{"labels": ["cat", "dog"], "score": 0.5}, None, "a\nb", 1],
        [[]],
    )
    documents = ((b'{"a": 1}\r\n\n[2]', [{"a": 1}, [2]]),)
    malformed = (b"", b"\n \n", b"[1,", b"1,2", b"1\nNaN", b"[1]\n\xff", b"1\n" + b"[" * 100_000)
    unencodable = (b"bytes", {1}, 1j, [1, float("nan")], np.array([np.inf]), [2**70])


class TestTextCodec(CodecContract):
    codec = TextCodec()
    values = ("", "text", "two\nlines", "\u00e9\U0001f600", "\ufeff")
    documents = ((b"caf\xc3\xa9", "caf\u00e9"),)
    malformed = (b"\xff", b"a\xc3", b"\xed\xa0\x80")
    unencodable = (None, 1, b"bytes", ["text"], np.zeros(2), "\ud800")


class TestOctetStreamCodec(CodecContract):
    codec = OctetStreamCodec()
    values = (b"", b"bytes", bytes(range(256)))
    documents = ((b"\x00", b"\x00"),)
    unencodable = (None, 1, "text", [1], np.zeros(2))


@pytest.mark.skipif(find_spec("safetensors") is None, reason="safetensors is not installed")
class TestTorchCodec(CodecContract):
    codec = TorchCodec()
    values = (
        *CodecContract.values,
        {"a": np.float16(1.5), "b": np.zeros((2, 0, 3), bool), "": np.asfortranarray([[1, 2], [3, 4]])},
        {"big-endian": np.array([1, 2, 3], ">i2")},
        {},
    )
    malformed = (b"", bytes(8), b"\xff" * 16, b"\x02" + bytes(7) + b"[]", b"\x80\x04]\x94.")
    unencodable = (None, {"a": None}, {"a": "text"}, 1j, {1: [1]}, {"__metadata__": [1]}, [[1], [2, 3]])


class TestPickleCodec(CodecContract):
    codec = PickleCodec(trusted=True)
    values = (
        *CodecContract.values,
        np.float16(1.5),
        np.asfortranarray([[1 + 2j, 3], [4, 5]]),
        np.array([1, 2, 3], ">i2"),
        {"labels": ("cat", b"dog", None), "scores": {0.5, 1j}, 2**70: [bytearray(b"a")]},
    )
    documents = ((pickle.dumps({"a": [np.float32(1.5), None]}, protocol=2), {"a": [1.5, None]}),)
    malformed = (
        b"",
        b"\x80\x04",
        b"\x80\x04]",
        b"cos\nsystem\n(S'true'\ntR.",
        b"PK\x03\x04",
        b"\x80\x04Kr\xff\xff\xff\xff.",
    )
    unencodable = (print, type, np.array([None]), np.array(["text"]), [object()])
