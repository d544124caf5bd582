"""How `S3Storage` does what it says: buckets made and checked, what is at a place found, transfers begun."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from modelyard.core.errors import StorageError, did_you_mean
from modelyard.core.log import get_logger
from modelyard.plugins._aws import Aws, code_of, default_bucket, is_foreseen, reporting
from modelyard.plugins.storage.s3_download import Downloads
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
from modelyard.plugins.storage.s3_transfer import Means, Meter
from modelyard.plugins.storage.s3_upload import Uploads, abandon, check_is_file, files_in

if TYPE_CHECKING:
    from modelyard.plugins.storage.s3 import S3Storage

_FIRST_REGION = "us-east-1"
"""The one that is asked for by naming none."""

_log = get_logger("modelyard.plugins.storage.s3")


@attrs.frozen
class Work:
    """The work of a storage, by its options."""

    options: "S3Storage"

    # -- down ----------------------------------------------------------------------------------

    def download(self, uri: str, into: Path) -> None:
        """Bring the object at `uri`, or those below it, into the folder `into`."""
        place = Place.of(uri)
        with self._reporting(f"cannot read {uri!r}"):
            bucket = self._bucket(place)
            tree = self._tree(bucket, place)
            into.mkdir(parents=True, exist_ok=True)
            for folder in tree.folders:
                (into / folder).mkdir(parents=True, exist_ok=True)
            meter = Meter(place.uri, sum(item.size for _, item in tree.files), self.options.progress)
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
        """Write the file or folder `path` to `uri`, beside what is there already; return the URI."""
        place = Place.of(uri)
        with self._reporting(f"cannot write {uri!r}"):
            self._run_upload(path, place)
        return place.uri

    def _run_upload(self, path: Path, place: Place) -> None:
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
        """Write the file `path` to `uri` unless something is there; tell whether it was written."""
        place = Place.of(uri)
        with self._reporting(f"cannot write {uri!r}"):
            file = _file(path, place)
            return self._uploads(self._bucket(place), place, [(file, place.key)]).one(
                file, place.key, same=False
            )

    # -- buckets -------------------------------------------------------------------------------

    def prepare(self, uri: str) -> None:
        """Make sure that the bucket is there and can be written below `uri`."""
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
        """Return the name of the account's default bucket in the region, which is made if it is not there."""
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
            region=self.options.region,
            profile=self.options.profile,
            endpoint_url=self.options.endpoint_url,
            attempts=self.options.attempts,
            timeout=self.options.timeout,
            connections=self.options.concurrency,
        )

    @property
    def _encryption(self) -> dict[str, str]:
        return (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.options.kms_key}
            if self.options.kms_key
            else {}
        )

    def _bucket(self, place: Place) -> Bucket:
        owner = self.options.bucket_owner or place.default_owner
        return Bucket(self._aws.client("s3"), place.bucket, owner)

    def _means(self, bucket: Bucket) -> Means:
        return Means(bucket, self.options.part_size, self.options.concurrency, self.options.attempts)

    def _uploads(self, bucket: Bucket, place: Place, files: list[tuple[Path, str]]) -> Uploads:
        total = sum(file.stat().st_size for file, _ in files)
        return Uploads(self._means(bucket), Meter(place.uri, total, self.options.progress), self._encryption)

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
    if not path.exists():
        raise StorageError(f"there is nothing at '{path}' that could be uploaded")
    check_is_file(path)
    if not place.key or place.key.endswith("/"):
        raise StorageError(f"'{path}' is a file: the URI needs its name, as in '{place.uri}/{path.name}'")
    return path
