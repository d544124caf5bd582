import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers.npy import DTYPES, MAX_HEADER, NpyCodec

CODEC = NpyCodec()
GOOD = {"descr": "<f4", "fortran_order": False, "shape": (2,)}
DATA = struct.pack("<2f", 1.5, -2.0)

numeric_arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: st.sampled_from("<>").flatmap(
        lambda order: hnp.arrays(
            np.dtype(order + code), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
        )
    )
)


def saved(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def document(header, data=DATA, version=(1, 0)):
    text = header if isinstance(header, bytes) else repr(header).encode()
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


# -- decoding ----------------------------------------------------------------------------------


@given(numeric_arrays)
def test_every_numeric_array_that_numpy_saves_is_read(array):
    decoded = CODEC.decode(saved(array))
    assert decoded.dtype == array.dtype.newbyteorder("=")
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions(version):
    np.testing.assert_array_equal(CODEC.decode(document(GOOD, version=version)), [1.5, -2.0])


def test_the_array_is_a_read_only_view_of_the_body():
    body = CODEC.encode(np.arange(12, dtype=np.float32))
    array = CODEC.decode(body)
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("array", [np.array([1, 2], ">f8"), np.array([True, False])])
def test_converted_bytes_are_a_writable_copy(array):
    decoded = CODEC.decode(saved(array))
    assert decoded.flags.writeable
    assert decoded.dtype.isnative


def test_data_at_an_odd_offset_is_aligned():
    header = repr(GOOD).encode()
    for padding in range(8):
        array = CODEC.decode(document(header + b" " * padding))
        assert array.flags.aligned
        np.testing.assert_array_equal(array, [1.5, -2.0])


def test_any_byte_but_zero_is_true():
    array = CODEC.decode(document(GOOD | {"descr": "|b1", "shape": (3,)}, b"\x00\x01\x7f"))
    assert array.view(np.uint8).tolist() == [0, 1, 1]


def test_fortran_order_is_kept():
    array = CODEC.decode(saved(np.asfortranarray([[1, 2], [3, 4]])))
    assert array.flags.f_contiguous
    assert array.tolist() == [[1, 2], [3, 4]]


HEADERS = {
    "not a literal": b"{'descr': __import__('os').getcwd()}",
    "no dict": b"[1, 2, 3]",
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "NUL": b"{'descr'\0}",
    "an unhashable key": b"{[]: 1}",
    "deep brackets": b"[" * MAX_HEADER,
    "deep signs": b"-" * (MAX_HEADER - 1) + b"1",
    "a long sum": b"1+" * 4000 + b"1",
    "a huge integer": b"9" * MAX_HEADER,
    "a missing key": {"descr": "<f4", "shape": (2,)},
    "an extra key": GOOD | {"extra": 1},
    "an object dtype": GOOD | {"descr": "|O"},
    "a structure": GOOD | {"descr": [("a", "<f4")]},
    "a comma string": GOOD | {"descr": "<i4,<i4"},
    "a string dtype": GOOD | {"descr": "<U2"},
    "a bytes dtype": GOOD | {"descr": "|S4"},
    "a date dtype": GOOD | {"descr": "<M8[ns]"},
    "a void dtype": GOOD | {"descr": "|V4"},
    "a long double": GOOD | {"descr": "<f16"},
    "a dtype's name": GOOD | {"descr": "float32"},
    "an empty dtype": GOOD | {"descr": ""},
    "two byte orders": GOOD | {"descr": "<>f4"},
    "a dtype that is a number": GOOD | {"descr": 4},
    "an order that is a number": GOOD | {"fortran_order": 0},
    "a shape that is a number": GOOD | {"shape": 2},
    "a shape that is a list": GOOD | {"shape": [2]},
    "a negative length": GOOD | {"shape": (-2,)},
    "two negative lengths": GOOD | {"shape": (-1, -2)},
    "a boolean length": GOOD | {"shape": (True, 2)},
    "a fractional length": GOOD | {"shape": (2.0,)},
    "more than there is": GOOD | {"shape": (3,)},
    "less than there is": GOOD | {"shape": (1,)},
    "a petabyte": GOOD | {"shape": (2**48,)},
    "a product that overflows": GOOD | {"shape": (2**32, 2**32 + 1)},
    "a product that wraps to 2": GOOD | {"shape": (2**63 + 1, 2)},
    "too many dimensions": GOOD | {"shape": (2, *(1,) * 64)},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_bad_headers(header):
    with pytest.raises(DecodeError):
        CODEC.decode(document(header))


@pytest.mark.parametrize("shape", [(0, 2**62), (0, 2**70), (2**70, 0)])
def test_an_empty_array_of_impossible_shape(shape):
    with pytest.raises(DecodeError):
        CODEC.decode(document(GOOD | {"shape": shape}, b""))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not an NPY document"),
        (b"\x93NUMPY", "not an NPY document"),
        (b"\x93NUMPY\x04\x00\x00\x00\x00\x00", "not an NPY document"),
        (b"\x93NUMPY\x01\x00\x00\x00", "not a Python literal"),
        (b"\x93NUMPY\x01\x00\x10\x00{", "ends within the NPY header"),
        (document(b" " * (MAX_HEADER + 1)), "at most 10000"),
        (document(b"[" * 2_000_000, version=(2, 0)), "at most 10000"),
        (document(GOOD, DATA + b"\0"), "announces 8 bytes of data, and 9 follow"),
        (document(GOOD | {"descr": "|O"}), "'|O' is not read"),
    ],
)
def test_messages(body, message):
    with pytest.raises(DecodeError, match=message):
        CODEC.decode(body)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    "body",
    [
        pickle.dumps(Trap()),
        saved(np.array([Trap()], dtype=object), allow_pickle=True),
        document(GOOD | {"descr": "|O", "shape": ()}, pickle.dumps(Trap())),
    ],
    ids=["a pickle", "an object array", "a made-up object array"],
)
def test_nothing_is_unpickled(body):
    with pytest.raises(DecodeError):
        CODEC.decode(body)
    assert not Trap.sprung


@given(st.binary(max_size=200))
def test_any_bytes(noise):
    for body in (noise, b"\x93NUMPY\x01\x00" + noise, document(noise)):
        with pytest.raises(DecodeError):
            CODEC.decode(body)


# -- encoding ----------------------------------------------------------------------------------


@given(numeric_arrays)
def test_the_document_is_the_one_that_numpy_saves(array):
    assert CODEC.encode(array) == saved(array)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4)[:, ::2],
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(6)[::-1],
        np.float16(0.5),
        7,
        True,
        [[1, 2], [3, 4]],
        (),
    ],
)
def test_layouts_and_plain_python(array):
    assert CODEC.encode(array) == saved(array)


def test_a_header_of_a_terabyte_allocates_nothing():
    body = document(GOOD | {"shape": (2**38,)})
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="announces 1099511627776 bytes of data, and 8 follow"):
            CODEC.decode(body)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


def test_float32_stays_float32():
    assert CODEC.decode(CODEC.encode(np.array([0.1], np.float32))).dtype == np.float32


class Hostile:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array today")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType makes an array of object"),
        ({"a": 1}, "dict makes an array of object"),
        ({1, 2}, "set makes an array of object"),
        ("text", "str makes an array of <U4"),
        (b"bytes", "bytes makes an array of |S5"),
        ([1, None], "list makes an array of object"),
        ([10**5000], "list makes an array of object"),
        ([[1], [2, 3]], "a list is not an array"),
        (np.array(["a"]), "ndarray makes an array of <U1"),
        (np.datetime64("2020-01-01"), "datetime64 makes an array of datetime64"),
        (np.zeros(1, [("a", "f4")]), "ndarray makes an array of"),
        (np.longdouble(1), "longdouble makes an array of"),
        (Hostile(), "Hostile is not an array: no array today"),
    ],
)
def test_unencodable(value, message):
    with pytest.raises(EncodeError) as caught:
        CODEC.encode(value)
    assert message in str(caught.value)
