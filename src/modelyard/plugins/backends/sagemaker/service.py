"""What the service has by name: found, made once whatever becomes of a request, and deleted."""

from typing import Any

from modelyard.core.errors import EndpointError, JobError, ModelyardError
from modelyard.core.log import get_logger
from modelyard.plugins._aws import explained
from modelyard.plugins.backends.sagemaker.clients import (
    Clients,
    is_taken,
    is_unknown,
    may_have_arrived,
    reporting,
)
from modelyard.plugins.backends.sagemaker.watching import Answer

JOB, MODEL, CONFIG, ENDPOINT = "training-job", "model", "endpoint-config", "endpoint"
"""The kinds of things, as the commands of AWS's own tool spell them."""

_NAMES = {
    JOB: "TrainingJobName",
    MODEL: "ModelName",
    CONFIG: "EndpointConfigName",
    ENDPOINT: "EndpointName",
}
_WORDS = {
    JOB: "training job",
    MODEL: "model",
    CONFIG: "endpoint configuration",
    ENDPOINT: "endpoint",
}
_NOT_DESCRIBED = ("Tags", "SessionChainingConfig")
_log = get_logger(__name__)


class PerhapsMadeError(JobError, EndpointError):
    """A request may have been carried out, and the service cannot be asked whether it was."""


class Service:
    """Jobs, models, configurations and endpoints, by their kind and name."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def find(self, kind: str, name: str, doing: str = "") -> Answer | None:
        """Return what the service says of something; None where there is no such thing.

        `doing`: what cannot be done if it cannot be asked, for people.
        """
        with reporting(doing or f"cannot describe {_WORDS[kind]} {name!r}", _error(kind)):
            try:
                answer: Answer = self._call("describe", kind)(**{_NAMES[kind]: name})
            except self._clients.sagemaker.exceptions.ClientError as error:
                if is_unknown(error):
                    return None
                raise
        return answer

    def make(self, kind: str, request: dict[str, Any]) -> bool:
        """Make something, and tell whether it was made; it was not where its name is in use.

        Of a request that was sent again, or whose answer never came, the first may have arrived: what is
        there then is looked at. Raises `PerhapsMadeError` where that cannot be told. What an interruption
        leaves is taken back.
        """
        try:
            self._call("create", kind)(**request)
        except Exception as error:
            if may_have_arrived(error) and self._is_there(kind, request, error):
                return True
            if is_taken(error):
                return False
            raise
        except BaseException as error:
            if self._is_there(kind, request, error):
                self.take_back(kind, request[_NAMES[kind]])
            raise
        return True

    def delete(self, kind: str, name: str) -> None:
        """Delete something that may be gone already."""
        try:
            self._call("delete", kind)(**{_NAMES[kind]: name})
        except self._clients.sagemaker.exceptions.ClientError as error:
            if not is_unknown(error):
                raise

    def take_back(self, kind: str, name: str) -> None:
        """Undo what was made in vain: a job is stopped, all else deleted. Tells what it cannot undo."""
        try:
            if kind == JOB:
                self._clients.sagemaker.stop_training_job(TrainingJobName=name)
            else:
                self.delete(kind, name)
        except Exception as error:  # noqa: BLE001 - the error that led here is the one to be raised
            _log.warning("made in vain", undo=undoing(kind, name), error=str(error))

    def _is_there(self, kind: str, request: dict[str, Any], error: BaseException) -> bool:
        """Tell whether what is there is what was asked for. `error`: the one after which it is looked at."""
        name = request[_NAMES[kind]]
        try:
            found = self.find(kind, name)
        except ModelyardError as trouble:
            said = explained(error) or type(error).__name__
            raise PerhapsMadeError(
                f"whether {_WORDS[kind]} {name!r} was made is not known: {said}; and then: {trouble}. "
                f"Look with: {looking(kind, name)}; undo it with: {undoing(kind, name)}"
            ) from error
        told = {name: value for name, value in request.items() if name not in _NOT_DESCRIBED}
        return found is not None and _holds(found, told)

    def _call(self, verb: str, kind: str) -> Any:
        return getattr(self._clients.sagemaker, f"{verb}_{kind.replace('-', '_')}")


def looking(kind: str, name: str) -> str:
    """Return the command of AWS's own tool that shows something."""
    return f"aws sagemaker describe-{kind} --{kind}-name {name}"


def undoing(kind: str, name: str) -> str:
    """Return the command of AWS's own tool that deletes something, or stops a job."""
    return f"aws sagemaker {'stop' if kind == JOB else 'delete'}-{kind} --{kind}-name {name}"


def _error(kind: str) -> type[ModelyardError]:
    return JobError if kind == JOB else EndpointError


def _holds(found: Any, asked: Any) -> bool:
    """Tell whether all that was asked for was found; the service adds what was left to it."""
    if isinstance(asked, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), item) for key, item in asked.items())
    if isinstance(asked, list):
        alike = isinstance(found, list) and len(found) == len(asked)
        return alike and all(map(_holds, found, asked))
    return bool(found == asked)
