import gzip
import io
import re
import struct
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.plugins.packagers import splice
from modelyard.plugins.packagers.splice import Index, make_prefix, neutral_entry, padding, parse_index

RAW = -zlib.MAX_WBITS
INDEX = Index(0, 0, 0, body=10, body_raw=2560, body_files=3, crc=0xDEADBEEF, body_digest="0f" * 32)


def tar_of(files, *, end=True):
    blocks = b""
    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        blocks += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    return blocks + bytes(1024 if end else 0)


def deflated(data, level=6):
    deflater = zlib.compressobj(level, zlib.DEFLATED, RAW)
    return deflater.compress(data) + deflater.flush()


def archive_of(files, prefix=b""):
    """Return an archive with an index as bytes, put together by hand."""
    raw = tar_of(files)
    new = make_prefix(prefix)
    body = deflated(raw)
    index = Index(0, 0, 0, len(body), len(raw), len(files), zlib.crc32(raw), "0" * 64).with_prefix(new, 0)
    return index.header + new.deflated + body + index.trailer


@given(st.integers(0, 0xFFFFFFFF))
def test_neutral_entry_takes_any_crc_to_zero(crc):
    assert zlib.crc32(neutral_entry(crc), crc) == 0


def test_every_bit_of_the_crc_can_be_set():
    assert sorted(pivot for pivot, _, _ in splice._basis()) == list(range(32))


def test_neutral_entry_is_the_folder_code():
    with tarfile.open(fileobj=io.BytesIO(neutral_entry(123) + bytes(1024))) as tar:
        (info,) = tar
    assert (info.name, info.isdir(), info.mode) == ("code", True, 0o755)
    assert re.fullmatch("[01]{64}", info.pax_headers["comment"])
    assert len(neutral_entry(123)) == splice.NEUTRAL_SIZE


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_prefix_changes_no_crc(code, body):
    prefix = make_prefix(tar_of({"code/a": code}, end=False))
    raw = zlib.decompressobj(RAW).decompress(prefix.deflated)
    assert len(raw) == prefix.raw
    assert zlib.crc32(raw) == 0
    assert zlib.crc32(raw + body) == zlib.crc32(body)


def test_prefix_of_nothing_is_nothing():
    assert make_prefix(b"") == splice.Prefix(b"", 0)


@pytest.mark.parametrize("tar", [b"", tar_of({"code/a": b"1"}, end=False)])
@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 1000, 5 << 20])
def test_padding_is_of_the_size_and_inflates_to_nothing(tar, size):
    plain, padded = make_prefix(tar), make_prefix(tar, at_least=size)
    assert max(size, len(plain.deflated)) <= len(padded.deflated) < max(size, len(plain.deflated)) + 5
    inflater = zlib.decompressobj(RAW)
    assert len(inflater.decompress(padded.deflated)) == plain.raw == padded.raw
    assert not inflater.eof
    assert splice.is_flushed(padded.deflated) or not padded.deflated


def test_no_padding_for_what_is_large_enough():
    assert padding(0) == padding(-7) == b""


def test_index_is_read_from_the_header():
    assert parse_index(INDEX.header) == INDEX
    assert parse_index(INDEX.header + b"more" * 2000) == INDEX
    assert len(INDEX.header) == splice.HEADER_SIZE < splice.MAX_HEADER


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1))
def test_index_of_any_size(size, small):
    index = Index(size, size, small, size, size, small, small, "ab" * 32)
    assert len(index.header) == splice.HEADER_SIZE
    assert parse_index(index.header) == index


@pytest.mark.parametrize(
    "head",
    [
        b"",
        INDEX.header[:100],
        INDEX.header[:-1],
        gzip.compress(b"data", mtime=0),
        splice.unindexed_header(),
        INDEX.header.replace(b"code 1", b"code 2"),
        INDEX.header.replace(b"0f0f", b"0F0F"),
        INDEX.header.replace(b"  ", b"", 1),
        INDEX.header[:3] + b"\x18" + INDEX.header[4:],
    ],
)
def test_other_headers_are_no_index(head):
    assert parse_index(head) is None


def test_go_reads_the_comment():
    comment = INDEX.header[10:].rstrip(b"\0")
    assert len(comment) < 512
    assert comment.isascii()


def test_trailer_of_more_than_four_gib():
    index = Index(9, 1536, 0, 99, (5 << 30) + 512, 1, 7, "0" * 64)
    assert index.trailer == struct.pack("<II", 7, (1 << 30) + 2048)


def test_fits():
    assert INDEX.fits(splice.HEADER_SIZE + 10 + 8, INDEX.trailer)
    assert not INDEX.fits(splice.HEADER_SIZE + 10 + 9, INDEX.trailer)
    assert not INDEX.fits(splice.HEADER_SIZE + 10 + 8, bytes(8))


def test_archive_gets_other_code_from_ranges_of_its_bytes():
    old = archive_of({"model.bin": b"weights" * 999}, tar_of({"code/old.py": b"old"}, end=False))
    index = parse_index(old[: splice.MAX_HEADER])
    assert index.fits(len(old), old[-8:])
    new = make_prefix(tar_of({"code/new.py": b"new"}, end=False), at_least=1000)
    changed = index.with_prefix(new, 1)
    made = changed.header + new.deflated + old[index.start : index.stop] + changed.trailer
    assert parse_index(made) == changed
    assert changed.fits(len(made), made[-8:])
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made))) as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}
    assert found == {"code/new.py": b"new", "model.bin": b"weights" * 999}
