"""What the providers that call AWS share: clients, whose they are, and what to tell of an error.

botocore, on which boto3 stands, is imported when a client is made. Region, credentials and endpoints
are found by its own chain: the options, ``AWS_*`` variables, ``~/.aws``, the role of the machine.
"""

import errno
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import attrs

from modelyard.core.errors import ModelyardError

_lock = threading.Lock()
"""Clients are made one at a time: botocore's sessions are not for several threads."""


_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
"""The files with credentials and profiles: the variables that name them, and where they are else."""


@attrs.frozen
class Aws:
    """How AWS is called. What is empty is left to boto3's own chain.

    ``region``, ``profile`` (of ``~/.aws``), ``endpoint_url``: which service, and as whom; ``attempts``:
    how often a request is sent before its failure counts; ``timeout``: seconds without a byte after
    which an attempt has failed; ``connections``: how many a client keeps.
    """

    region: str = ""
    profile: str = ""
    endpoint_url: str = ""
    attempts: int = 5
    timeout: float = 60.0
    connections: int = 10

    def client(self, service: str) -> Any:
        """Return boto3's client of a service; the same one as long as the surroundings are the same."""
        with _lock:
            return _client(self, service, _surroundings())

    @property
    def region_name(self) -> str:
        """The region, wherever it is set; empty where it is not."""
        with _lock:
            return self.region or _session(self.profile, _surroundings()).get_config_variable("region") or ""

    def account(self) -> str:
        """Return the number of the account that the credentials belong to."""
        return cast(str, self.client("sts").get_caller_identity()["Account"])


def default_bucket(region: str, account: str) -> str:
    """Return the name of the bucket that SageMaker's tools make for an account in a region."""
    return f"sagemaker-{region}-{account}"


def default_owner(bucket: str) -> str:
    """Return the account that the name of a default bucket ends with; empty for any other name.

    Anybody can take such a name before its account does.
    """
    named = re.fullmatch(r"sagemaker-[a-z0-9-]+-([0-9]{12})", bucket)
    return named[1] if named else ""


def _surroundings() -> frozenset[tuple[str, str]]:
    """Return by what boto3's chain finds what it finds: variables, and the files as they are now."""
    variables = {
        name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "HOME"
    }
    files = {variables.get(variable) or f"~/.aws/{name}" for variable, name in _FILES.items()}
    return frozenset({**variables, **{file: _changed(file) for file in files}}.items())


def _changed(path: str) -> str:
    """Return when a file was written: somebody may log in again while this process runs."""
    try:
        return str(Path(path).expanduser().stat().st_mtime_ns)
    except (OSError, RuntimeError):
        return ""


@lru_cache(maxsize=8)
def _session(profile: str, _surroundings: frozenset[tuple[str, str]]) -> Any:
    from botocore.session import Session

    return Session(profile=profile or None)


@lru_cache(maxsize=32)
def _client(aws: Aws, service: str, surroundings: frozenset[tuple[str, str]]) -> Any:
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": aws.attempts},
        connect_timeout=min(10.0, aws.timeout),
        read_timeout=aws.timeout,
        max_pool_connections=aws.connections,
    )
    return _session(aws.profile, surroundings).create_client(
        service, region_name=aws.region or None, endpoint_url=aws.endpoint_url or None, config=config
    )


# -- errors ------------------------------------------------------------------------------------

_WAYS_OUT: Mapping[str, frozenset[str]] = {
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with `aws configure` or "
    "`aws sso login`": frozenset(
        {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
    ),
    "the credentials have expired: get new ones (`aws sso login`, say), and do the same again": frozenset(
        {
            "ExpiredToken",
            "ExpiredTokenException",
            "TokenRefreshRequired",
            "RequestExpired",
            "SSOTokenLoadError",
            "UnauthorizedSSOTokenError",
        }
    ),
    "the service does not know these credentials: look at AWS_PROFILE, AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY": frozenset(
        {
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        }
    ),
    "the clock of this machine is wrong": frozenset({"RequestTimeTooSkewed"}),
    "set AWS_DEFAULT_REGION, or the region of the profile": frozenset(
        {"NoRegionError", "InvalidRegionError"}
    ),
    "see the profiles with `aws configure list-profiles`": frozenset({"ProfileNotFound", "ConfigParseError"}),
    "these credentials may not do that, or the account is another one than you think: ask for the "
    "permission, and see who you are with `aws sts get-caller-identity`": frozenset(
        {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "403"}
    ),
    "it is in another region: set AWS_DEFAULT_REGION to that": frozenset(
        {
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "301",
        }
    ),
    "the service asks for fewer requests: wait a moment, and do the same again": frozenset(
        {
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "503",
        }
    ),
    "the service had a fault of its own: do the same again": frozenset(
        {"InternalError", "InternalFailure", "ServiceUnavailable", "500", "502", "504"}
    ),
    "is the network up, and the endpoint (AWS_ENDPOINT_URL) right?": frozenset(
        {
            "EndpointConnectionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ConnectionClosedError",
            "ProxyConnectionError",
            "SSLError",
            "ResponseStreamingError",
            "IncompleteReadError",
            "HTTPClientError",
        }
    ),
    "look at the name, or make the bucket with `aws s3 mb s3://NAME`": frozenset({"NoSuchBucket"}),
    "it is archived: restore it first": frozenset({"InvalidObjectState"}),
    "look at the key and at who may use it": frozenset({"KMS"}),
}
"""What to do, by the codes of services and the names of boto3's errors."""

NOT_SET_UP = frozenset(
    {
        "ConfigParseError",
        "InvalidRegionError",
        "ModuleNotFoundError",
        "NoCredentialsError",
        "NoRegionError",
        "ParamValidationError",
        "PartialCredentialsError",
        "ProfileNotFound",
    }
)
"""Errors of boto3 about what the caller has said, or not said; nothing was sent."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def code_of(error: BaseException) -> str:
    """Return the code with which a service has answered, and the empty string for any other error."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def explained(error: BaseException) -> str:
    """Return what to tell the user of an error of boto3, of a service or of the disk, with the way out."""
    if isinstance(error, ModuleNotFoundError):
        return "boto3 is not installed: pip install 'modelyard[aws]'"
    if isinstance(error, OSError):
        return f"{error}; free some space, or write elsewhere" if error.errno in _FULL else str(error)
    code = code_of(error)
    names = {code, code.partition(".")[0], *(cls.__name__ for cls in type(error).__mro__)}
    way_out = next((text for text, known in _WAYS_OUT.items() if known & names), "")
    return "; ".join(filter(None, (str(error), _region(error), way_out)))


def _region(error: BaseException) -> str:
    answer = getattr(error, "response", None)
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if isinstance(answer, dict) else {}
    region = headers.get("x-amz-bucket-region", "")
    return f"the bucket's region is {region!r}" if region else ""


def is_foreseen(error: BaseException) -> bool:
    """Tell whether `explained` says all that there is to say."""
    if isinstance(error, ModuleNotFoundError):
        return str(error.name).partition(".")[0] in ("botocore", "boto3")
    modules = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return isinstance(error, OSError) or not modules.isdisjoint(("botocore", "boto3", "urllib3"))


@contextmanager
def reporting(kind: type[ModelyardError], doing: str) -> Iterator[None]:
    """Raise what goes wrong with AWS, or the disk, as an error of `kind` that says what was being done."""
    try:
        yield
    except Exception as error:
        if not is_foreseen(error):
            raise
        unsent = type(error).__name__ in NOT_SET_UP  # The text says all; the frames are boto3's own.
        raise kind(f"{doing}: {explained(error)}") from (None if unsent else error)
