"""``strict="2.0.25"``: what SageMaker's toolkit does, section by section of what is known of it."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError, InvalidPlanError
from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.json import JsonCodec
from modelyard.serializers.jsonlines import JsonLinesCodec
from modelyard.serializers.npy import DTYPES, NpyCodec

NPY, JSON, CSV, LINES = (cls(strict="2.0.25") for cls in (NpyCodec, JsonCodec, CsvCodec, JsonLinesCodec))
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("cls", [NpyCodec, JsonCodec, CsvCodec, JsonLinesCodec])
@pytest.mark.parametrize("version", ["2.0.24", "yes", True, None])
def test_another_version_is_refused_with_the_ones_there_are(cls, version):
    with pytest.raises(InvalidPlanError, match=r"strict is '2\.0\.25', or empty"):
        cls(strict=version)


# -- NPY ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("f2", "f8"),
        ("f4", "f8"),
        ("f8", "f8"),
        ("i1", "i8"),
        ("u4", "i8"),
        ("i8", "i8"),
        ("u8", "u8"),
        ("b1", "b1"),
        ("c8", "c16"),
    ],
)
def test_npy_is_written_in_the_dtypes_of_python(code, written):
    decoded = NPY.decode(NPY.encode(np.ones((2, 1), code)))
    assert decoded.dtype == written
    assert decoded.tolist() == [[1], [1]]


@pytest.mark.parametrize("code", sorted(DTYPES))
def test_npy_is_read_in_its_own_dtype(code):
    assert NPY.decode(NpyCodec().encode(np.ones(2, code))).dtype == np.dtype(code)


def test_npy_holds_no_pickles_either():
    buffer = io.BytesIO()
    np.save(buffer, np.array([None]), allow_pickle=True)
    with pytest.raises(DecodeError):
        NPY.decode(buffer.getvalue())
    for value in (None, {"a": 1}):
        with pytest.raises(EncodeError):
            NPY.encode(value)


# -- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (np.array([[1.5, 2]], np.float32), b"[[1.5, 2.0]]"),
        (np.array([0.1], np.float32), b"[0.10000000149011612]"),
        ({"a": [np.float32(0.1), np.arange(2)]}, b'{"a": [0.10000000149011612, [0, 1]]}'),
        (np.array(5), b"5"),
        ([NAN, INF, -INF], b"[NaN, Infinity, -Infinity]"),
        (np.array([NAN, INF]), b"[NaN, Infinity]"),
        ("é", b'"\\u00e9"'),
        (None, b"null"),
        (2**70, b"1180591620717411303424"),
    ],
)
def test_json_is_written(value, document):
    assert JSON.encode(value) == document


@pytest.mark.parametrize("value", [b"a", {1}, 1j, object(), np.array([None]), np.array([1j]), {(1,): 2}])
def test_json_has_no_form_for_more_than_it_had(value):
    with pytest.raises(EncodeError):
        JSON.encode(value)


def test_json_that_holds_itself_or_is_endless():
    itself = []
    itself.append(itself)
    for value in (itself, 10**5000):
        with pytest.raises(EncodeError):
            JSON.encode(value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[NaN, Infinity, -Infinity, 1e999]", [NAN, INF, -INF, INF]),
        (b"[1, 2.5, true]", [1, 2.5, 1]),
        (b"5", 5),
        (b"100000000000000", 1e14),
        (b"\xef\xbb\xbf[1]", [1]),
    ],
)
def test_json_is_read(body, expected):
    for dtype in ("float32", "float64"):
        array = JSON.decode_array(body, dtype)
        assert array.shape == np.shape(expected)
        np.testing.assert_array_equal(array, np.array(expected, dtype))


@pytest.mark.parametrize(
    "body", [b"", b"[1,", b"nan", b"\xff", b"[" * 100_000, b"[NaN" + b"[" * 100_000, b"9" * 5000]
)
def test_json_that_is_none(body):
    with pytest.raises(DecodeError):
        JSON.decode(body)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(documents)
def test_json_comes_back(value):
    assert repr(JSON.decode(JSON.encode([value, NAN]))) == repr([value, NAN])


def test_every_line_is_such_json():
    assert LINES.encode([np.float32(0.1), NAN]) == b"0.10000000149011612\nNaN\n"
    np.testing.assert_array_equal(LINES.decode_array(b"[NaN, 1]\n[2, Infinity]"), [[NAN, 1], [2, INF]])


# -- CSV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"1,2,3\n4,5,6", [[1, 2, 3], [4, 5, 6]]),
        (b"1,2,3", [1, 2, 3]),
        (b"1\n2\n3\n", [1, 2, 3]),
        (b"5", 5),
        (b"1,2\n#3,4\n5,6", [[1, 2], [5, 6]]),
        (b"# a title, in words\n1,2\n", [1, 2]),
        (b"1,2 # note\r\n3,4", [[1, 2], [3, 4]]),
        # A hole is never -1, and what the toolkit fails on is read.
        (b"1,,3", [1, NAN, 3]),
        (b"1,2.5,3", [1, 2.5, 3]),
        (b"a,b\n1,2", [1, 2]),
    ],
)
def test_csv_is_read(body, expected):
    for array in (CSV.decode(body), CSV.decode_array(body)):
        assert array.shape == np.shape(expected)
        np.testing.assert_array_equal(array, np.array(expected, array.dtype))
    assert CSV.decode_array(body).dtype == np.float32


@pytest.mark.parametrize("body", [b"", b"#1,2", b"# a\n#b\n", b"1,2\n3", b"1\n2,3", b"1\nx"])
def test_csv_that_is_none(body):
    with pytest.raises(DecodeError):
        CSV.decode(body)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (np.array([[1.5, 2]]), b"1.5,2.0\n"),
        (np.array([[0.1, 1e-7]], np.float32), b"0.10000000149011612,1.0000000116860974e-07\n"),
        (np.array([1, 2]), b"1\n2\n"),
        ([[1, 2], [3, 4]], b"1,2\n3,4\n"),
        (np.array([[True, False]]), b"True,False\n"),
        ([NAN, INF], b"nan\ninf\n"),
        ([["a,b", "c"]], b"a,b,c\n"),
        (np.array([["x", 1.5, None]], dtype=object), b"x,1.5,None\n"),
        (5, b"5\n"),
    ],
)
def test_csv_is_written(value, document):
    assert CSV.encode(value) == document


@pytest.mark.parametrize(
    "value", [np.zeros((1, 2, 3)), [[1], [2, 3]], {"a": 1}, b"a", 1j, object(), ["\ud800"]]
)
def test_csv_has_no_form_for_more_than_it_had(value):
    with pytest.raises(EncodeError):
        CSV.encode(value)


@given(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=4).flatmap(
        lambda shape: hnp.arrays(st.sampled_from(["f4", "f8", "i8"]), shape)
    )
)
def test_tables_come_back(array):
    decoded = CSV.decode_array(CSV.encode(array), str(array.dtype))
    np.testing.assert_array_equal(decoded, array)


@given(st.binary() | st.text(alphabet="01.,-#nan \n\r\t", max_size=30).map(str.encode))
def test_any_bytes(body):
    for codec in (CSV, JSON, LINES, NPY):
        with contextlib.suppress(DecodeError):
            codec.decode(body)
