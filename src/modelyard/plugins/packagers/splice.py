"""A model archive whose ``code/`` can be replaced without reading the model: the bytes of it, no files.

Such an archive is one gzip member, so that no reader can lose the model behind the code::

    header    fixed size; its comment is the index
    prefix    ``code/`` as a tar without end marker, deflated, ended by a full flush
    body      the model as a tar with end marker, deflated: the same bytes for ever
    trailer   the CRC of the body alone, and the length of prefix and body

The trailer's CRC is right because the prefix does not change it: its last entry, the folder ``code/``,
has a comment of 64 characters, 0 or 1, chosen so that the CRC-32 of the whole prefix is 0.

To give an archive other code on a server that copies ranges of bytes, `TarballPackager.splice` says what
to send. What that does, in short::

    index = parse_index(first_4_kilobytes)             # None: it is not such an archive
    index.fits(size, last_8_bytes)                     # False: neither
    new = make_prefix(tar, at_least=5 << 20)           # padded, where the first part must be that large
    changed = index.with_prefix(new, files=how_many)
    changed.header + new.deflated | the old archive's bytes from index.start to index.stop | changed.trailer
"""

import re
import struct
import tarfile
import zlib
from functools import cache

import attrs

CODE = "code"
HEADER_SIZE = 10 + 192
TRAILER_SIZE = 8
MAX_CODE = 64 << 20
"""Bytes of code that are held in memory."""
MAX_HEADER = 4096
"""Bytes from which `parse_index` can tell."""

_FIXED = b"\x1f\x8b\x08\x10\0\0\0\0\0\x03"
"""A gzip header with a comment, without time, of Unix: the bytes that zlib writes, but for the comment."""
_COMMENT = "modelyard-code 1 {:012x} {:012x} {:08x} {:012x} {:012x} {:08x} {:08x} {}"
_PATTERN = re.compile(
    rb"modelyard-code 1 ([0-9a-f]{12}) ([0-9a-f]{12}) ([0-9a-f]{8}) "
    rb"([0-9a-f]{12}) ([0-9a-f]{12}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{64})"
)
_UNINDEXED = "modelyard-code none"
_EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
"""A stored block of no bytes: what deflate can be padded with, at no cost to who inflates it."""
_FLUSHED = _EMPTY_BLOCK[1:]
LAST_BLOCK = b"\x03\0"
"""A block of no bytes that ends deflated data: what inflates to nothing wherever a block may begin."""

_FREE = 64
_RECORD = b"76 comment=%s\n"
_BLOCK = 512
NEUTRAL_SIZE = 3 * _BLOCK


@attrs.frozen
class Prefix:
    """Code, ready to stand before a body. ``raw``: how many bytes ``deflated`` inflates to."""

    deflated: bytes
    raw: int


@attrs.frozen
class Index:
    """Where prefix and body are. Sizes are of deflated and of raw bytes; files are counted.

    ``body_digest``: SHA-256 (hex) of the raw body; ``crc``: CRC-32 of it, and so of the whole.
    """

    prefix: int
    prefix_raw: int
    prefix_files: int
    body: int
    body_raw: int
    body_files: int
    crc: int
    body_digest: str

    @property
    def header(self) -> bytes:
        """The gzip header, with this index in it."""
        return _header(_COMMENT.format(*attrs.astuple(self)))

    @property
    def trailer(self) -> bytes:
        """The gzip trailer."""
        return struct.pack("<II", self.crc, (self.prefix_raw + self.body_raw) & 0xFFFFFFFF)

    @property
    def start(self) -> int:
        """Where in the archive the body begins."""
        return HEADER_SIZE + self.prefix

    @property
    def stop(self) -> int:
        """Where in the archive the body ends, and the trailer begins."""
        return self.start + self.body

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return self.stop + TRAILER_SIZE

    @property
    def has_much_code(self) -> bool:
        """Whether it says that there is more code than is held in memory."""
        return max(self.prefix, self.prefix_raw) > MAX_CODE

    def fits(self, size: int, trailer: bytes) -> bool:
        """Tell whether an archive of this size and with these last bytes can be the one described."""
        return size == self.size and trailer == self.trailer

    def with_prefix(self, prefix: Prefix, files: int) -> "Index":
        """Return the index of the archive with this prefix, of so many files, before the same body."""
        return attrs.evolve(self, prefix=len(prefix.deflated), prefix_raw=prefix.raw, prefix_files=files)


def parse_index(head: bytes) -> Index | None:
    """Return the index of the archive that begins with `head`; None where it has none."""
    comment, end, _ = head[len(_FIXED) : MAX_HEADER].partition(b"\0")
    if not head.startswith(_FIXED) or len(comment) + 1 != HEADER_SIZE - len(_FIXED) or not end:
        return None
    match = _PATTERN.fullmatch(comment.rstrip(b" "))
    if match is None:
        return None
    *sizes, crc, digest = match.groups()
    prefix, prefix_raw, prefix_files, body, body_raw, body_files = (int(size, 16) for size in sizes)
    return Index(prefix, prefix_raw, prefix_files, body, body_raw, body_files, int(crc, 16), digest.decode())


def unindexed_header() -> bytes:
    """Return a header of the same size that says nothing."""
    return _header(_UNINDEXED)


def make_prefix(tar: bytes, *, level: int = 6, at_least: int = 0) -> Prefix:
    """Return the prefix of a tar of entries below ``code/`` without end marker, padded to a size.

    Nothing becomes nothing, unless it has to be padded.
    """
    raw = tar + neutral_entry(zlib.crc32(tar)) if tar else b""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = deflater.compress(raw) + deflater.flush(zlib.Z_FULL_FLUSH) if tar else b""
    return Prefix(deflated + padding(at_least - len(deflated)), len(raw))


def padding(size: int) -> bytes:
    """Return at least `size` bytes that inflate to nothing, to be put between prefix and body."""
    return _EMPTY_BLOCK * -(-max(0, size) // len(_EMPTY_BLOCK))


def is_flushed(end: bytes) -> bool:
    """Tell whether deflated bytes with this end stop where something else may follow."""
    return end.endswith(_FLUSHED)


def neutral_entry(crc: int) -> bytes:
    """Return the folder ``code/`` as an entry that takes a CRC-32 of `crc` so far to 0."""
    plain = _neutral(0)
    wanted = zlib.crc32(plain, crc)
    chosen = 0
    for pivot, vector, bits in _basis():
        if wanted >> pivot & 1:
            wanted ^= vector
            chosen ^= bits
    return _neutral(chosen)


def _neutral(bits: int) -> bytes:
    record = _RECORD % f"{bits:0{_FREE}b}".encode()
    extended, folder = tarfile.TarInfo("././@PaxHeader"), tarfile.TarInfo(CODE)
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    return (
        extended.tobuf(tarfile.USTAR_FORMAT)
        + record.ljust(_BLOCK, b"\0")
        + folder.tobuf(tarfile.USTAR_FORMAT)
    )


@cache
def _basis() -> tuple[tuple[int, int, int], ...]:
    """Return how to set each bit of the CRC: the bit, all that changes with it, the characters to change.

    A CRC is linear: a change of some bits of the text changes the same bits of its CRC, whatever the
    rest of the text is. Gaussian elimination makes of 64 such changes one for each bit of the CRC.
    """
    nothing = zlib.crc32(_neutral(0))
    rows: list[tuple[int, int, int]] = []
    for position in range(_FREE):
        bits = 1 << position
        vector = zlib.crc32(_neutral(bits)) ^ nothing
        for pivot, other, others in rows:
            if vector >> pivot & 1:
                vector ^= other
                bits ^= others
        if vector:
            rows.append((vector.bit_length() - 1, vector, bits))
    return tuple(rows)


def _header(comment: str) -> bytes:
    return _FIXED + comment.ljust(HEADER_SIZE - len(_FIXED) - 1).encode("latin-1") + b"\0"
