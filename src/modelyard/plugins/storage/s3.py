"""Amazon S3, and services that speak its protocol, by ``s3://`` URIs."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs

from modelyard.core.errors import InvalidPlanError, StorageError, did_you_mean
from modelyard.core.log import get_logger
from modelyard.plugins._aws import Aws, code_of, default_bucket, is_foreseen, reporting
from modelyard.plugins.storage.s3_places import (
    FORBIDDEN,
    MISSING,
    NO_BUCKET,
    Bucket,
    Place,
    S3Object,
    Tree,
    nothing_at,
)
from modelyard.plugins.storage.s3_transfer import Means, Meter, Progress

if TYPE_CHECKING:
    from modelyard.plugins.storage.s3_upload import Uploads

# What moves files is imported when they are moved: every program that asks what there is imports this.

KMS_KEY = "MODELYARD_S3_KMS_KEY"

_SMALLEST_PART = 5 << 20
_FIRST_REGION = "us-east-1"
"""The one that is asked for by naming none."""

_log = get_logger("modelyard.plugins.storage.s3")


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
    progress: Progress | None = None

    def __attrs_post_init__(self) -> None:
        faults = {
            f"part_size is {_SMALLEST_PART} bytes at least": self.part_size < _SMALLEST_PART,
            "concurrency is 1 at least": self.concurrency < 1,
            "attempts is 1 at least": self.attempts < 1,
            "timeout is more than 0": self.timeout <= 0,
        }
        if fault := next((fault for fault, present in faults.items() if present), ""):
            raise InvalidPlanError(f"storage 's3': {fault}")

    # -- down ----------------------------------------------------------------------------------

    def download(self, uri: str, into: Path) -> None:
        """Bring the object at `uri`, or those below it, into the folder `into`.

        Raises `StorageError`, with the nearest names where there is nothing. After an error the same
        call goes on where it was.
        """
        from modelyard.plugins.storage.s3_download import Downloads

        place = Place.of(uri)
        with self._reporting(f"cannot read {uri!r}"):
            bucket = self._bucket(place)
            tree = self._tree(bucket, place)
            into.mkdir(parents=True, exist_ok=True)
            for folder in tree.folders:
                (into / folder).mkdir(parents=True, exist_ok=True)
            meter = Meter(place.uri, sum(item.size for _, item in tree.files), self.progress)
            Downloads(self._means(bucket), into, meter).run(
                [(item, into / path) for path, item in tree.files]
            )

    def _tree(self, bucket: Bucket, place: Place) -> Tree:
        """Return what is at a place: the object of that key, if it is more than a mark for a folder."""
        alone = None
        if place.key and not place.key.endswith("/") and (head := bucket.head(place.key)):
            alone = S3Object(place.key, head["ContentLength"], head["ETag"])
        found = [] if alone and alone.size else self._objects(bucket, place)
        if alone and not found:
            return Tree.of_one(alone, place)
        if not found:
            raise nothing_at(bucket, place)
        return Tree.of(found, place)

    def _objects(self, bucket: Bucket, place: Place) -> list[S3Object]:
        try:
            return list(bucket.objects(place.folder))
        except Exception as error:
            if code_of(error) == NO_BUCKET:
                raise self._no_bucket(place) from error
            raise

    # -- up ------------------------------------------------------------------------------------

    def upload(self, path: Path, uri: str) -> str:
        """Write the file or folder `path` to `uri`, beside what is there already; return the URI.

        What is there with the same content is not sent again. Raises `StorageError`, and writes
        nothing, where other content is there under the same name.
        """
        place = Place.of(uri)
        with self._reporting(f"cannot write {uri!r}"):
            self._run_upload(path, place)
        return place.uri

    def _run_upload(self, path: Path, place: Place) -> None:
        from modelyard.plugins.storage.s3_upload import files_in

        bucket = self._bucket(place)
        if path.is_dir():
            found = [(file, f"{place.folder}{name}") for file, name in files_in(path)]
            present = frozenset(item.key for item in self._objects(bucket, place))
            _check_no_file(bucket, place)
        else:
            found, present = [(_file(path, place), place.key)], frozenset[str]()
        files = [(file, key) for file, key in found if not file.is_dir()]
        uploads = self._uploads(bucket, place, files)
        if path.is_dir():
            uploads.run(files, present)
        else:
            uploads.one(path, place.key)
        for key in {key for file, key in found if file.is_dir() and key} - present:
            uploads.mark(key)

    def upload_if_absent(self, path: Path, uri: str) -> bool:
        """Write the file `path` to `uri` unless something is there; tell whether it was written.

        For URIs that name the content (by its digest, say): what is there is not compared.
        """
        place = Place.of(uri)
        with self._reporting(f"cannot write {uri!r}"):
            file = _file(path, place)
            return self._uploads(self._bucket(place), place, [(file, place.key)]).one(
                file, place.key, same=False
            )

    # -- buckets -------------------------------------------------------------------------------

    def prepare(self, uri: str) -> None:
        """Make sure that the bucket is there and can be written below `uri`, by an upload that is given up.

        The account's default bucket of the region is made if it is not there. Raises `StorageError`.
        """
        from modelyard.plugins.storage.s3_upload import abandon

        place = Place.of(uri)
        with self._reporting(f"cannot write into {uri!r}"):
            bucket = self._bucket(place)
            try:
                bucket.call("head_bucket")
            except Exception as error:
                if code_of(error) in FORBIDDEN and bucket.owner:
                    raise StorageError(_not_ours(place, bucket.owner)) from error
                if code_of(error) not in {NO_BUCKET, *MISSING}:
                    raise
                if place.bucket != self._default_name():
                    raise self._no_bucket(place) from error
                self._make_bucket(place)
            key = f"{place.folder}.modelyard-{os.urandom(8).hex()}"
            begun = bucket.call("create_multipart_upload", Key=key, **self._encryption)
            if left := abandon(bucket, key, begun["UploadId"]):
                _log.warning(left)

    def default_bucket(self) -> str:
        """Return the name of the account's default bucket in the region, which is made if it is not there.

        That is ``sagemaker-<region>-<account>``. Raises `StorageError`, also where the name is taken by
        another account.
        """
        with self._reporting("cannot find the default bucket"):
            if not (name := self._default_name()):
                raise StorageError("no region is set: set AWS_DEFAULT_REGION, or the region of the profile")
        self.prepare(f"s3://{name}")
        return name

    def _default_name(self) -> str:
        aws = attrs.evolve(self._aws, endpoint_url="")
        return default_bucket(region, aws.account()) if (region := aws.region_name) else ""

    def _make_bucket(self, place: Place) -> None:
        region = self._aws.region_name
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client = self._aws.client("s3")
        try:
            client.create_bucket(Bucket=place.bucket, **({} if region == _FIRST_REGION else where))
        except Exception as error:
            if code_of(error) == "BucketAlreadyOwnedByYou":
                return
            if code_of(error) == "BucketAlreadyExists":
                raise StorageError(_not_ours(place, place.default_owner)) from error
            raise

    def _no_bucket(self, place: Place) -> StorageError:
        known: list[str] = []
        try:
            known = [item["Name"] for item in self._aws.client("s3").list_buckets()["Buckets"]]
        except Exception as error:
            if not is_foreseen(error):
                raise
        hint = did_you_mean(place.bucket, known) if known else ""
        return StorageError(f"there is no bucket {place.bucket!r}{hint}")

    # -- parts ---------------------------------------------------------------------------------

    @property
    def _aws(self) -> Aws:
        return Aws(
            region=self.region,
            profile=self.profile,
            endpoint_url=self.endpoint_url,
            attempts=self.attempts,
            timeout=self.timeout,
            connections=self.concurrency,
        )

    @property
    def _encryption(self) -> dict[str, str]:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key} if self.kms_key else {}

    def _bucket(self, place: Place) -> Bucket:
        owner = self.bucket_owner or place.default_owner
        return Bucket(self._aws.client("s3"), place.bucket, owner)

    def _means(self, bucket: Bucket) -> Means:
        return Means(bucket, self.part_size, self.concurrency, self.attempts)

    def _uploads(self, bucket: Bucket, place: Place, files: list[tuple[Path, str]]) -> "Uploads":
        from modelyard.plugins.storage.s3_upload import Uploads

        total = sum(file.stat().st_size for file, _ in files)
        return Uploads(self._means(bucket), Meter(place.uri, total, self.progress), self._encryption)

    def _reporting(self, doing: str) -> AbstractContextManager[None]:
        return reporting(StorageError, doing)


def _not_ours(place: Place, owner: str) -> str:
    return (
        f"the bucket {place.bucket!r} does not belong to the account {owner}, or these credentials may not "
        "use it: name a bucket of your own, and see who you are with `aws sts get-caller-identity`"
    )


def _check_no_file(bucket: Bucket, place: Place) -> None:
    """Refuse a place where an object is, instead of which nobody would see the folder."""
    name = place.folder.removesuffix("/")
    first = bucket.call("list_objects_v2", Prefix=name, MaxKeys=1).get("Contents", ()) if name else ()
    if any(item["Key"] == name and item["Size"] for item in first):
        raise StorageError(
            f"{place.uri!r} is there already, and is a file: remove it, or write the folder elsewhere"
        )


def _file(path: Path, place: Place) -> Path:
    """Return `path` if it is a file that can be at `place`. Raises `StorageError`."""
    from modelyard.plugins.storage.s3_upload import check_is_file

    if not path.exists():
        raise StorageError(f"there is nothing at '{path}' that could be uploaded")
    check_is_file(path)
    if not place.key or place.key.endswith("/"):
        raise StorageError(f"'{path}' is a file: the URI needs its name, as in '{place.uri}/{path.name}'")
    return path
