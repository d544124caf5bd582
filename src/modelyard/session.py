"""Sessions of SDK v2: a bucket, transfers, a role, and which backend an estimator or a predictor uses.

boto3 is imported when a method needs it: a session as such asks nobody for anything.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.compat.names import old_keywords, old_name
from modelyard.core.carrier import as_uri
from modelyard.core.errors import InvalidPlanError, ModelyardError, StorageError
from modelyard.core.keywords import checked_keywords
from modelyard.core.manager import PluginManager
from modelyard.core.places import LOCAL, Place
from modelyard.core.plans import ProviderRef

PathLike = str | os.PathLike[str]

_SAGEMAKER = "sagemaker"
_NOTEBOOK = Path("/opt/ml/metadata/resource-metadata.json")
_PARALLEL = 8
_NO_ROLE = (
    "a job of this machine (instance_type='local') needs no role; for SageMaker give a role's name or ARN"
)


class Session:
    """An account and a region of AWS, for estimators, models and predictors.

    ``boto_session``: whose region and profile are used; ``default_bucket`` and
    ``default_bucket_prefix``: where archives and uploads go, else ``sagemaker-<region>-<account>``;
    ``sagemaker_client`` and ``sagemaker_runtime_client``: those that its own methods call. The
    instance type decides where a job runs, as without a session: ``"local"`` is this machine.

    Raises `InvalidPlanError` for a boto_session with credentials of its own: a plan is saved, and they
    must not be. Give a profile, or set the variables that boto3 reads.
    """

    @old_keywords
    @checked_keywords
    def __init__(
        self,
        boto_session: Any = None,
        sagemaker_client: Any = None,
        sagemaker_runtime_client: Any = None,
        default_bucket: str | None = None,
        default_bucket_prefix: str | None = None,
        *,
        plugins: PluginManager | None = None,
    ) -> None:
        _check_credentials(boto_session)
        self.config: Mapping[str, Any] | None = None
        self.default_bucket_prefix = default_bucket_prefix
        self.plugins = plugins
        self._boto_session = boto_session
        self._sagemaker_client = sagemaker_client
        self._sagemaker_runtime_client = sagemaker_runtime_client
        self._bucket = default_bucket

    @property
    def place(self) -> Place:
        """The backend that the session stands for."""
        said = {
            **_of_boto(self._boto_session),
            "default_bucket": self._bucket,
            "default_bucket_prefix": self.default_bucket_prefix,
        }
        options = {name: value for name, value in said.items() if value}
        return Place(ProviderRef(_SAGEMAKER, options), self.plugins)

    # -- the account ---------------------------------------------------------------------------

    @property
    def boto_session(self) -> Any:
        """The session of boto3."""
        if self._boto_session is None:
            self._boto_session = _boto3().Session()
        return self._boto_session

    @property
    def boto_region_name(self) -> str | None:
        """The region."""
        region: str | None = self.boto_session.region_name
        return region

    @property
    def sagemaker_client(self) -> Any:
        """The client of SageMaker."""
        if self._sagemaker_client is None:
            self._sagemaker_client = self._client("sagemaker")
        return self._sagemaker_client

    @property
    def sagemaker_runtime_client(self) -> Any:
        """The client of SageMaker's endpoints."""
        if self._sagemaker_runtime_client is None:
            self._sagemaker_runtime_client = self._client("sagemaker-runtime")
        return self._sagemaker_runtime_client

    def account_id(self) -> str:
        """Return the number of the account."""
        with _reporting("cannot ask for the account"):
            account: str = self._client("sts").get_caller_identity()["Account"]
            return account

    def get_caller_identity_arn(self) -> str:
        """Return the ARN of the role that this code runs with, or of its user."""
        with _reporting("cannot ask who this is"):
            if role := self._role_of_notebook():
                return role
            arn: str = self._client("sts").get_caller_identity()["Arn"]
            if ":assumed-role/" not in arn:
                return arn
            name = arn.split("/")[1]
            try:
                role_arn: str = self._client("iam").get_role(RoleName=name)["Role"]["Arn"]
            except _errors() as error:
                if _code(error) not in ("AccessDenied", "NoSuchEntity"):
                    raise
                # The path of a role is not in the ARN of its session; most roles have none.
                return arn.replace(":sts:", ":iam:").replace(":assumed-role/", ":role/").rsplit("/", 1)[0]
            return role_arn

    def _role_of_notebook(self) -> str:
        """Return the role of the notebook instance that this code runs on; empty elsewhere."""
        try:
            instance = json.loads(_NOTEBOOK.read_bytes()).get("ResourceName", "")
        except (OSError, ValueError):
            return ""
        if not instance:
            return ""
        try:
            found = self.sagemaker_client.describe_notebook_instance(NotebookInstanceName=instance)
        except _errors():
            return ""
        return str(found.get("RoleArn", ""))

    def expand_role(self, role: str) -> str:
        """Return the ARN of a role that may be given by its name."""
        if "/" in role:
            return role
        with _reporting(f"cannot find the role {role!r}"):
            arn: str = self._client("iam").get_role(RoleName=role)["Role"]["Arn"]
            return arn

    # -- S3 ------------------------------------------------------------------------------------

    def default_bucket(self) -> str:
        """Return the default bucket, which is made if it is not there. Raises `StorageError`."""
        if self._bucket is None:
            storage: Any = self._storage()
            self._bucket = str(storage.default_bucket())
        return self._bucket

    def upload_data(
        self,
        path: PathLike,
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Any = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> str:
        """Upload a file or a folder's content; return its URI. What is there under its names is replaced.

        `extra_args`: boto3's, such as ``{"ServerSideEncryption": "aws:kms"}``. Raises `StorageError`.
        """
        source = Path(path).expanduser()
        bucket, prefix = self._where(bucket, key_prefix)
        files = _files(source)
        if not files:
            raise StorageError(f"there is nothing to upload at '{source}'")
        keys = [(file, "/".join(filter(None, (prefix, name)))) for file, name in files]
        with _reporting(f"cannot upload '{source}'"):
            self._upload(keys, bucket, dict(extra_args or {}), callback)
        last = "" if source.is_dir() else f"/{source.name}"
        return f"s3://{bucket}/{prefix}{last}" if prefix else f"s3://{bucket}{last}"

    def _upload(
        self, keys: list[tuple[Path, str]], bucket: str, extra_args: dict[str, Any], callback: Any
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        client = self._client("s3")
        with ThreadPoolExecutor(_PARALLEL) as pool:
            sent = [
                pool.submit(client.upload_file, str(file), bucket, key, extra_args, callback)
                for file, key in keys
            ]
            for one in sent:
                one.result()

    def upload_string_as_file_body(self, body: str, bucket: str, key: str, kms_key: str | None = None) -> str:
        """Write a text to an object; return its URI."""
        encryption = {"ServerSideEncryption": "aws:kms"} if kms_key else {}
        if kms_key:
            encryption["SSEKMSKeyId"] = kms_key
        with _reporting(f"cannot write 's3://{bucket}/{key}'"):
            self._client("s3").put_object(Bucket=bucket, Key=key, Body=body.encode("utf-8"), **encryption)
        return f"s3://{bucket}/{key}"

    def download_data(
        self,
        path: PathLike,
        bucket: str,
        key_prefix: str = "",
        extra_args: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Bring an object, or what is below a prefix, into the folder `path`; return the files' paths.

        Raises `StorageError`, also for keys that would climb out of the folder.
        """
        if extra_args:
            raise InvalidPlanError("extra_args: a download takes none; use boto3's client for such objects")
        into, below = Path(path).expanduser(), key_prefix.rstrip("/")
        self._storage().download(f"s3://{bucket}/{key_prefix}", into)
        found = [key for key in self.list_s3_files(bucket, key_prefix) if not key.endswith("/")]
        names = [key.removeprefix(below).lstrip("/") or Path(key).name for key in found]
        return [str(into / name) for name in names if (into / name).is_file()]

    def read_s3_file(self, bucket: str, key_prefix: str) -> str:
        """Return the text of an object. Raises `StorageError`."""
        with _reporting(f"cannot read 's3://{bucket}/{key_prefix}'"):
            body: bytes = self._client("s3").get_object(Bucket=bucket, Key=key_prefix)["Body"].read()
        return body.decode("utf-8")

    def list_s3_files(self, bucket: str, key_prefix: str) -> list[str]:
        """Return the keys that begin with `key_prefix`. Raises `StorageError`."""
        with _reporting(f"cannot list 's3://{bucket}/{key_prefix}'"):
            pages = (
                self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key_prefix)
            )
            return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def _where(self, bucket: str | None, prefix: str) -> tuple[str, str]:
        """Return the bucket and the prefix of an upload: the default prefix is for the default bucket."""
        if bucket is not None:
            return bucket, prefix.strip("/")
        parts = (self.default_bucket_prefix or "", prefix)
        return self.default_bucket(), "/".join(part.strip("/") for part in parts if part.strip("/"))

    # -- jobs and endpoints --------------------------------------------------------------------

    def describe_training_job(self, job_name: str) -> dict[str, Any]:
        """Return what SageMaker says of a job, as its API says it."""
        with _reporting(f"cannot describe the training job {job_name!r}"):
            found: dict[str, Any] = self.sagemaker_client.describe_training_job(TrainingJobName=job_name)
            return found

    def stop_training_job(self, job_name: str) -> None:
        """Stop a job and wait for its end."""
        self._backend().job(job_name).stop()

    def logs_for_job(self, job_name: str, wait: bool = False) -> None:
        """Print a job's log; with `wait`, until it has ended."""
        for line in self._backend().job(job_name).logs(follow=wait):
            print(line)  # noqa: T201 - it is what was asked for

    def delete_endpoint(self, endpoint_name: str) -> None:
        """End an endpoint and free its name."""
        self._backend().endpoint(endpoint_name).delete()

    def delete_endpoint_config(self, endpoint_config_name: str) -> None:
        """Delete the configuration of an endpoint on SageMaker."""
        with _reporting(f"cannot delete the endpoint configuration {endpoint_config_name!r}"):
            self.sagemaker_client.delete_endpoint_config(EndpointConfigName=endpoint_config_name)

    def delete_model(self, model_name: str) -> None:
        """Delete a model on SageMaker."""
        with _reporting(f"cannot delete the model {model_name!r}"):
            self.sagemaker_client.delete_model(ModelName=model_name)

    def _backend(self) -> Any:
        return self._plugins().backends.create(self.place.backend)

    def _plugins(self) -> PluginManager:
        return self.plugins or PluginManager.discover()

    def _storage(self) -> Any:
        options = _of_boto(self._boto_session)
        return self._plugins().storages.create(ProviderRef("s3", options))

    def _client(self, service: str) -> Any:
        with _reporting(f"cannot make a client of {service}"):
            return self.boto_session.client(service)


class LocalSession(Session):
    """The machine itself: what is given this session runs here, whatever its instance type.

    It needs no AWS. ``config`` takes SDK v2's ``{"local": {"local_code": True}}``, and says nothing that
    has to be said: code is never uploaded. ``upload_data`` without a bucket returns the data's own URI.
    """

    @old_keywords
    @checked_keywords
    def __init__(
        self,
        boto_session: Any = None,
        default_bucket: str | None = None,
        s3_endpoint_url: str | None = None,
        disable_local_code: bool = False,
        default_bucket_prefix: str | None = None,
        *,
        plugins: PluginManager | None = None,
    ) -> None:
        super().__init__(
            boto_session,
            default_bucket=default_bucket,
            default_bucket_prefix=default_bucket_prefix,
            plugins=plugins,
        )

    @property
    def place(self) -> Place:
        """The local backend, which the session decides for."""
        return Place(ProviderRef(LOCAL), self.plugins, decides=True)

    def upload_data(
        self,
        path: PathLike,
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Any = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the URI of the data where they are; with `bucket`, upload them as a `Session` does."""
        if bucket is not None or self._bucket is not None:
            return super().upload_data(path, bucket, key_prefix, callback, extra_args)
        source = Path(path).expanduser()
        if not source.exists():
            raise StorageError(f"there is nothing at '{source}'")
        return as_uri(source)


def get_execution_role(sagemaker_session: Session | None = None, use_default: bool = False) -> str:
    """Return the ARN of the role that this code runs with, on a notebook instance of SageMaker say.

    Raises `InvalidPlanError` (a ``ValueError``) where it runs as a user, or without credentials.
    """
    session = sagemaker_session or Session()
    if use_default:
        raise InvalidPlanError(f"use_default: no role is made for you; {_NO_ROLE}")
    try:
        arn = session.get_caller_identity_arn()
    except ModelyardError as error:
        raise InvalidPlanError(f"there is no execution role here: {error}; {_NO_ROLE}") from None
    if ":role/" not in arn:
        raise InvalidPlanError(
            f"the current identity is not a role: {arn}, therefore it cannot be used as an execution role; "
            f"{_NO_ROLE}"
        )
    return arn


# -- boto3 -------------------------------------------------------------------------------------


def _boto3() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise StorageError("boto3 is not installed: pip install 'modelyard[aws]'") from error
    return boto3


def _errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (Boto3Error, BotoCoreError, ClientError)


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _reporting(doing: str) -> Iterator[None]:
    """Raise what boto3 raises meanwhile as a `StorageError` that says what was done."""
    _boto3()
    try:
        yield
    except _errors() as error:
        hint = ""
        if type(error).__name__ == "NoCredentialsError":
            hint = ": set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        elif type(error).__name__ == "NoRegionError":
            hint = " Set AWS_DEFAULT_REGION, or the region of the profile."
        # What boto3 says is in the message; its own forty frames would hide that.
        raise StorageError(f"{doing}: {error}{hint}") from None


def _of_boto(boto_session: Any) -> dict[str, str]:
    """Return the region and the profile of boto3's session, where they are its own."""
    if boto_session is None:
        return {}
    profile = boto_session.profile_name
    said = {"region": boto_session.region_name, "profile": None if profile == "default" else profile}
    return {name: value for name, value in said.items() if value}


def _check_credentials(boto_session: Any) -> None:
    # There is no other way to ask that does not look for credentials in all places.
    own = getattr(getattr(boto_session, "_session", None), "_credentials", None)
    if own is not None and getattr(own, "method", "") == "explicit":
        raise InvalidPlanError(
            "boto_session has credentials of its own, and plans are saved: give it a profile_name, or set "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        )


def _files(source: Path) -> list[tuple[Path, str]]:
    """Return the file, or the folder's files, each with its name below it."""
    if source.is_file():
        return [(source, source.name)]
    found = sorted(path for path in source.rglob("*") if path.is_file())
    return [(path, path.relative_to(source).as_posix()) for path in found]


def __getattr__(name: str) -> object:
    return old_name(__name__, name, {"TrainingInput": "modelyard.inputs"})
