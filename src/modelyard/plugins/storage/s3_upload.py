"""Files into a bucket: in parallel, never over other content, and leaving nothing half-made.

An upload in parts that another process has left unfinished is gone on with, if its parts are those of the
file. s3transfer does neither this nor writes on condition that nothing is there.
"""

import base64
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from modelyard.core.errors import StorageError
from modelyard.plugins._aws import code_of, explained, is_foreseen
from modelyard.plugins.storage.s3_content import Content
from modelyard.plugins.storage.s3_places import FORBIDDEN, Bucket, is_text
from modelyard.plugins.storage.s3_transfer import Means, Meter

_OVERTAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchUpload"})
"""Codes for: somebody else has written to the key, or ended the upload, meanwhile."""

_CHUNK = 1 << 20


@attrs.define
class Uploads:
    """Uploads of files to a bucket. ``encryption``: arguments of each call that makes an object."""

    means: Means
    meter: Meter
    encryption: Mapping[str, str]
    _conditional: bool = attrs.field(default=True, init=False)
    """Whether the service can be told to write only where there is nothing."""

    def run(self, files: Sequence[tuple[Path, str]], present: frozenset[str]) -> None:
        """Upload each file to its key. `present`: the keys that are taken, which are looked at first.

        Raises `StorageError`, and uploads nothing, where one of them has other content.
        """
        taken = [pair for pair in files if pair[1] in present]
        self.means.run(partial(self._check_same, *pair) for pair in taken)
        self.meter.add(sum(_size(path) for path, _ in taken))
        free = [pair for pair in files if pair[1] not in present]
        small = [pair for pair in free if _size(pair[0]) <= self.means.part_size]
        self.means.run(partial(self.one, *pair, is_free=True) for pair in small)
        for path, key in free:
            if _size(path) > self.means.part_size:
                self.one(path, key, is_free=True)

    def one(self, path: Path, key: str, *, is_free: bool = False, same: bool = True) -> bool:
        """Upload a file, and tell whether it was necessary.

        `is_free`: nothing was there a moment ago. `same`: other content under the key is an error.
        """
        for _ in range(self.means.attempts):
            self.means.go_on()
            if not is_free and self._is_taken(key):
                if same:
                    self._check_same(path, key)
                self.meter.add(_size(path))
                return False
            is_free = False
            try:
                self._send(path, key)
            except Exception as error:
                if code_of(error) not in _OVERTAKEN:
                    raise
            else:
                return True
        raise StorageError(
            f"{self._uri(key)!r} cannot be written: something is there that cannot be read, or others write "
            "there at this moment"
        )

    def mark(self, key: str) -> None:
        """Make the empty object that stands for an empty folder."""
        self.means.bucket.call("put_object", Key=key, Body=b"", **self.encryption)

    # -- what is there -------------------------------------------------------------------------

    def _is_taken(self, key: str) -> bool:
        try:
            return self.means.bucket.head(key) is not None
        except Exception as error:
            # Who may write and not list is not told what is missing: the condition must hold then.
            if code_of(error) in FORBIDDEN and self._conditional:
                return False
            raise

    def _check_same(self, path: Path, key: str) -> None:
        head = self.means.bucket.head(key)
        if head is None:
            return
        content = Content.of(self.means.bucket, key, head)
        same = content.is_in(path)
        if same is None:
            same = self._has_the_bytes_of(path, key, content.etag)
        if not same:
            raise StorageError(
                f"{self._uri(key)!r} is there already, with other content than '{path}': remove it, or write "
                "elsewhere"
            )

    def _has_the_bytes_of(self, path: Path, key: str, etag: str) -> bool:
        body = self.means.bucket.call("get_object", Key=key, IfMatch=etag)["Body"]
        with closing(body), path.open("rb") as file:
            while chunk := body.read(_CHUNK):
                self.means.go_on()
                if file.read(len(chunk)) != chunk:
                    return False
            return not file.read(1)

    # -- what is sent --------------------------------------------------------------------------

    def _send(self, path: Path, key: str) -> None:
        with path.open("rb") as file:
            before = _version(file.fileno())
            if before[0] > self.means.part_size:
                self._send_in_parts(Source(path, file.fileno(), key, before))
            else:
                body = file.read()
                self._make("put_object", Key=key, Body=body, **self._checksum(body), **self.encryption)
                self.meter.add(len(body))

    def _make(self, operation: str, **arguments: Any) -> None:
        """Call what makes an object, on condition that there is none, if the service knows conditions."""
        if self._conditional:
            try:
                self.means.bucket.call(operation, IfNoneMatch="*", **arguments)
            except Exception as error:
                if code_of(error) not in {"NotImplemented", "501"}:
                    raise
                self._conditional = False
                self._check_free(arguments["Key"])
            else:
                return
        self.means.bucket.call(operation, **arguments)

    def _check_free(self, key: str) -> None:
        """Make sure that nothing is there, where the service cannot."""
        if self._is_taken(key):
            raise StorageError(f"others write to {self._uri(key)!r} at this moment")

    def _send_in_parts(self, source: "Source") -> None:
        size = self.means.part_size_of(source.size)
        upload, there = self._unfinished(source, size) or (self._begun(source.key), {})
        parts: dict[int, dict[str, Any]] = {}
        try:
            self.means.run(
                (
                    partial(self._send_part, source, upload, number, size, there.get(number), parts)
                    for number in range(1, -(-source.size // size) + 1)
                ),
                part_size=size,
            )
            source.check_unchanged()
            self._make(
                "complete_multipart_upload",
                Key=source.key,
                UploadId=upload,
                MultipartUpload={"Parts": [parts[number] for number in sorted(parts)]},
            )
        except Exception as error:
            if not (left := self._dropped(source.key, upload)) or not is_foreseen(error):
                raise
            raise StorageError(
                f"cannot write {self._uri(source.key)!r}: {explained(error)}; {left}"
            ) from error
        except BaseException:
            self._dropped(source.key, upload)
            raise

    def _begun(self, key: str) -> str:
        algorithm = {"ChecksumAlgorithm": "SHA256"} if self._has_checksums else {}
        answer = self.means.bucket.call("create_multipart_upload", Key=key, **algorithm, **self.encryption)
        return str(answer["UploadId"])

    def _send_part(
        self,
        source: "Source",
        upload: str,
        number: int,
        size: int,
        there: Mapping[str, Any] | None,
        parts: dict[int, dict[str, Any]],
    ) -> None:
        self.means.go_on()
        body = source.part(number, size)
        said = there
        if said is None:
            said = self.means.bucket.call(
                "upload_part",
                Key=source.key,
                UploadId=upload,
                PartNumber=number,
                Body=body,
                **self._checksum(body),
            )
        checksum = self._checksum(body) if self._has_checksums else {}
        parts[number] = {"PartNumber": number, "ETag": said["ETag"], **checksum}
        self.meter.add(len(body))

    def _dropped(self, key: str, upload: str) -> str:
        """Give up an upload in parts; return what to tell where even that fails."""
        left = abandon(self.means.bucket, key, upload)
        return left and f"uploading the same file again goes on where it was, but {left}"

    # -- what another process has begun --------------------------------------------------------

    def _unfinished(self, source: "Source", size: int) -> tuple[str, dict[int, Any]] | None:
        """Return an upload to this key whose parts are all the file's own, with these parts.

        None where it has to be encrypted with a key: of an upload that is under way nobody says by which.
        """
        if self.encryption:
            return None
        for upload in self._uploads_to(source.key):
            parts = self._parts_of(source.key, upload)
            if parts and all(_is_part(part, source.part(part["PartNumber"], size)) for part in parts):
                return upload, {part["PartNumber"]: part for part in parts}
        return None

    def _uploads_to(self, key: str) -> list[str]:
        wanted = "SHA256" if self._has_checksums else None
        try:
            pages = list(self.means.bucket.pages("list_multipart_uploads", Prefix=key))
        except Exception as error:
            if code_of(error) in {*FORBIDDEN, "NotImplemented"}:
                return []
            raise
        found = [upload for page in pages for upload in page.get("Uploads", ())]
        return [
            upload["UploadId"]
            for upload in found
            if upload["Key"] == key and upload.get("ChecksumAlgorithm") == wanted
        ]

    def _parts_of(self, key: str, upload: str) -> list[Any]:
        try:
            pages = list(self.means.bucket.pages("list_parts", Key=key, UploadId=upload))
        except Exception as error:
            if code_of(error) in {*FORBIDDEN, "NoSuchUpload"}:
                return []
            raise
        return [part for page in pages for part in page.get("Parts", ())]

    # -- checksums -----------------------------------------------------------------------------

    @property
    def _has_checksums(self) -> bool:
        """Whether the service knows more than MD5: the setting AWS_REQUEST_CHECKSUM_CALCULATION."""
        config = self.means.bucket.client.meta.config
        return getattr(config, "request_checksum_calculation", None) != "when_required"

    def _checksum(self, body: bytes) -> dict[str, str]:
        """Return by what the service sees that a body came whole."""
        if self._has_checksums:
            return {"ChecksumSHA256": _base64(hashlib.sha256(body))}
        return {"ContentMD5": _base64(hashlib.md5(body, usedforsecurity=False))}

    def _uri(self, key: str) -> str:
        return f"s3://{self.means.bucket.name}/{key}"


@attrs.frozen
class Source:
    """An open file that is uploaded, as it was when it was opened."""

    path: Path
    file: int
    key: str
    version: tuple[int, int]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.version[0]

    def part(self, number: int, size: int) -> bytes:
        """Return its part of that number, counted from 1."""
        start, wanted = (number - 1) * size, min(size, self.size - (number - 1) * size)
        pieces = []
        while wanted > 0 and (piece := os.pread(self.file, wanted, start)):
            pieces.append(piece)
            start, wanted = start + len(piece), wanted - len(piece)
        return b"".join(pieces)

    def check_unchanged(self) -> None:
        """Refuse a file that has been written meanwhile."""
        if _version(self.file) != self.version:
            raise StorageError(f"'{self.path}' changed while it was uploaded; upload it again")


def _is_part(part: Mapping[str, Any], body: bytes) -> bool:
    if part["Size"] != len(body):
        return False
    if checksum := part.get("ChecksumSHA256"):
        return bool(checksum == _base64(hashlib.sha256(body)))
    return bool(part["ETag"].strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest())


def _base64(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode()


def _size(path: Path) -> int:
    return path.stat().st_size


def _version(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns


def abandon(bucket: Bucket, key: str, upload: str) -> str:
    """Give up an upload in parts; return how to do it by hand where it fails."""
    try:
        bucket.call("abort_multipart_upload", Key=key, UploadId=upload)
    except Exception as error:
        if code_of(error) == "NoSuchUpload":
            return ""
        if not is_foreseen(error):
            raise
        return (
            "an unfinished upload is left, which costs as if it were an object; to delete it: aws s3api "
            f"abort-multipart-upload --bucket {bucket.name} --key '{key}' --upload-id {upload}"
        )
    return ""


# -- files -------------------------------------------------------------------------------------


def files_in(folder: Path, trail: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Yield what is below a folder, with its path as keys have it: files, and empty folders with a slash.

    Links are followed. Raises `StorageError` for what is no file, for links in a circle, and for names that
    no key can have.
    """
    real = os.path.realpath(folder)
    if real in trail:
        raise StorageError(f"'{folder}' is a link that leads back to '{real}', above it")
    items = sorted(folder.iterdir())
    if not items:
        yield folder, ""
    for item in items:
        if not is_text(item.name):
            raise StorageError(f"{str(item)!r} cannot be uploaded: its name is no UTF-8; rename it")
        if item.is_dir():
            for path, name in files_in(item, (*trail, real)):
                yield path, f"{item.name}/{name}"
        else:
            check_is_file(item)
            yield item, item.name


def check_is_file(path: Path) -> None:
    """Refuse what cannot be read as a file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise StorageError(f"'{path}' is a socket, a pipe or a device, which cannot be copied")
