import json
from contextlib import suppress

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.json import JsonCodec

CODEC = JsonCodec()
BOM = b"\xef\xbb\xbf"
DEEP = b"[" * 100_000 + b"]" * 100_000

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
BAD_DOCUMENTS = {
    "empty": b"",
    "blank": b"  \n",
    "a BOM and nothing": BOM,
    "UTF-16": "[1]".encode("utf-16"),
    "invalid UTF-8": b'["\xff"]',
    "a lone surrogate": b'"\\ud800"',
    "trailing data": b"[1] [2]",
    "JSON lines": b"[1]\n[2]",
    "a trailing comma": b"[1,]",
    "a comment": b"[1] // one",
    "single quotes": b"['a']",
    "NaN": b"[NaN]",
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "beyond float64": b"[1e999]",
    "a huge integer": b"9" * 5000,
    "a leading zero": b"[01]",
    "a plus sign": b"[+1]",
    "deep": DEEP,
    "deep and open": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
}


# -- decoding ----------------------------------------------------------------------------------


@given(documents)
def test_decode_reads_what_the_standard_library_writes(value):
    assert CODEC.decode(json.dumps(value).encode()) == value


def test_a_byte_order_mark_is_ignored():
    assert CODEC.decode(BOM + b"[1]") == [1]
    assert CODEC.decode_array(BOM + b"[1]").tolist() == [1]


def test_of_two_members_of_one_name_the_last_one_counts():
    assert CODEC.decode(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


def test_integers_beyond_64_bits_are_floats():
    assert CODEC.decode(b"[18446744073709551615, 18446744073709551616]") == [2**64 - 1, 2.0**64]


@pytest.mark.parametrize("body", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_bad_documents(body):
    with pytest.raises(DecodeError, match="not a JSON document"):
        CODEC.decode(body)
    with pytest.raises(DecodeError, match="not a JSON document"):
        CODEC.decode_array(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5", 5.0),
        (b"-0.5", -0.5),
        (b"true", 1.0),
        (b"[]", []),
        (b"[[],[]]", np.zeros((2, 0))),
        (b"[[[]]]", np.zeros((1, 1, 0))),
        (b"[1, 2.5, false]", [1, 2.5, 0]),
        (b"[[1],[2]]", [[1], [2]]),
        (b"[[1,2]]", [[1, 2]]),
        (b"[[[1,2],[3,4]],[[5,6],[7,8]]]", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        (b"[1e-400]", [0.0]),
    ],
)
def test_decode_array(body, expected):
    array = CODEC.decode_array(body)
    assert array.dtype == np.float32
    assert array.flags.writeable
    assert array.shape == np.shape(expected)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"null", "None is not a number"),
        (b'"5"', "'5' is not a number"),
        (b"{}", "{} is not a number"),
        (b'{"instances": [[1]]}', "is not a number"),
        (b"[1, null]", "None is not a number"),
        (b'[["1", "2"]]', "'1' is not a number"),
        (b"[[1,2],[3]]", "ragged: not every item on axis 0 is a list of 2"),
        (b"[[[1],[2]],[[3],[4,5]]]", "ragged: not every item on axis 1 is a list of 1"),
        (b"[[1,2],3]", "ragged"),
        (b"[1,[2]]", "\\[2\\] is not a number"),
        (b'[[1,2],"ab"]', "ragged"),
        (b'[[],""]', "ragged"),
        (b"[[],{}]", "ragged"),
        (b"[1e300]", "1e\\+300 does not fit float32"),
        (b"[" * 65 + b"]" * 65, "nested 65 deep"),
        (b"[" * 500 + b"1" + b"]" * 500, "nested 500 deep"),
        (b"[1," + b"[" * 900 + b"]" * 900 + b"]", "is not a number"),
    ],
)
def test_decode_array_refuses(body, message):
    with pytest.raises(DecodeError, match=message):
        CODEC.decode_array(body)


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        (b"[1, 2.0, true]", "int64", [1, 2, 1]),
        (b"[9007199254740993]", "int64", [2**53 + 1]),
        (b"[18446744073709551615]", "uint64", [2**64 - 1]),
        (b"[0, 255]", "uint8", [0, 255]),
        (b"[0.1]", "float64", [0.1]),
        (b"[0.5]", "float16", [0.5]),
        (b"[0, 2]", "bool", [False, True]),
        (b"[1.5]", "complex64", [1.5]),
        (b"[1.5, 2]", ">f4", [1.5, 2]),
    ],
)
def test_dtypes(body, dtype, expected):
    array = CODEC.decode_array(body, dtype)
    assert array.dtype == dtype
    assert array.tolist() == expected


@pytest.mark.parametrize(
    ("body", "dtype"),
    [
        (b"[2.5]", "int64"),
        (b"[256]", "uint8"),
        (b"[-1]", "uint64"),
        (b"[9223372036854775808]", "int64"),
        (b"[18446744073709551616]", "uint64"),
        (b"[70000]", "float16"),
    ],
)
def test_numbers_that_do_not_fit(body, dtype):
    with pytest.raises(DecodeError, match=f"does not fit {dtype}"):
        CODEC.decode_array(body, dtype)


@given(hnp.arrays(st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint64]), shapes))
def test_decode_array_reads_what_encode_writes(array):
    array = np.nan_to_num(array)
    decoded = CODEC.decode_array(CODEC.encode(array), str(array.dtype))
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@given(st.binary() | st.text(alphabet='[]{},:"-.0123456789eE truefalsn\\').map(str.encode))
def test_any_bytes(body):
    for decode in (CODEC.decode, CODEC.decode_array):
        with suppress(DecodeError):
            decode(body)


# -- encoding ----------------------------------------------------------------------------------


@given(documents)
def test_plain_python_comes_back(value):
    assert CODEC.decode(CODEC.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (None, b"null"),
        ("NaN and null", b'"NaN and null"'),
        (np.array([0.1, 1e-7], np.float32), b"[0.1,1e-7]"),
        (np.float32(0.1), b"0.1"),
        (np.float64(0.1), b"0.1"),
        (np.float16(0.5), b"0.5"),
        (np.int8(-3), b"-3"),
        (np.bool_(1), b"true"),
        (np.array(1.5), b"1.5"),
        (np.array(0.1, np.float32), b"0.1"),
        (np.array([0.5, 2], np.float16), b"[0.5,2.0]"),
        (np.array([0.5, 2, 3], np.float16)[::2], b"[0.5,3.0]"),
        (np.array([[0.1, 2], [3, 4]], np.float32).T, b"[[0.1,3.0],[2.0,4.0]]"),
        (np.asfortranarray([[1, 2], [3, 4]]), b"[[1,2],[3,4]]"),
        (np.array([True, False]), b"[true,false]"),
        (np.zeros((2, 0)), b"[[],[]]"),
        ({"a": [np.arange(2), (np.float32(0.1), None)]}, b'{"a":[[0,1],[0.1,null]]}'),
        ({0: 0.25, True: "b"}, b'{"0":0.25,"true":"b"}'),
        ([None, 1.5], b"[null,1.5]"),
    ],
)
def test_encode(value, document):
    assert CODEC.encode(value) == document


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "value",
    [
        NAN,
        -INF,
        [1.0, [NAN]],
        (None, INF),
        {"a": {"b": NAN}},
        {NAN: 1},
        np.array([1.0, NAN]),
        np.array([[INF]], np.float32),
        np.array([1.0, 2.0, NAN])[::2],
        np.array(NAN),
        np.float16("inf"),
        np.float32("nan"),
        [None, {"a": np.array([NAN], np.float16)}],
    ],
)
def test_nan_and_infinity_are_refused_with_advice(value):
    with pytest.raises(EncodeError, match="ask for application/x-npy or text/csv"):
        CODEC.encode(value)


@attrs.frozen
class Thing:
    number: float = NAN


ITSELF: list = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (1j, "complex"),
        (object(), "object"),
        (Thing(), "Thing"),
        (np.array([None]), "an array of object"),
        (np.array([1j]), "an array of complex128"),
        (np.array(["a"]), "an array of <U1"),
        (np.longdouble(1), "longdouble"),
        (np.array([1.0], ">f8"), "native-endianness"),
        ({"a": b"bytes"}, "bytes"),
        ({(1, 2): 3}, "Dict key"),
        (2**70, "64-bit"),
        ("\ud800", "surrogates"),
        (ITSELF, "ecursion"),
        (lambda: 1, "function"),
    ],
)
def test_unencodable(value, message):
    with pytest.raises(EncodeError, match=message):
        CODEC.encode(value)
