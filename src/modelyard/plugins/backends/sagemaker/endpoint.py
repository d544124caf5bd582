"""What a client holds of an endpoint on SageMaker."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import attrs

from modelyard.core.contracts import EndpointDescription, Invocation
from modelyard.core.errors import (
    EndpointError,
    EndpointFailedError,
    EndpointNotFoundError,
    InvocationError,
    ModelyardError,
)
from modelyard.core.handover import clip
from modelyard.core.log import get_logger
from modelyard.core.plans import EndpointPlan, EndpointStatus, unique_name
from modelyard.plugins._aws import code_of, explained
from modelyard.plugins.backends.sagemaker import reading, wire
from modelyard.plugins.backends.sagemaker.clients import Clients, is_unknown, reporting
from modelyard.plugins.backends.sagemaker.logs import LogReader
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.watching import Answer, Pause, Watch

_TAIL = 100
_ERROR = re.compile(r"(Error|Exception)\b")
"""Where the log of an endpoint that failed says why: in the last of these lines that names an exception."""

_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack")
_MODEL_ERROR = "ModelError"
_UNAVAILABLE = 503

_log = get_logger(__name__)


class SageMakerEndpointHandle:
    """An endpoint on SageMaker."""

    def __init__(self, clients: Clients, settings: Settings, name: str) -> None:
        self.name = name
        self._clients = clients
        self._settings = settings
        self._watch = Watch(self._ask, settings.poll_seconds)
        self._plans: dict[str, EndpointPlan] = {}
        self._raised: str | None = None

    def describe(self) -> EndpointDescription:
        """Return how the endpoint stands, as of at most ``poll_seconds`` ago.

        Raises `EndpointNotFoundError` once it is deleted.
        """
        answer = self._watch.recent()
        description = reading.endpoint_description(answer, self._plan(answer), self._clients.region)
        if description.status is not EndpointStatus.FAILED:
            return description
        return attrs.evolve(description, reason=clip(self._reason(answer)))

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of all hosts; with `follow`, until the endpoint has ended."""
        reader = LogReader(self._clients, f"{reading.ENDPOINT_LOGS}/{self.name}")
        yield from (line.text for line in reader.new())
        pause = Pause(self._settings.poll_seconds)
        while follow and self._is_live():
            news = False
            for line in reader.new():
                news = True
                yield line.text
            pause.sleep(again=news)

    def invoke(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str,
        arguments: Mapping[str, str] | None = None,
    ) -> Invocation:
        """Send one request; while the endpoint is being created, wait for it.

        `arguments`: more of what ``InvokeEndpoint`` takes, such as ``TargetVariant``. Raises
        `InvocationError` for a model that fails, `EndpointFailedError` and `EndpointNotFoundError`.
        """
        asked = _invocation(self.name, body, content_type, accept, arguments)
        answer = self._answered(lambda: self._clients.runtime.invoke_endpoint(**asked))
        with reporting(f"the answer of endpoint {self.name!r} broke off", EndpointError):
            return Invocation(answer["Body"].read(), answer.get("ContentType", ""))

    def invoke_stream(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str,
        arguments: Mapping[str, str] | None = None,
    ) -> Iterator[bytes]:
        """Send one request, and yield the answer piece by piece as it comes. Raises as `invoke` does."""
        asked = _invocation(self.name, body, content_type, accept, arguments)
        answer = self._answered(lambda: self._clients.runtime.invoke_endpoint_with_response_stream(**asked))
        with reporting(f"the answer of endpoint {self.name!r} broke off", EndpointError):
            for event in answer["Body"]:
                if part := event.get("PayloadPart"):
                    yield part["Bytes"]

    def update(self, *, wait: bool = True, **variant: object) -> None:
        """Change the endpoint while it answers: members of its variant, such as ``InitialInstanceCount``.

        With `wait` until the change is through, and what it was made of before is deleted. Raises
        `EndpointError` where the service has gone back to how it was.
        """
        before = self._watch.now()
        old = before["EndpointConfigName"]
        config = self._config(old)
        name = unique_name(self.name)
        if not config:
            raise EndpointError(f"the configuration of endpoint {self.name!r} is gone: deploy it anew")
        with reporting(f"cannot update endpoint {self.name!r}", EndpointError):
            sagemaker = self._clients.sagemaker
            sagemaker.create_endpoint_config(**wire.changed_endpoint_config(config, name, **variant))
            try:
                sagemaker.update_endpoint(EndpointName=self.name, EndpointConfigName=name)
            except BaseException:
                sagemaker.delete_endpoint_config(EndpointConfigName=name)
                raise
        if wait:
            after = self._settled()
            kept = after["EndpointConfigName"]
            self._delete_quietly("endpoint_config", EndpointConfigName=old if kept == name else name)
            if kept != name:
                raise EndpointError(
                    f"endpoint {self.name!r} keeps what it was: {after.get('FailureReason') or 'unknown'}"
                )

    def delete(self) -> None:
        """Delete the endpoint, its configuration, and its model where it bears the endpoint's name.

        Returns once the name is free.
        """
        with reporting(f"cannot delete endpoint {self.name!r}", EndpointError):
            try:
                answer = self._watch.now()
            except EndpointNotFoundError:
                return
            config = answer["EndpointConfigName"]
            variants = self._config(config).get("ProductionVariants", [])
            if answer["EndpointStatus"] != "Deleting":
                if answer["EndpointStatus"] in _MOVING:
                    said = "SageMaker deletes no endpoint that comes or changes: waiting until it has"
                    _log.warning(said, endpoint=self.name, status=answer["EndpointStatus"])
                    self._settled()
                self._clients.sagemaker.delete_endpoint(EndpointName=self.name)
            self._gone()
            self._delete_quietly("endpoint_config", EndpointConfigName=config)
            if self.name in {variant.get("ModelName") for variant in variants}:
                self._delete_quietly("model", ModelName=self.name)

    def delete_model(self) -> None:
        """Delete the model, or the models, of the endpoint, which answers as before until it is deleted."""
        with reporting(f"cannot delete the model of endpoint {self.name!r}", EndpointError):
            config = self._config(self._watch.now()["EndpointConfigName"])
            for variant in config.get("ProductionVariants", []):
                self._delete_quietly("model", ModelName=variant["ModelName"])

    # -- asking --------------------------------------------------------------------------------

    def _answered(self, ask: Callable[[], Answer]) -> Answer:
        """Return what an endpoint answers; once more where it has come into service in between."""
        with reporting(f"cannot ask endpoint {self.name!r}", EndpointError):
            try:
                return ask()
            except self._clients.runtime.exceptions.ClientError as error:
                if code_of(error) == _MODEL_ERROR:
                    raise self._failed_request(error) from error
                if not self._has_come_into_service():
                    raise self._refused_request(error) from error
            except self._clients.timeouts as error:
                said = f"no answer within {self._settings.invoke_timeout:g} s"
                raise InvocationError(self.name, 504, said, f"See {self._log()}") from error
            return ask()

    def _refused_request(self, error: Exception) -> InvocationError:
        """Return the error of a request that did not get as far as the model."""
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
        return InvocationError(self.name, int(status or _UNAVAILABLE), explained(error))

    def _failed_request(self, error: Exception) -> InvocationError:
        said = getattr(error, "response", {})
        status = int(said.get("OriginalStatusCode") or _UNAVAILABLE)
        message = said.get("OriginalMessage") or error
        return InvocationError(self.name, status, str(message), f"See {self._log()}")

    def _reason(self, answer: Answer) -> str:
        """Return why the endpoint failed: what the service says, and what the log does."""
        said = str(answer.get("FailureReason", ""))
        if self._raised is None:
            try:
                lines = LogReader(self._clients, f"{reading.ENDPOINT_LOGS}/{self.name}").last(_TAIL)
            except ModelyardError:
                lines = []
            self._raised = next((line for line in reversed(lines) if _ERROR.search(line)), "")
        return f"{said} Its log says: {self._raised}" if self._raised else said

    def _has_come_into_service(self) -> bool:
        """Wait for an endpoint that is being created. Raises for one that has ended."""
        answer = self._watch.now()
        if reading.endpoint_status(answer) is EndpointStatus.CREATING:
            answer = self._settled()
            return reading.endpoint_status(answer) is EndpointStatus.IN_SERVICE
        if reading.endpoint_status(answer) is EndpointStatus.FAILED:
            raise EndpointFailedError(self.name, self._reason(answer), f"See {self._log()}")
        return False

    def _settled(self) -> Answer:
        """Return what the service says once the endpoint neither comes nor changes."""
        pause, deadline = Pause(self._settings.poll_seconds), time.monotonic() + self._settings.stop_seconds
        while (answer := self._watch.now())["EndpointStatus"] in _MOVING:
            if time.monotonic() > deadline:
                raise EndpointError(f"endpoint {self.name!r} is still {answer['EndpointStatus']}")
            pause.sleep()
        return answer

    def _gone(self) -> None:
        pause, deadline = Pause(self._settings.poll_seconds), time.monotonic() + self._settings.stop_seconds
        with suppress(EndpointNotFoundError):
            while self._watch.now():
                if time.monotonic() > deadline:
                    raise EndpointError(f"endpoint {self.name!r} is still being deleted")
                pause.sleep()

    def _is_live(self) -> bool:
        try:
            return not reading.endpoint_status(self._watch.recent()).is_terminal
        except EndpointNotFoundError:
            return False

    def _ask(self) -> Answer:
        with reporting(f"cannot describe endpoint {self.name!r}", EndpointError):
            try:
                answer: Answer = self._clients.sagemaker.describe_endpoint(EndpointName=self.name)
            except self._clients.sagemaker.exceptions.ClientError as error:
                if not is_unknown(error):
                    raise
                where = self._clients.region
                raise EndpointNotFoundError(
                    f"no endpoint is called {self.name!r} on SageMaker in {where}; is it in another region, "
                    "or of another account?"
                ) from error
        return answer

    # -- what it is made of --------------------------------------------------------------------

    def _plan(self, answer: Answer) -> EndpointPlan:
        config = answer["EndpointConfigName"]
        if config not in self._plans:
            found = self._config(config)
            variant: Answer = next(iter(found.get("ProductionVariants", [])), {})
            model = self._model(variant["ModelName"]) if "ModelName" in variant else {}
            self._plans[config] = reading.endpoint_plan(self.name, found, model, self._clients.region)
        return self._plans[config]

    def _config(self, name: str) -> Answer:
        """Return a configuration; nothing where it was deleted: the endpoint lives on without it."""
        return self._described(
            f"endpoint configuration {name!r}",
            lambda: self._clients.sagemaker.describe_endpoint_config(EndpointConfigName=name),
        )

    def _model(self, name: str) -> Answer:
        """Return a model; nothing where it was deleted."""
        return self._described(
            f"model {name!r}", lambda: self._clients.sagemaker.describe_model(ModelName=name)
        )

    def _described(self, what: str, describe: Callable[[], Answer]) -> Answer:
        with reporting(f"cannot describe {what}", EndpointError):
            try:
                return describe()
            except self._clients.sagemaker.exceptions.ClientError as error:
                if not is_unknown(error):
                    raise
                return {}

    def _delete_quietly(self, kind: str, **name: str) -> None:
        """Delete something that may be gone already."""
        try:
            getattr(self._clients.sagemaker, f"delete_{kind}")(**name)
        except self._clients.sagemaker.exceptions.ClientError as error:
            if not is_unknown(error):
                raise

    def _log(self) -> str:
        return f"{reading.ENDPOINT_LOGS}/{self.name} in CloudWatch Logs of {self._clients.region}"


def _invocation(
    name: str, body: bytes, content_type: str, accept: str, arguments: Mapping[str, str] | None
) -> Answer:
    return {
        "EndpointName": name,
        "Body": body,
        "ContentType": content_type,
        "Accept": accept,
        **(arguments or {}),
    }
