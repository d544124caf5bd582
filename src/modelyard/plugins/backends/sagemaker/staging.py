"""What a plan needs on S3 and of IAM: the bucket, the archives, the data of channels, the role."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from modelyard.core.carrier import local_path
from modelyard.core.contracts import Bundle
from modelyard.core.errors import InvalidPlanError, StorageError
from modelyard.core.log import get_logger
from modelyard.core.plans import TrainingPlan
from modelyard.plugins._aws import code_of, default_bucket
from modelyard.plugins.backends.sagemaker.clients import Clients, is_unknown, reporting
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.wire import FILE_SYSTEMS

_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_ASSUMED = re.compile(r"arn:aws[a-z-]*:sts::\d{12}:assumed-role/([^/]+)/.+")
_FIRST_REGION = "us-east-1"
_FORBIDDEN = frozenset({"403", "AccessDenied"})
_log = get_logger(__name__)


class Staging:
    """Brings files to S3 below ``code_location``, or below the default bucket: for one job or endpoint."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self.clients = clients
        self.settings = settings

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

    def archive(self, bundle: Bundle, kind: str, key: str | None) -> str:
        """Upload an archive below a folder of its digest, unless it is there; return its URI."""
        uri = self.uri_of(bundle.digest, kind, bundle.path.name)
        with reporting(f"cannot upload {bundle.path.name} to {uri}", StorageError):
            if not self.is_there(uri):
                self._upload(bundle.path, uri, key)
        return uri

    def uri_of(self, digest: str, kind: str, name: str) -> str:
        """Return where an archive of that content is, or is to be put."""
        return f"{self.base}/{kind}/{digest}/{name}"

    def is_there(self, uri: str) -> bool:
        """Tell whether there is an object that these credentials may see."""
        bucket, name = split(uri)
        try:
            self.clients.s3.head_object(Bucket=bucket, Key=name)
        except self.clients.s3.exceptions.ClientError as error:
            # Who may write and not read is told neither; the same content once more does no harm.
            if is_unknown(error) or code_of(error) in _FORBIDDEN:
                return False
            raise
        return True

    def _upload(self, path: Path, uri: str, key: str | None) -> None:
        with self._transfers() as send:
            send(path, uri, key)

    @contextmanager
    def _transfers(self) -> Iterator[Callable[[Path, str, str | None], None]]:
        """Give what sends files to S3, several at a time; all have arrived at the end of the block.

        What fails is raised there; what has not been sent by then is not.
        """
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        under_way: list[Any] = []

        def send(path: Path, uri: str, key: str | None) -> None:
            bucket, name = split(uri)
            under_way.append(manager.upload(str(path), bucket, name, extra_args=encryption(key)))

        config = TransferConfig(preferred_transfer_client="classic")
        with create_transfer_manager(self.clients.s3, config) as manager:
            yield send
            for upload in under_way:
                upload.result()

    # -- channels ------------------------------------------------------------------------------

    @contextmanager
    def channels(self, plan: TrainingPlan) -> Iterator[Mapping[str, str]]:
        """Give where the data of each channel is on S3; files of this machine are brought there.

        What was brought is removed again if what is done meanwhile fails. Channels of one location are
        uploaded once. Raises `StorageError`, and `InvalidPlanError` for what SageMaker cannot read.
        """
        brought: list[str] = []
        places: dict[str, str] = {}
        try:
            for channel in plan.channels:
                if channel.uri not in places:
                    below = f"{plan.job_name}/input/{channel.name}"
                    places[channel.uri] = self._place(channel.uri, below, brought)
            yield {channel.name: places[channel.uri] for channel in plan.channels}
        except BaseException:
            self._remove(brought)
            raise

    def _place(self, uri: str, below: str, brought: list[str]) -> str:
        if uri.startswith(("s3://", *(f"{scheme}://" for scheme in FILE_SYSTEMS))):
            return uri
        path = local_path(uri)
        if path is None:
            raise InvalidPlanError(
                f"SageMaker reads s3:// and this machine's files, which are uploaded, not {uri!r}"
            )
        target = f"{self.base}/{below}"
        doing = f"cannot upload '{path}' to {target}"
        with reporting(doing, StorageError), self._transfers() as send:
            for file in _files(path):
                name = file.name if file == path else file.relative_to(path).as_posix()
                brought.append(f"{target}/{name}")
                send(file, brought[-1], self.settings.output_kms_key)
        # With the slash: SageMaker takes what begins with these letters, and train is not training.
        return f"{target}/{path.name}" if path.is_file() else f"{target}/"

    def _remove(self, uris: list[str]) -> None:
        """Remove objects again. What cannot be removed is told, with the way to do it."""
        for uri in uris:
            bucket, name = split(uri)
            try:
                self.clients.s3.delete_object(Bucket=bucket, Key=name)
            except Exception as error:  # noqa: BLE001 - the error that led here is the one to be raised
                _log.warning("uploaded in vain", remove=f"aws s3 rm {uri}", error=str(error))

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


def encryption(key: str | None) -> dict[str, str]:
    """Return what a request that makes an object says of a key of KMS."""
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an object's URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _files(path: Path) -> list[Path]:
    """Return the files at `path`. Raises `StorageError` where there are none, and for what is no file."""
    found = list(_walk(path, ()))
    if not found:
        raise StorageError(
            f"there are no files at '{path}': give the folder or the file of the channel's data"
        )
    return found


def _walk(path: Path, trail: tuple[str, ...]) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        real = os.path.realpath(path)
        if real in trail:
            raise StorageError(f"'{path}' is a link that leads back to '{real}', above it")
        for item in sorted(path.iterdir()):
            yield from _walk(item, (*trail, real))
    elif path.exists() or path.is_symlink():
        raise StorageError(f"'{path}' is a socket, a pipe, a device or a link to nothing, and no file")


def in_older_layout(model: Path, into: Path) -> tuple[Bundle, Bundle]:
    """Return an unpacked model as two archives, as PyTorch 1.1 has them: its files, and its code."""
    files = sorted(path for path in model.iterdir() if path.name != "code")
    return (
        _archived(into / "older" / "model.tar.gz", {path.name: path for path in files}),
        _archived(into / "older" / "sourcedir.tar.gz", {".": model / "code"}),
    )


def _archived(archive: Path, items: Mapping[str, Path]) -> Bundle:
    import hashlib
    import tarfile

    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, path in items.items():
            tar.add(path, name, filter=_plain)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    count = sum(1 for path in items.values() for file in (path, *path.rglob("*")) if file.is_file())
    return Bundle(archive, digest, count, archive.stat().st_size)


def _plain(entry: Any) -> Any:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
