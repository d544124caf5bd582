import gzip
import io
import os
import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.plugins.packagers import deflate
from modelyard.plugins.packagers.gzip_stream import GzipMember, GzipStream

DATA = os.urandom(300_000) + bytes(700_000)
HAS_ISAL = deflate._isal() is not None


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def library(request, monkeypatch):
    if request.param == "isal" and not HAS_ISAL:
        pytest.skip("isal is not installed")
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    deflate._isal.cache_clear()
    assert (deflate._isal() is not None) == (request.param == "isal")
    yield
    monkeypatch.undo()
    deflate._isal.cache_clear()


def stream_of(data):
    return GzipStream(io.BufferedReader(io.BytesIO(data)))


def headed(flags, extra):
    """Return an archive with optional parts in its header."""
    plain = gzip.compress(DATA, mtime=0)
    return plain[:3] + bytes([flags]) + plain[4:10] + extra + plain[10:]


def test_member_is_found_and_summed_up():
    compressed = gzip.compress(DATA)
    stream = stream_of(compressed)
    assert stream.read(len(DATA) + 1) == DATA
    assert stream.read(1) == b""
    assert stream.members == [GzipMember(10, len(compressed) - 8, len(DATA), zlib.crc32(DATA))]
    assert zlib.decompress(compressed[10:-8], -15) == DATA


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=30))
def test_reads_are_of_the_size_that_was_asked_for(sizes):
    stream = stream_of(gzip.compress(DATA, 1))
    read = [stream.read(size) for size in sizes]
    assert b"".join(read) == DATA[: sum(sizes)]
    assert all(len(data) == size for data, size in zip(read, sizes, strict=True) if sum(sizes) <= len(DATA))


@pytest.mark.parametrize(
    ("flags", "extra"),
    [
        (8, b"model.tar\0"),
        (16, b"a comment\0"),
        (4, b"\x05\0extra"),
        (2, b"\0\0"),
        (31, b"\x05\0extra" + b"name\0" + b"comment\0" + b"\0\0"),
        (8, b"n" * 60_000 + b"\0"),
        (1, b""),
    ],
)
def test_parts_of_the_header_are_passed_over(flags, extra):
    stream = stream_of(headed(flags, extra))
    assert stream.read(1 << 30) == DATA
    assert stream.members[0].start == 10 + len(extra)


@pytest.mark.parametrize("padding", [b"", bytes(3), bytes(600_000)])
def test_members_and_padding(padding):
    stream = stream_of(gzip.compress(DATA) + padding + gzip.compress(b"more") + padding)
    assert stream.read(1 << 30) == DATA + b"more"
    assert [member.raw for member in stream.members] == [len(DATA), 4]


BAD = gzip.compress(DATA, 1, mtime=0)


DAMAGE = {
    "last byte missing": BAD[:-1],
    "trailer missing": BAD[:-8],
    "cut": BAD[:1000],
    "header cut": BAD[:9],
    "wrong CRC": BAD[:-8] + struct.pack("<I", 1) + BAD[-4:],
    "wrong length": BAD[:-4] + struct.pack("<I", 1),
    "garbage": BAD + b"garbage",
    "garbage behind padding": BAD + bytes(5) + b"garbage",
    "second member cut": BAD + BAD[:100],
    "other method": BAD[:2] + b"\x07" + BAD[3:],
    "unknown flag": BAD[:3] + b"\x80" + BAD[4:],
    "name without end": headed(8, b"n" * 70_000 + b"\0"),
    "not deflated": BAD[:10] + b"\xff" * 50,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_an_error(name):
    with pytest.raises((EOFError, OSError)):
        stream_of(DAMAGE[name]).read(1 << 30)


@given(st.integers(10, len(BAD) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(position, change):
    data = bytearray(BAD)
    data[position] ^= change
    try:
        read = stream_of(bytes(data)).read(2 * len(DATA))
    except (EOFError, OSError):
        return
    assert read == DATA  # In the bits that deflate leaves unused a change is none.
