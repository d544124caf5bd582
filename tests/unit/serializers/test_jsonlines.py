import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.jsonlines import JsonLinesCodec

CODEC = JsonLinesCodec()
BOM = b"\xef\xbb\xbf"

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


@given(st.lists(documents, min_size=1))
def test_a_list_of_documents_comes_back(value):
    assert CODEC.decode(CODEC.encode(value)) == value


@given(st.lists(documents, min_size=1))
def test_decode_reads_what_the_standard_library_writes(value):
    assert CODEC.decode("\n".join(map(json.dumps, value)).encode()) == value


@given(hnp.arrays(st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint64]), shapes))
def test_arrays_come_back(array):
    array = np.nan_to_num(array)
    decoded = CODEC.decode_array(CODEC.encode(array), str(array.dtype))
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ([1, [2, 3]], b"1\n[2,3]\n"),
        ((1, "a\nb"), b'1\n"a\\nb"\n'),
        (np.array([[0.1, 2], [3, 4]], np.float32), b"[0.1,2.0]\n[3.0,4.0]\n"),
        (np.array([1, 2]), b"1\n2\n"),
        ([np.array([1, 2]), {"a": np.float32(0.1)}], b'[1,2]\n{"a":0.1}\n'),
        ({"a": 1}, b'{"a":1}\n'),
        ("text", b'"text"\n'),
        (np.float32(0.1), b"0.1\n"),
        (np.array(5), b"5\n"),
        (None, b"null\n"),
        ([], b""),
    ],
)
def test_encode(value, document):
    assert CODEC.encode(value) == document


@pytest.mark.parametrize(
    "value", [object(), b"bytes", [b"bytes"], [1, float("nan")], np.array([np.inf]), {1}]
)
def test_unencodable(value):
    with pytest.raises(EncodeError):
        CODEC.encode(value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"1", [1]),
        (b"[1]\n[2]", [[1], [2]]),
        (b"[1]\r\n[2]\r\n", [[1], [2]]),
        (b"\n\n[1]\n  \n\t\r\n[2]\n\n", [[1], [2]]),
        (BOM + b'{"a": 1}\nnull', [{"a": 1}, None]),
        ('"\u2028"\n2'.encode(), ["\u2028", 2]),
    ],
)
def test_decode(body, expected):
    assert CODEC.decode(body) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no lines"),
        (b"\n \r\n", "no lines"),
        (BOM, "no lines"),
        (b"[1]\n\n[2", "line 3: not a JSON document"),
        (b"[1],[2]", "line 1: "),
        (b"1,2\n[3\n4]", "line 1: "),
        (b"[1]\n\xff", "line 2: "),
        (b"[NaN]", "line 1: "),
        (b"[1]\n" + b"[" * 100_000, "line 2: "),
        (b"[1]\n" + b"9" * 5000, "line 2: "),
        ("[1]".encode("utf-16"), "line 1: "),
    ],
)
def test_bad_documents(body, message):
    for decode in (CODEC.decode, CODEC.decode_array):
        with pytest.raises(DecodeError, match=message):
            decode(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"5", [5]), (b"1\n2", [1, 2]), (b"[1,2]\n[3,4]", [[1, 2], [3, 4]]), (b"[]\n[]", np.zeros((2, 0)))],
)
def test_decode_array_stacks_lines(body, expected):
    array = CODEC.decode_array(body)
    assert array.dtype == np.float32
    assert array.flags.writeable
    assert array.shape == np.shape(expected)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]\n[1,2]", "ragged"),
        (b"[1]\n2", "ragged"),
        (b"1\n[2]", "is not a number"),
        (b'{"a": 1}', "is not a number"),
        (b'["a"]', "is not a number"),
        (b"[1e300]", "does not fit float32"),
    ],
)
def test_decode_array_refuses(body, message):
    with pytest.raises(DecodeError, match=message):
        CODEC.decode_array(body)


def test_a_million_blank_lines_are_nothing():
    assert CODEC.decode(b"\n" * 1_000_000 + b"1") == [1]
