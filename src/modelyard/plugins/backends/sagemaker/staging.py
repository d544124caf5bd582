"""What a plan needs on S3 and of IAM: the bucket, the archives, the data of channels, the role."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Bundle, Carrier
from modelyard.core.errors import InvalidPlanError, StorageError
from modelyard.core.log import get_logger
from modelyard.core.plans import TrainingPlan
from modelyard.plugins._aws import code_of, default_bucket
from modelyard.plugins.backends.sagemaker.clients import Clients, is_unknown, reporting
from modelyard.plugins.backends.sagemaker.service import PerhapsMadeError
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.wire import FILE_SYSTEMS

_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_ASSUMED = re.compile(r"arn:aws[a-z-]*:sts::\d{12}:assumed-role/([^/]+)/.+")
_FIRST_REGION = "us-east-1"
_FORBIDDEN = frozenset({"403", "AccessDenied"})
_log = get_logger(__name__)


class Staging:
    """Brings files to S3 below ``code_location``, or below the default bucket: for one job or endpoint.

    ``carrier``: moves them, with the backend's own account and the KMS key that they are encrypted with.
    """

    def __init__(self, clients: Clients, settings: Settings, carrier: Carrier, key: str | None) -> None:
        self.clients = clients
        self.settings = settings
        self.key = key
        said = {
            "region": settings.region,
            "profile": settings.profile,
            "endpoint_url": settings.endpoint_url,
            "kms_key": key,
        }
        self.carrier = carrier.using("s3", {name: value for name, value in said.items() if value})

    # -- where ---------------------------------------------------------------------------------

    @property
    def base(self) -> str:
        """The folder on S3 for everything that is uploaded, without a slash at its end.

        The default bucket is made where there is none. Raises `StorageError`.
        """
        return (self.settings.code_location or self.default_folder).rstrip("/")

    @cached_property
    def default_folder(self) -> str:
        """The default bucket, with the prefix in it that the settings say, made if it is not there."""
        prefix = (self.settings.default_bucket_prefix or "").strip("/")
        return f"s3://{self._default_bucket()}/{prefix}".rstrip("/")

    def _default_bucket(self) -> str:
        doing = "cannot use the default bucket"
        with reporting(doing, StorageError):
            given = self.settings.default_bucket
            name = given or default_bucket(self.clients.region, self.clients.account)
            # A stranger may have made a bucket of the name that everybody can guess.
            owner = {} if given else {"ExpectedBucketOwner": self.clients.account}
            try:
                self.clients.s3.head_bucket(Bucket=name, **owner)
            except self.clients.s3.exceptions.ClientError as error:
                if is_unknown(error):
                    self._make_bucket(name)
                elif code_of(error) in _FORBIDDEN:
                    raise StorageError(
                        f"{doing} {name!r}: it belongs to another account, or these credentials may not use "
                        "it; give another one as the backend's option default_bucket"
                    ) from error
                else:
                    raise
        return name

    def _make_bucket(self, name: str) -> None:
        region = self.clients.region
        where = {} if region == _FIRST_REGION else {"LocationConstraint": region}
        try:
            self.clients.s3.create_bucket(
                Bucket=name, **({"CreateBucketConfiguration": where} if where else {})
            )
        except self.clients.s3.exceptions.BucketAlreadyOwnedByYou:
            return  # Another process of this account has made it in the meantime.
        _log.info("made the default bucket", bucket=name, region=region)

    # -- archives ------------------------------------------------------------------------------

    def archive(self, bundle: Bundle, kind: str) -> str:
        """Upload an archive below a folder of its bytes' digest, unless it is there; return its URI.

        Not of the bundle's digest: of a model that was copied unread, that is what its archive has claimed.
        """
        uri = self.uri_of(_digest_of(bundle.path), kind, bundle.path.name)
        self.carrier.upload_once(bundle.path, uri)
        return uri

    def files(self, bundle: Bundle, scratch: Path) -> str:
        """Upload the files of a model's archive; return the URI of their folder, with a slash at its end."""
        folder = scratch / "files"
        self.carrier.unpack(bundle.path, folder)
        for below, _, _ in os.walk(folder, topdown=False):
            # SageMaker refuses a model with the mark of an empty folder in it.
            with suppress(OSError):
                Path(below).rmdir()
        uri = self.uri_of(bundle.digest, "model", "files")
        self.carrier.upload(folder, uri)
        return f"{uri}/"

    def uri_of(self, digest: str, kind: str, name: str) -> str:
        """Return where an archive of that content is, or is to be put."""
        return f"{self.base}/{kind}/{digest}/{name}"

    # -- channels ------------------------------------------------------------------------------

    @contextmanager
    def channels(self, plan: TrainingPlan) -> Iterator[Mapping[str, str]]:
        """Give where the data of each channel is on S3; files of this machine are brought there.

        What was brought is removed again if what is done meanwhile fails, unless there may be a job for it.
        Channels of one location are uploaded once. Raises `StorageError`, and `InvalidPlanError` for what
        SageMaker cannot read.
        """
        before: dict[str, frozenset[str]] = {}
        places: dict[str, str] = {}
        try:
            for channel in plan.channels:
                if channel.uri not in places:
                    below = f"{plan.job_name}/input/{channel.name}"
                    places[channel.uri] = self._place(channel.uri, below, before)
            yield {channel.name: places[channel.uri] for channel in plan.channels}
        except PerhapsMadeError:
            raise
        except BaseException:
            self._remove(before)
            raise

    def _place(self, uri: str, below: str, before: dict[str, frozenset[str]]) -> str:
        """Return where data is, brought there if need be. `before`: what there was, by folder on S3."""
        if uri.startswith("s3://"):
            self._check_data(uri)
            return uri
        if uri.startswith(tuple(f"{scheme}://" for scheme in FILE_SYSTEMS)):
            return uri
        path = local_path(uri)
        if path is None:
            raise InvalidPlanError(
                f"SageMaker reads s3:// and this machine's files, which are uploaded, not {uri!r}"
            )
        if path.is_dir() and not any(path.iterdir()):
            raise StorageError(
                f"there are no files at '{path}': give the folder or the file of the channel's data"
            )
        # With the slash: SageMaker takes what begins with these letters, and train is not training.
        folder = f"{self.base}/{below}/"
        target = folder if path.is_dir() else f"{folder}{path.name}"
        before[folder] = self._keys(folder)
        self.carrier.upload(path, target)
        return target

    def _check_data(self, uri: str) -> None:
        """Raise `StorageError` where there is nothing: SageMaker would say so after some minutes."""
        bucket, prefix = split(uri)
        with reporting(f"cannot look at the data of {uri}", StorageError):
            try:
                found = self.clients.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
            except self.clients.s3.exceptions.ClientError as error:
                if code_of(error) in _FORBIDDEN:
                    return  # The role of the job may see more than who starts it.
                raise
        if not found["KeyCount"]:
            raise StorageError(f"there are no objects at {uri}: `aws s3 ls {uri}` shows what there is")

    def _keys(self, folder: str) -> frozenset[str]:
        bucket, prefix = split(folder)
        with reporting(f"cannot list {folder}", StorageError):
            pages = self.clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return frozenset(item["Key"] for page in pages for item in page.get("Contents", ()))

    def _remove(self, before: Mapping[str, frozenset[str]]) -> None:
        """Remove what has come into folders. What cannot be removed is told, with the way to do it."""
        for folder, kept in before.items():
            try:
                for key in sorted(self._keys(folder) - kept):
                    self.clients.s3.delete_object(Bucket=split(folder)[0], Key=key)
            except Exception as error:  # noqa: BLE001 - the error that led here is the one to be raised
                way = f"aws s3 rm --recursive {folder}"
                _log.warning("uploaded in vain", remove=way, error=str(error))

    # -- roles ---------------------------------------------------------------------------------

    def role(self, role: str | None) -> str:
        """Return the ARN of a role by its name or ARN; without one that of the caller.

        Raises `InvalidPlanError` where there is none.
        """
        if role and _ARN.fullmatch(role):
            return role
        name = role.rpartition("/")[2] if role else self._own_role()
        with reporting(f"cannot look up the role {name!r}: give its ARN", InvalidPlanError):
            try:
                return str(self.clients.iam.get_role(RoleName=name)["Role"]["Arn"])
            except self.clients.iam.exceptions.ClientError as error:
                if not is_unknown(error):
                    raise
                raise InvalidPlanError(
                    f"there is no role {name!r} in the account {self.clients.account}: give the name or the "
                    "ARN of one that SageMaker may assume (`aws iam list-roles` lists them)"
                ) from error

    def _own_role(self) -> str:
        with reporting("cannot find out whose credentials these are", InvalidPlanError):
            arn = str(self.clients.identity["Arn"])
        if found := _ASSUMED.fullmatch(arn):
            return found[1]
        raise InvalidPlanError(
            f"SageMaker needs a role to work with, and {arn} is none: give role='...', the name or the ARN "
            "of one that SageMaker may assume"
        )


def check_on_s3(what: str, uri: str | None) -> None:
    """Raise `InvalidPlanError` for a URI that a job of SageMaker's cannot write to."""
    if uri is not None and not re.match(r"s3://[^/]", uri):
        raise InvalidPlanError(f"{what} of a job on SageMaker is on S3, 's3://bucket/prefix', not {uri!r}")


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an object's URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def in_older_layout(model: Path, into: Path) -> tuple[Bundle, Bundle]:
    """Return an unpacked model as two archives, as PyTorch 1.1 has them: its files, and its code."""
    files = sorted(path for path in model.iterdir() if path.name != "code")
    return (
        _archived(into / "older" / "model.tar.gz", {path.name: path for path in files}),
        _archived(into / "older" / "sourcedir.tar.gz", {".": model / "code"}),
    )


def _archived(archive: Path, items: Mapping[str, Path]) -> Bundle:
    """Write an archive whose bytes, and so its digest, are those of its content alone."""
    import gzip
    import tarfile

    archive.parent.mkdir(exist_ok=True)
    with (
        archive.open("wb") as plain,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=plain, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, path in items.items():
            tar.add(path, name, filter=_plain)
    count = sum(1 for path in items.values() for file in (path, *path.rglob("*")) if file.is_file())
    return Bundle(archive, _digest_of(archive), count, archive.stat().st_size)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(entry: Any) -> Any:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry
