"""AWS's clients, and what its errors mean for jobs and endpoints."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from modelyard.core.errors import InvalidPlanError, ModelyardError
from modelyard.plugins._aws import NOT_SET_UP, Aws, code_of, explained, is_foreseen
from modelyard.plugins.backends.sagemaker.settings import Settings

_UNKNOWN = frozenset({"404", "NoSuchEntity", "NoSuchKey", "ResourceNotFound", "ResourceNotFoundException"})
_REFUSED = frozenset({"ValidationException", "ValidationError"})
_SAYS_UNKNOWN = re.compile(r"could not find|cannot find|not found|does not exist", re.IGNORECASE)
_SAYS_TAKEN = re.compile(r"already exist|must be unique|already in use", re.IGNORECASE)
_ADVICE = {
    "ResourceLimitExceeded": "ask for a higher quota in AWS's Service Quotas, or use another instance_type",
}


class Clients:
    """The clients of one backend. Raises what `reporting` translates."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._aws = Aws(
            region=settings.region or "",
            profile=settings.profile or "",
            endpoint_url=settings.endpoint_url or "",
            attempts=settings.max_attempts,
        )
        # A model may take its time, and is not to be asked twice for one answer.
        self._patient = Aws(
            region=self._aws.region,
            profile=self._aws.profile,
            endpoint_url=self._aws.endpoint_url,
            attempts=1,
            timeout=settings.invoke_timeout,
        )

    @property
    def sagemaker(self) -> Any:
        """The service's own."""
        return self._regional("sagemaker")

    @property
    def runtime(self) -> Any:
        """The one that endpoints are asked through."""
        self._check_region()
        return self._patient.client("sagemaker-runtime")

    @property
    def timeouts(self) -> tuple[type[Exception], ...]:
        """The errors of a service that does not answer in time."""
        from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

        return (ConnectTimeoutError, ReadTimeoutError)

    @property
    def logs(self) -> Any:
        """That of CloudWatch Logs."""
        return self._regional("logs")

    @property
    def s3(self) -> Any:
        """That of S3."""
        return self._regional("s3")

    @property
    def iam(self) -> Any:
        """That of the roles."""
        return self._aws.client("iam")

    @property
    def region(self) -> str:
        """The region. Raises `InvalidPlanError` where none is chosen."""
        return self._check_region()

    @property
    def account(self) -> str:
        """The number of the account."""
        return str(self.identity["Account"])

    @cached_property
    def identity(self) -> Any:
        """Whose credentials these are, as STS says it."""
        return self._aws.client("sts").get_caller_identity()

    def _regional(self, service: str) -> Any:
        self._check_region()
        return self._aws.client(service)

    def _check_region(self) -> str:
        found = self._aws.region_name
        if not found:
            hint = "; AWS_REGION is not what boto3 looks at" if os.environ.get("AWS_REGION") else ""
            raise InvalidPlanError(
                "no AWS region is chosen: set AWS_DEFAULT_REGION, run `aws configure`, or give the backend's "
                f"option region{hint}"
            )
        return found


@contextmanager
def reporting(doing: str, kind: type[ModelyardError]) -> Iterator[None]:
    """Raise what AWS's client raises as an error that says what was being done, and the way out.

    What the caller has to change is an `InvalidPlanError`, everything else of `kind`.
    """
    try:
        yield
    except ModelyardError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or not is_foreseen(error):
            raise
        names = {code_of(error), *(cls.__name__ for cls in type(error).__mro__)}
        wrong = not names.isdisjoint(_REFUSED | NOT_SET_UP)
        advice = _ADVICE.get(code_of(error), "")
        text = "; ".join(filter(None, (f"{doing}: {explained(error)}", advice)))
        # Of what was never sent, the text says all; of the service's own answer, its frames may say more.
        raise (InvalidPlanError if wrong else kind)(text) from (None if wrong else error)


def is_unknown(error: Exception) -> bool:
    """Tell whether AWS says that there is no such thing."""
    code = code_of(error)
    return code in _UNKNOWN or (code in _REFUSED and bool(_SAYS_UNKNOWN.search(str(error))))


def is_taken(error: Exception) -> bool:
    """Tell whether AWS says that the name is in use."""
    code = code_of(error)
    if code in {"ResourceInUse", "ResourceAlreadyExists"}:
        return True
    return code in _REFUSED and bool(_SAYS_TAKEN.search(str(error)))


def may_have_arrived(error: Exception) -> bool:
    """Tell whether a request may have been carried out although its sender has got this error."""
    metadata = getattr(error, "response", {}).get("ResponseMetadata", {})
    if int(metadata.get("HTTPStatusCode", 500)) >= 500:
        return True  # Also where there was no answer at all.
    return is_taken(error) and int(metadata.get("RetryAttempts", 0)) > 0
