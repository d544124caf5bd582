import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.csv import CsvCodec, _read, _read_plain

CODEC = CsvCodec()
NAN, INF = np.nan, np.inf

tables = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)


# -- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        (b"1,2,3", [[1, 2, 3]]),
        (b"1\n2\n3\n", [[1], [2], [3]]),
        (b"5", [[5]]),
        (b"1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        (b"1,2\r3,4", [[1, 2], [3, 4]]),
        (b"1,\r2", None),
        (b" 1 ,\t2 \n3, 4", [[1, 2], [3, 4]]),
        (b"\xef\xbb\xbf1,2", [[1, 2]]),
        (b'\xef\xbb\xbf"a","b"\n1,2', [[1, 2]]),
        (b"1,2.5,-3e-2", [[1, 2.5, -0.03]]),
        (b"+1,.5,2.,007", [[1, 0.5, 2, 7]]),
        (b"1,,3", [[1, NAN, 3]]),
        (b"1,2,", [[1, 2, NAN]]),
        (b",", [[NAN, NAN]]),
        (b"nan,NaN,NA,na,-nan", [[NAN] * 5]),
        (b"inf,-inf,+Infinity", [[INF, -INF, INF]]),
        (b'"1","2.5"\n"-3",4', [[1, 2.5], [-3, 4]]),
        (b'1, "2"', [[1, 2]]),
        (b'1\n""\n3', [[1], [NAN], [3]]),
        (b"1\n\n2\n\n", [[1], [2]]),
        (b"\n\r\n  \n1,2\n \t \n3,4", [[1, 2], [3, 4]]),
        (b"a,b\n1,2", [[1, 2]]),
        (b",a,b\n0,1,2", [[0, 1, 2]]),
        (b"one title\n1,2\n3,4", [[1, 2], [3, 4]]),
        (b"NA,nan\n1,2", [[NAN, NAN], [1, 2]]),
        (b"9007199254740993", [[2.0**53]]),
        (b"123456789012345678901234567890", [[123456789012345678901234567890.0]]),
    ],
)
def test_decode(body, expected):
    if expected is None:
        with pytest.raises(DecodeError):
            CODEC.decode(body)
        return
    array = CODEC.decode(body)
    assert array.dtype == np.float64
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.array(expected, float))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" \r\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"a,b", "no row of numbers, only 'a,b'"),
        (b"x" * 100, "no row of numbers, only '" + "x" * 40 + "...'"),
        (b"1,2\n3", "line 2 has 1 fields; the rows above it have 2"),
        (b"a,b\n\n1,2\n3,4,5", "line 4 has 3 fields; the rows above it have 2"),
        (b"1,2\n3,x", "line 2, column 2: 'x' is not a number"),
        (b"id,1\n2,3", "line 1, column 1: 'id' is not a number"),
        (b"a,b\nc,d", "line 2, column 1: 'c' is not a number"),
        (b"1;2\n3;4", "line 2, column 1: '3;4' is not a number"),
        (b"1\n" + b"x" * 100, "line 2, column 1: '" + "x" * 40 + "...' is not a number"),
        (b"1,true", "line 1, column 2: 'true' is not a number"),
        (b"1,null", "line 1, column 2: 'null' is not a number"),
        (b"1\n1_000", "'1_000' is not a number"),
        (b"1\n0x10", "'0x10' is not a number"),
        ("1\n\u0661".encode(), "'\u0661' is not a number"),
        (b"1\n1 2", "'1 2' is not a number"),
        (b"1\n1e999", "'1e999' is not a number"),
        (b"1\n-1e999", "'-1e999' is not a number"),
        (b"1\n" + b"9" * 400 + b".", "9...' is not a number"),
        (b"1\n1\x00", "is not a number"),
        (b"1],[2", "no row of numbers"),
        (b"1\n[2]", "'[2]' is not a number"),
        (b'1,"2', "line 1: unexpected end of data"),
        (b'1,"2"3', "line 1: "),
        (b"1,\xff", "not UTF-8"),
        ("1,2".encode("utf-16"), "not UTF-8"),
        (b"1\n" + b"1" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_bad_documents(body, message):
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(body)
    assert message in str(caught.value)


def test_a_million_commas_are_a_million_holes():
    array = CODEC.decode(b"," * 999_999)
    assert array.shape == (1, 1_000_000)
    assert np.isnan(array).all()


def test_a_million_empty_quotes_and_a_giant_field_end():
    for body in (b'""' * 500_000, b"1" * 1_000_000 + b"x", b'"' + b"\n" * 1_000_000):
        with pytest.raises(DecodeError):
            CODEC.decode(body)


def test_decode_array_is_float32_by_default():
    array = CODEC.decode_array(b"0.1,2")
    assert array.dtype == np.float32
    assert array.tolist() == [[np.float32(0.1), 2.0]]


@pytest.mark.parametrize("body", [b"9007199254740993,-2", b'a,b\n"9007199254740993",-2.0'])
def test_integers_are_exact(body):
    assert CODEC.decode_array(body, "int64").tolist() == [[2**53 + 1, -2]]


@pytest.mark.parametrize(
    ("body", "dtype", "message"),
    [
        (b"1e300", "float32", "1e\\+300 does not fit float32"),
        (b"1.5", "int64", "1.5 does not fit int64"),
        (b"1,,2", "int64", "nan does not fit int64"),
        (b"inf", "int8", "inf does not fit int8"),
        (b"300", "uint8", "300 does not fit uint8"),
    ],
)
def test_numbers_that_do_not_fit(body, dtype, message):
    with pytest.raises(DecodeError, match=message):
        CODEC.decode_array(body, dtype)


# -- the fast way and the other one ------------------------------------------------------------

fields = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.text(alphabet="0123456789+-.eE \t", max_size=6),
    st.sampled_from(["", " ", "-0", "-0.0", "1e5", "1E+5", "1e400", "5e-324", "NA", '"1"', "[1]", "true"]),
)
line_ends = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"])


@st.composite
def near_tables(draw):
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(fields, min_size=width, max_size=width), min_size=1, max_size=4))
    return draw(line_ends).join(map(",".join, rows)).encode()


@given(near_tables() | st.text(alphabet="01.,-e \n\r\t", max_size=30).map(str.encode))
@example(b"1,\r2")
@example(b"1\r2")
@example(b"1,2\n,")
@example(b"1\n \n2")
def test_the_fast_way_reads_what_the_other_one_reads(body):
    text = body.rstrip()
    plain = _read_plain(text) if text else None
    if plain is not None:
        shape, numbers = _read(text)
        assert plain[0] == shape
        assert plain[1] == numbers


@given(tables.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=st.floats(width=32))))
def test_the_fast_way_is_taken_for_what_encode_writes(array):
    text = CODEC.encode(array).rstrip()
    assert (_read_plain(text) is not None) == bool(np.isfinite(array).all())


def test_the_fast_way_is_taken_for_what_savetxt_writes():
    buffer = io.BytesIO()
    np.savetxt(buffer, np.arange(6).reshape(2, 3) / 7, delimiter=",")
    assert _read_plain(buffer.getvalue().rstrip()) is not None


@given(st.binary() | near_tables() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(body):
    try:
        array = CODEC.decode(body)
    except DecodeError:
        return
    assert array.ndim == 2
    assert array.size


# -- encoding ----------------------------------------------------------------------------------


@given(tables.flatmap(lambda shape: hnp.arrays(st.sampled_from(["f2", "f4", "f8", "i8", "u8", "b1"]), shape)))
def test_tables_come_back(array):
    decoded = CODEC.decode_array(CODEC.encode(array), str(array.dtype))
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ([[1, 2], [3, 4]], b"1,2\n3,4\n"),
        ([1.5, 2], b"1.5\n2.0\n"),
        (7, b"7\n"),
        (np.float32(0.1), b"0.1\n"),
        (np.array([[0.1, 1e-7]], np.float32), b"0.1,1e-7\n"),
        (np.array([[0.5, 2]], np.float16), b"0.5,2.0\n"),
        (np.array([[1, 2], [3, 4]]).T, b"1,3\n2,4\n"),
        (np.array([[1.5, 2]], ">f8"), b"1.5,2.0\n"),
        (np.array([[True, False]]), b"1,0\n"),
        (np.array([[NAN, 1, INF], [-INF, NAN, 0]]), b"nan,1.0,inf\n-inf,nan,0.0\n"),
        (np.array([NAN, 2], np.float16), b"nan\n2.0\n"),
        ([], b""),
        (np.zeros((2, 0)), b""),
        ([["cat", 0.5], ["a, b", None]], b'cat,0.5\n"a, b",\n'),
        ([['say "hi"', "two\nlines"]], b'"say ""hi""","two\nlines"\n'),
        (["cat", "dog"], b"cat\ndog\n"),
        (np.array([["cat", "dog"]]), b"cat,dog\n"),
        ("cat", b"cat\n"),
        (np.str_("cat"), b"cat\n"),
        ([[1], [None], [np.float32(0.1)]], b'1\n""\n0.1\n'),
        ([["a", True, np.bool_(0), np.int8(3), NAN]], b"a,1,0,3,nan\n"),
        ([("é", 1)], "é,1\n".encode()),
        ([[10**30]], b"1000000000000000000000000000000\n"),
    ],
)
def test_encode(value, document):
    assert CODEC.encode(value) == document


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((1, 2, 3)), "the shape (1, 2, 3)"),
        ([[["a"]]], "the shape (1, 1, 1)"),
        ([[1], [2, 3]], "a list is not an array"),
        ([["a"], ["b", "c"]], "a list is not an array"),
        ({"a": 1}, "a dict is neither"),
        ({1}, "a set is neither"),
        (b"bytes", "a bytes is neither"),
        ([["a", b"b"]], "a bytes is neither"),
        ([[1, {}]], "a dict is neither"),
        (1j, "a complex is neither"),
        (np.array([1j]), "a complex is neither"),
        (np.array(["2020-01-01"], "M8[D]"), "a date is neither"),
        (object(), "a object is neither"),
        ([["\ud800"]], "surrogates"),
        ([[10**5000]], "digits"),
    ],
)
def test_unencodable(value, message):
    with pytest.raises(EncodeError) as caught:
        CODEC.encode(value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b",",
        b"1,",
        b",1",
        b",,",
        b"1,,,2",
        b",1\n2,",
        b"1,2\n,\n3,4",
        b",\n,",
        b"1,,3\r\n,,\r\n4,5,",
        b",1,\n,,",
    ],
)
def test_holes_are_read_the_same_way_fast_and_slowly(text):
    fast, slow = _read_plain(text), _read(text)
    assert fast is not None
    assert fast[0] == slow[0]
    np.testing.assert_array_equal(fast[1], slow[1])


@pytest.mark.parametrize("text", [b"1\n\n2", b"1,2\n\n3,4", b"1, ,2", b"1,2\n3"])
def test_what_may_be_no_hole_is_read_slowly(text):
    assert _read_plain(text) is None
