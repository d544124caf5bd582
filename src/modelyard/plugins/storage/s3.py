"""Amazon S3, and services that speak its protocol, by ``s3://`` URIs: the options, and who does the work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs

from modelyard.core.errors import InvalidPlanError

if TYPE_CHECKING:
    from modelyard.plugins.storage.s3_work import Work

# Who does the work is imported with the first of it: every program that asks what there is imports this.

KMS_KEY = "MODELYARD_S3_KMS_KEY"

_SMALLEST_PART = 5 << 20


@attrs.frozen
class S3Storage:
    """Objects as files, and prefixes as folders.

    ``region``, ``profile`` and ``endpoint_url``: what boto3's own chain finds, if empty; ``kms_key``: the
    key by which S3 encrypts what is uploaded (``MODELYARD_S3_KMS_KEY``), the bucket's own setting if
    empty; ``bucket_owner``: the account whose all buckets must be; ``concurrency``: how many requests at
    once; ``part_size``: bytes of the parts of large objects; ``attempts``: for each request;
    ``timeout``: seconds that an answer may stand still; ``progress``: called with the URI, the bytes
    transferred and all bytes, at each tenth, instead of a line in the log for large transfers.
    """

    name: ClassVar[str] = "s3"
    schemes: ClassVar[tuple[str, ...]] = ("s3",)

    region: str = ""
    profile: str = ""
    endpoint_url: str = ""
    kms_key: str = attrs.field(factory=lambda: os.environ.get(KMS_KEY, ""))
    bucket_owner: str = ""
    concurrency: int = 10
    part_size: int = 8 << 20
    attempts: int = 5
    timeout: float = 60.0
    progress: Callable[[str, int, int], None] | None = None

    def __attrs_post_init__(self) -> None:
        faults = {
            f"part_size is {_SMALLEST_PART} bytes at least": self.part_size < _SMALLEST_PART,
            "concurrency is 1 at least": self.concurrency < 1,
            "attempts is 1 at least": self.attempts < 1,
            "timeout is more than 0": self.timeout <= 0,
        }
        if fault := next((fault for fault, present in faults.items() if present), ""):
            raise InvalidPlanError(f"storage 's3': {fault}")

    @property
    def _work(self) -> "Work":
        from modelyard.plugins.storage.s3_work import Work

        return Work(self)

    def download(self, uri: str, into: Path) -> None:
        """Bring the object at `uri`, or those below it, into the folder `into`.

        Raises `StorageError`, with the nearest names where there is nothing. After an error the same
        call goes on where it was.
        """
        self._work.download(uri, into)

    def upload(self, path: Path, uri: str) -> str:
        """Write the file or folder `path` to `uri`, beside what is there already; return the URI.

        What is there with the same content is not sent again. Raises `StorageError`, and writes
        nothing, where other content is there under the same name.
        """
        return self._work.upload(path, uri)

    def upload_if_absent(self, path: Path, uri: str) -> bool:
        """Write the file `path` to `uri` unless something is there; tell whether it was written.

        For URIs that name the content (by its digest, say): what is there is not compared.
        """
        return self._work.upload_if_absent(path, uri)

    def prepare(self, uri: str) -> None:
        """Make sure that the bucket is there and can be written below `uri`, by an upload that is given up.

        The account's default bucket of the region is made if it is not there. Raises `StorageError`.
        """
        self._work.prepare(uri)

    def default_bucket(self) -> str:
        """Return the name of the account's default bucket in the region, which is made if it is not there.

        That is ``sagemaker-<region>-<account>``. Raises `StorageError`, also where the name is taken by
        another account.
        """
        return self._work.default_bucket()
