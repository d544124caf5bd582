import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelyard.core.errors import DecodeError, EncodeError
from modelyard.serializers._zip import MAX_MEMBERS
from modelyard.serializers.npy import DTYPES, NpyCodec
from modelyard.serializers.npz import NpzCodec, _is_odd

CODEC = NpzCodec()
ARRAY = np.array([[1.5, -2.0]], np.float32)
NPY = NpyCodec().encode(ARRAY)

arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
names = st.text(max_size=10).filter(lambda name: not _is_odd(name) and name != "arr_0")


def archive(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def replaced(body, struct_format, position, value):
    """Return the archive with one number changed, in the directory's first entry."""
    place = body.rindex(b"PK\x01\x02") + position
    size = struct.calcsize(struct_format)
    return body[:place] + struct.pack(struct_format, value) + body[place + size :]


# -- there and back ----------------------------------------------------------------------------


@given(st.dictionaries(names, arrays, max_size=3))
def test_arrays_come_back_by_name(value):
    decoded = CODEC.decode(CODEC.encode(value))
    assert decoded.keys() == value.keys()
    for name, array in value.items():
        assert decoded[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded[name], array)


@given(arrays)
def test_one_array_comes_back_as_itself(array):
    decoded = CODEC.decode(CODEC.encode(array))
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save):
    buffer = io.BytesIO()
    save(
        buffer, image=np.arange(6.0).reshape(2, 3).T, **{"a/b": np.array([1], ">i2"), "é": np.ones((), bool)}
    )
    decoded = CODEC.decode(buffer.getvalue())
    assert {name: array.tolist() for name, array in decoded.items()} == {
        "image": [[0, 3], [1, 4], [2, 5]],
        "a/b": [1],
        "é": True,
    }
    assert decoded["a/b"].dtype == np.int16


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_only_array_without_a_name_is_the_value(save):
    buffer = io.BytesIO()
    save(buffer, ARRAY)
    np.testing.assert_array_equal(CODEC.decode(buffer.getvalue()), ARRAY)


def test_numpy_reads_what_is_written():
    document = CODEC.encode({"a": ARRAY, "b": [1, 2], "é": True})
    with np.load(io.BytesIO(document)) as loaded:
        assert {name: loaded[name].tolist() for name in loaded.files} == {
            "a": ARRAY.tolist(),
            "b": [1, 2],
            "é": True,
        }


def test_the_same_value_makes_the_same_bytes():
    assert CODEC.encode({"a": ARRAY}) == CODEC.encode({"a": ARRAY.copy()})


# -- refusals ----------------------------------------------------------------------------------


def zip64_locator():
    body = archive(("a.npy", NPY))
    return body[:-22] + b"PK\x06\x07" + bytes(16) + body[-22:]


def truncated_data():
    stored = NPY[:-4]
    return archive(("a.npy", stored))


BAD = {
    "empty": (b"", "not a ZIP archive"),
    "not a ZIP": (b"x" * 100, "not a ZIP archive"),
    "NPY": (NPY, "not a ZIP archive"),
    "cut short": (archive(("a.npy", NPY))[:-1], "is it complete?"),
    "something behind it": (archive(("a.npy", NPY)) + b"x", "is it complete?"),
    "something before it": (b"PK" + archive(("a.npy", NPY)), "is it complete?"),
    "ZIP64": (zip64_locator(), "is it complete?"),
    "a member that is no NPY": (archive(("a.npy", b"hello")), "member 'a.npy': not an NPY"),
    "an NPY cut short": (truncated_data(), "announces 8 bytes of data, and 4 follow"),
    "two of one name": (
        archive(("a.npy", NPY), ("b.npy", NPY)).replace(b"b.npy", b"a.npy"),
        "two members of one name",
    ),
    "a folder": (archive(("a/", b"")), "'a/' is not a name"),
    "not .npy": (archive(("a.txt", NPY)), "'a.txt' is not a name"),
    "no name": (archive((".npy", NPY)), "'.npy' is not a name"),
    "upwards": (archive(("../a.npy", NPY)), "'../a.npy' is not a name"),
    "absolute": (archive(("/a.npy", NPY)), "'/a.npy' is not a name"),
    "a backslash": (archive(("a\\b.npy", NPY)), "is not a name"),
    "a control character": (archive(("a\n.npy", NPY)), "is not a name"),
    "a long name": (archive(("a" * 300 + ".npy", NPY)), "is not a name"),
    "a name that is not UTF-8": (
        archive(("é.npy", NPY)).replace("é".encode(), b"\xff\xff"),
        "not UTF-8",
    ),
    "scipy's sparse matrix": (
        archive(*((f"{name}.npy", NPY) for name in ("indices", "indptr", "format", "shape", "data"))),
        "a sparse matrix is not read from NPZ",
    ),
    "encrypted": (replaced(archive(("a.npy", NPY)), "<H", 8, 1), "encrypted"),
    "bzip2": (archive(("a.npy", NPY), compression=zipfile.ZIP_BZIP2), "compressed in a way"),
    "LZMA": (archive(("a.npy", NPY), compression=zipfile.ZIP_LZMA), "compressed in a way"),
    "another checksum": (replaced(archive(("a.npy", NPY)), "<L", 16, 1), "not what the archive says"),
    "stored, of another size": (replaced(archive(("a.npy", NPY)), "<L", 24, 5), "not what the archive says"),
    "beyond the end": (replaced(archive(("a.npy", NPY)), "<L", 20, 2**31), "not where the archive says"),
    "elsewhere": (replaced(archive(("a.npy", NPY)), "<L", 42, 3), "not where the archive says"),
    "far away": (replaced(archive(("a.npy", NPY)), "<L", 42, 2**32 - 1), "not where the archive says"),
    "a name beyond the directory": (replaced(archive(("a.npy", NPY)), "<H", 28, 5000), "is damaged"),
    "no entry": (archive(("a.npy", NPY)).replace(b"PK\x01\x02", b"PK\x01\x03"), "is damaged"),
    "another name at the data": (
        archive(("a.npy", NPY)).replace(b"a.npy", b"b.npy", 1),
        "not where the archive says",
    ),
    "not deflated": (replaced(archive(("a.npy", b"\xff" * 100)), "<H", 10, 8), "cannot be uncompressed"),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
def test_bad_archives(body, message):
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_a_deflated_member_is_held_to_its_size(change):
    body = archive(("a.npy", NPY), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DecodeError, match="not what the archive says"):
        CODEC.decode(replaced(body, "<L", 24, len(NPY) + change))


def test_a_directory_that_counts_wrong():
    body = archive(("a.npy", NPY))
    for count in (0, 2):
        with pytest.raises(DecodeError, match="damaged"):
            CODEC.decode(body[:-12] + struct.pack("<H", count) + body[-10:])


def test_more_members_than_anyone_has():
    with pytest.raises(DecodeError, match="has 1001 members"):
        CODEC.decode(archive(*((f"{i}.npy", b"") for i in range(MAX_MEMBERS + 1))))
    with pytest.raises(EncodeError, match="at most 1000"):
        CODEC.encode(dict.fromkeys(map(str, range(MAX_MEMBERS + 1)), 0))


# -- bombs -------------------------------------------------------------------------------------


def zeros(size):
    header = NpyCodec().encode(np.zeros(0, np.uint8)).replace(b"(0,)", f"({size},)".encode())[:128]
    return header + bytes(size)


def peak_of_refusing(codec, body, message):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=message):
            codec.decode(body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_that_says_so_is_not_inflated():
    body = archive(("a.npy", zeros(32 * 2**20)), compression=zipfile.ZIP_DEFLATED)
    assert len(body) < 100_000
    message = "makes 335.* bytes uncompressed; at most 1000000 are read"
    assert peak_of_refusing(NpzCodec(max_bytes=1_000_000), body, message) < 2**20


def test_many_members_count_together():
    body = archive(*((f"{i}.npy", zeros(600)) for i in range(3)))
    with pytest.raises(DecodeError, match="at most 2000"):
        NpzCodec(max_bytes=2000).decode(body)
    assert len(NpzCodec(max_bytes=3000).decode(body)) == 3


def test_a_bomb_that_lies_is_inflated_no_further_than_it_says():
    body = archive(("a.npy", zeros(32 * 2**20)), compression=zipfile.ZIP_DEFLATED)
    lying = replaced(body, "<L", 24, 1000)
    assert peak_of_refusing(CODEC, lying, "not what the archive says") < 2**20


def test_members_that_share_their_data_count_each():
    """The directory names one bomb a hundred times."""
    content = zlib.compressobj(wbits=-15)
    data = content.compress(zeros(2**20)) + content.flush()
    crc, size = zlib.crc32(zeros(2**20)), len(zeros(2**20))
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(data), size, 1, 0) + b"a" + data
    fixed = (20, 20, 0, 8, 0, 0, crc, len(data), size, 1, 0, 0, 0, 0, 0, 0)
    directory = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fixed) + b"a"
    body = local + directory * 200
    body += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 200, 200, len(directory) * 200, len(local), 0)
    with pytest.raises(DecodeError, match="two members of one name"):
        CODEC.decode(body)


# -- pickles, and what is not written ----------------------------------------------------------


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_nothing_is_unpickled():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Trap()], dtype=object), allow_pickle=True)
    for body in (buffer.getvalue(), archive(("a.npy", pickle.dumps(Trap()))), pickle.dumps(Trap())):
        with pytest.raises(DecodeError):
            CODEC.decode(body)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType makes an array of object"),
        ({"a": None}, "NoneType makes an array of object"),
        ({"a": np.array(["x"])}, "an array of <U1"),
        ({"a": np.array([None])}, "an array of object"),
        ({1: ARRAY}, "1 is not a name"),
        ({"": ARRAY}, "'' is not a name"),
        ({"../a": ARRAY}, "'../a' is not a name"),
        ({"/a": ARRAY}, "'/a' is not a name"),
        ({"a\0": ARRAY}, "is not a name"),
        ({"\ud800": ARRAY}, "is not a name"),
        ({"a" * 300: ARRAY}, "is not a name"),
    ],
)
def test_unencodable(value, message):
    with pytest.raises(EncodeError) as caught:
        CODEC.encode(value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
