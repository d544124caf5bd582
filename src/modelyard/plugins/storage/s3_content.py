"""Whether a file and an object have the same content, without the object's bytes where that can be told."""

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from modelyard.plugins.storage.s3_places import Bucket

MIB = 1 << 20
_CHUNK = MIB
_USUAL_PARTS = tuple(size * MIB for size in (5, 8, 10, 15, 16, 25, 32, 50, 64, 100, 128, 256, 512))
"""The sizes of parts that clients use, for services that do not tell."""

_KMS = ("aws:kms", "aws:kms:dsse")
_EXPRESS = "--x-s3"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_HASHES: Mapping[str, Callable[[], _Hash]] = {
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32": _Crc32,
}
"""The preferred one first."""


@attrs.frozen
class Content:
    """What a service says of an object's content.

    ``algorithm`` and ``digest``: of the whole, or of the digests of its ``parts``; no algorithm where
    the service says nothing that can be compared. ``key``: the object's, whose parts are asked for.
    """

    bucket: Bucket
    key: str
    size: int
    etag: str
    algorithm: str = ""
    digest: bytes = b""
    parts: int = 0

    @classmethod
    def of(cls, bucket: Bucket, key: str, answer: Mapping[str, Any], size: int | None = None) -> "Content":
        """Return what the answer to a request for an object, or its head, says."""
        total = answer["ContentLength"] if size is None else size
        said = dict(_digests(answer, is_md5=_etag_is_md5(bucket, answer)))
        for algorithm in _HASHES:
            if algorithm in said:
                return cls(bucket, key, total, answer["ETag"], algorithm, *said[algorithm])
        return cls(bucket, key, total, answer["ETag"])

    def is_in(self, path: Path) -> bool | None:
        """Tell whether the file has this content; None where nobody can without reading both."""
        if path.stat().st_size != self.size:
            return False
        # Where a key of KMS encrypts, the ETag is no digest, and a listing does not say so.
        if not self.size:
            return True
        if not self.algorithm:
            return None
        if not self.parts and _digest(path, self.algorithm, [self.size]) == [self.digest]:
            return True
        # Some services do not say of a checksum that it is made of those of the parts.
        parts = self.parts or _parts_in(self.etag)
        certain = not parts
        for sizes, certain in self._layouts(parts):  # noqa: B007 - it is looked at after the last one
            digests = _digest(path, self.algorithm, sizes)
            if _of(self.algorithm, b"".join(digests)) == self.digest:
                return True
        return False if certain else None

    def _layouts(self, parts: int) -> Iterator[tuple[Sequence[int], bool]]:
        """Yield what sizes the parts may have, and whether the service itself has said so of each."""
        if not parts:
            return
        first = self._part(1, parts)
        if first is None:
            sizes = [size for size in _USUAL_PARTS if -(-self.size // size) == parts]
            yield from ((_even(self.size, size), False) for size in sizes)
            return
        if -(-self.size // first) == parts:
            yield _even(self.size, first), False
        others = [self._part(number, parts) or 0 for number in range(2, parts + 1)]
        if first + sum(others) == self.size:
            yield [first, *others], True

    def _part(self, number: int, parts: int) -> int | None:
        """Return the size of a part, None where the service does not say."""
        answer = self.bucket.head(self.key, PartNumber=number)
        if answer is None or answer.get("PartsCount") != parts:
            return None
        return int(answer["ContentLength"])


def _etag_is_md5(bucket: Bucket, answer: Mapping[str, Any]) -> bool:
    hidden = answer.get("ServerSideEncryption") in _KMS or "SSECustomerAlgorithm" in answer
    return not hidden and not bucket.name.endswith(_EXPRESS)


def _digests(answer: Mapping[str, Any], *, is_md5: bool) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """Yield the digests in an answer, each with the number of parts that it is made of, 0 for none."""
    for algorithm in _HASHES:
        if value := answer.get(f"Checksum{algorithm.upper()}"):
            digest, _, parts = value.partition("-")
            yield algorithm, (base64.b64decode(digest), int(parts or 0))
    digest = answer["ETag"].strip('"').partition("-")[0]
    if is_md5 and re.fullmatch("[0-9a-f]{32}", digest):
        yield "md5", (bytes.fromhex(digest), _parts_in(answer["ETag"]))


def _parts_in(etag: str) -> int:
    """Return of how many parts an ETag says that it is made; 0 for none."""
    return int(etag.strip('"').partition("-")[2] or 0)


def _even(size: int, part: int) -> list[int]:
    return [min(part, size - start) for start in range(0, size, part)]


def _of(algorithm: str, data: bytes) -> bytes:
    digest = _HASHES[algorithm]()
    digest.update(data)
    return digest.digest()


def _digest(path: Path, algorithm: str, sizes: Sequence[int]) -> list[bytes]:
    """Return the digest of each piece of a file, one after the other."""
    digests = []
    with path.open("rb") as file:
        for size in sizes:
            digest, left = _HASHES[algorithm](), size
            while left and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            digests.append(digest.digest())
    return digests
