"""A model archive on S3 gets other code where it is: S3 copies the model, and only the code is sent.

That is for archives that say where their code ends. Any other has to be read, and so downloaded.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import Any

import attrs

from modelyard.core.carrier import ARCHIVE
from modelyard.core.contracts import Splice, SplicingCarrier
from modelyard.core.errors import ModelyardError, StorageError
from modelyard.core.log import get_logger
from modelyard.plugins._aws import code_of, default_owner, is_foreseen
from modelyard.plugins.backends.sagemaker.clients import is_unknown, reporting
from modelyard.plugins.backends.sagemaker.staging import Staging, split

_HEAD, _TRAILER = 4096, 8
_LEAST = 5 << 20
"""Bytes of a part of an object that is not the last one: S3's rule."""
_COPIED = 256 << 20
"""Bytes that are copied in one request; several are under way. S3 takes up to 5 GiB."""
_MOST_COPIES = 9_998
"""S3's limit, less the parts before and after the model."""
_PARALLEL = 8

_NOT_COPIED = frozenset(
    {"PreconditionFailed", "412", "AccessDenied", "403", "InvalidRequest", "NotImplemented", "501"}
)
"""The archive has changed meanwhile, or this service, or this object's encryption, allows no copy."""
_FORBIDDEN = frozenset({"403", "AccessDenied"})
_log = get_logger(__name__)

Sending = Callable[[int], Any]
"""Sends, or has copied, the part of a number."""


def repacked(staging: Staging, uri: str) -> str | None:
    """Make on S3, of the archive at `uri`, one with the carrier's code, unless it is there; return its URI.

    None where the archive is to be packed on this machine. Raises what packing raises, and
    `StorageError`; nothing half-made is left then.
    """
    carrier = staging.carrier
    if not (isinstance(carrier, SplicingCarrier) and uri.startswith("s3://") and uri.endswith(ARCHIVE)):
        return None
    s3 = staging.clients.s3
    found = _looked_into(s3, carrier, uri)
    if found is None:
        return None
    archive, splice = found
    target = staging.uri_of(_address(archive, splice), "model", f"model{ARCHIVE}")
    with reporting(f"cannot make {target} of {uri}", StorageError):
        if _is_there(s3, target):
            return target
        try:
            _make(s3, target, archive, splice, staging.key)
        except Exception as error:
            if code_of(error) == "NoSuchUpload" and _is_there(s3, target):
                return target  # The request was sent again, and the first one had arrived.
            if code_of(error) in _NOT_COPIED and getattr(error, "operation_name", "") == "UploadPartCopy":
                _log.info("the model is packed on this machine: S3 does not copy it", reason=str(error))
                return None
            raise
    _log.info("packed on S3", model=target, sent_bytes=len(splice.before) + len(splice.after))
    return target


@attrs.frozen
class _Archive:
    """An object, as it was when its first bytes were read."""

    s3: Any
    place: dict[str, str]
    etag: str
    size: int
    head: bytes

    @classmethod
    def at(cls, s3: Any, uri: str) -> "_Archive | None":
        """Return the object at a URI, None where the service does not give ranges."""
        place = _place(uri)
        answer = s3.get_object(**place, Range=f"bytes=0-{_HEAD - 1}")
        size = answer.get("ContentRange", "").rpartition("/")[2]
        with closing(answer["Body"]) as body:
            return cls(s3, place, answer["ETag"], int(size), body.read()) if size.isdecimal() else None

    def read(self, start: int, stop: int) -> bytes:
        """Return a range of its bytes, if it has not changed."""
        if start >= stop:
            return b""
        asked = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": self.etag}
        with closing(self.s3.get_object(**self.place, **asked)["Body"]) as body:
            return bytes(body.read())

    @property
    def copied(self) -> dict[str, Any]:
        """How a request says that it is to be copied, if it has not changed."""
        owner = self.place.get("ExpectedBucketOwner")
        return {
            "CopySource": {"Bucket": self.place["Bucket"], "Key": self.place["Key"]},
            "CopySourceIfMatch": self.etag,
            **({"ExpectedSourceBucketOwner": owner} if owner else {}),
        }


def _looked_into(s3: Any, carrier: SplicingCarrier, uri: str) -> tuple[_Archive, Splice] | None:
    """Return the archive and what to put around its model; None where that cannot be told."""
    try:
        archive = _Archive.at(s3, uri)
        ends = carrier.code_ends(archive.head) if archive else None
        if archive is None or ends is None:
            return None
        head = archive.head[:ends] + archive.read(len(archive.head), min(ends, archive.size))
        trailer = archive.read(max(0, archive.size - _TRAILER), archive.size)
    except Exception as error:
        if isinstance(error, ModelyardError) or not is_foreseen(error):
            raise
        # Whoever downloads it tries again, and says what is wrong.
        _log.info("the model is packed on this machine: S3 does not give ranges of it", reason=str(error))
        return None
    splice = carrier.splice(head, archive.size, trailer, at_least=_LEAST)
    return (archive, splice) if splice and splice.stop - splice.start >= _LEAST else None


def _address(archive: _Archive, splice: Splice) -> str:
    """Return what names the result: its code, and the model by what S3 says of the bytes it copies.

    What is in the splice's digest of the model, the archive itself has claimed.
    """
    said = f"{splice.digest} {archive.etag} {archive.size}"
    return hashlib.sha256(said.encode()).hexdigest()


def _make(s3: Any, uri: str, archive: _Archive, splice: Splice, key: str | None) -> None:
    place = _place(uri)
    encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
    upload = place | {"UploadId": s3.create_multipart_upload(**place, **encrypted)["UploadId"]}
    try:
        copy = partial(_copy, s3, upload, archive)
        parts = _sent(
            [
                partial(_send, s3, upload, splice.before),
                *(partial(copy, start, stop) for start, stop in _ranges(splice.start, splice.stop)),
                partial(_send, s3, upload, splice.after),
            ]
        )
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    except BaseException:
        _abort(s3, upload)
        raise


def _sent(parts: list[Sending]) -> list[dict[str, Any]]:
    """Have all parts sent, and return what ends the upload; nothing is under way any more if one fails."""
    with ThreadPoolExecutor(_PARALLEL) as pool:
        sent = [pool.submit(part, number) for number, part in enumerate(parts, 1)]
        try:
            wait(sent, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    return [{"PartNumber": number, **part.result()} for number, part in enumerate(sent, 1)]


def _send(s3: Any, upload: dict[str, str], body: bytes, number: int) -> dict[str, str]:
    return _proof(s3.upload_part(**upload, PartNumber=number, Body=body))


def _copy(
    s3: Any, upload: dict[str, str], archive: _Archive, start: int, stop: int, number: int
) -> dict[str, str]:
    copied = {**archive.copied, "CopySourceRange": f"bytes={start}-{stop - 1}"}
    return _proof(s3.upload_part_copy(**upload, **copied, PartNumber=number)["CopyPartResult"])


def _proof(said: dict[str, Any]) -> dict[str, str]:
    """Return what S3 has to be told again of a part."""
    return {name: said[name] for name in said if name == "ETag" or re.match("Checksum(?!Type)", name)}


def _ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield where to cut what is copied: into equal parts, none of which is too small or too large."""
    size = stop - start
    count = min(-(-size // _COPIED), _MOST_COPIES)
    cuts = [start + size * number // count for number in range(count + 1)]
    yield from pairwise(cuts)


def _abort(s3: Any, upload: dict[str, str]) -> None:
    """Give an upload up. Where that fails it is told, with the way to do it."""
    try:
        s3.abort_multipart_upload(**upload)
    except Exception as error:  # noqa: BLE001 - the error that led here is the one to be raised
        if code_of(error) != "NoSuchUpload":
            way = (
                f"aws s3api abort-multipart-upload --bucket {upload['Bucket']} --key '{upload['Key']}' "
                f"--upload-id {upload['UploadId']}"
            )
            _log.warning("begun in vain, and costs as if it were an object", delete=way, error=str(error))


def _is_there(s3: Any, uri: str) -> bool:
    """Tell whether there is an object that these credentials may see."""
    try:
        s3.head_object(**_place(uri))
    except s3.exceptions.ClientError as error:
        # Who may write and not read is told neither; the same content once more does no harm.
        if is_unknown(error) or code_of(error) in _FORBIDDEN:
            return False
        raise
    return True


def _place(uri: str) -> dict[str, str]:
    """Return how requests name an object. Anybody may have made a bucket of a name that can be guessed."""
    bucket, key = split(uri)
    owner = default_owner(bucket)
    return {"Bucket": bucket, "Key": key, **({"ExpectedBucketOwner": owner} if owner else {})}
