"""What a client holds of an endpoint on SageMaker."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress

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
from modelyard.plugins.backends.sagemaker.service import CONFIG, ENDPOINT, MODEL, Service, undoing
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.watching import Answer, Pause, Watch

_TAIL = 100
_ERROR = re.compile(r"(Error|Exception)\b")
"""Where the log of an endpoint that failed says why: in the last of these lines that names an exception."""

_IN_SERVICE, _DELETING = "InService", "Deleting"
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
        self._service = Service(clients)
        self._watch = Watch(self._ask, settings.poll_seconds)
        self._plans: dict[str, EndpointPlan] = {}
        self._raised = ""
        self._unused: set[str] = set()

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
        reader, pause = self._log_reader(), Pause(self._settings.poll_seconds)
        while True:
            # Looked at before the log is read, which so has what the endpoint said at its end.
            live, news = follow and self._is_live(), False
            for line in reader.new():
                news = True
                yield line.text
            if not live:
                return
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
        broke_off = f"the answer of endpoint {self.name!r} broke off"
        with reporting(broke_off, EndpointError), closing(answer["Body"]) as events:
            for event in events:
                if part := event.get("PayloadPart"):
                    yield part["Bytes"]

    def reload(self) -> None:
        """Have the service start new containers of the same model, which it fetches from S3 again.

        The old ones answer until these can. Returns at once; `update` with `wait` stays until it is
        through. Raises `EndpointError` where the endpoint is not in service.
        """
        self.update(wait=False)

    def update(self, *, wait: bool = True, **variant: object) -> None:
        """Change the endpoint while it answers: members of its variant, such as ``InitialInstanceCount``.

        With `wait` until the change is through, and what it was made of before is deleted; without, that
        is left to the next `update` or `delete` of this handle. Raises `EndpointError` where the endpoint is
        not in service, and where the service has gone back to how it was.
        """
        before = self._watch.now()
        if before["EndpointStatus"] != _IN_SERVICE:
            raise EndpointError(
                f"endpoint {self.name!r} is {before['EndpointStatus']}: change it once it is InService"
            )
        old, new = before["EndpointConfigName"], unique_name(self.name)
        with reporting(f"cannot update endpoint {self.name!r}", EndpointError):
            self._tidy(old)
            self._move_to(self._config(old), new, variant)
            self._unused |= {old, new}
            if wait:
                self._changed_to(new)

    def _changed_to(self, config: str) -> None:
        """Wait for the end of a change. Raises `EndpointError` where it did not come to `config`."""
        after = self._settled()
        is_through = after["EndpointStatus"] == _IN_SERVICE
        if is_through:
            self._tidy(after["EndpointConfigName"])
        if not is_through or after["EndpointConfigName"] != config:
            state = "keeps what it was" if is_through else f"is {after['EndpointStatus']} after the change"
            why = after.get("FailureReason") or "SageMaker gives no reason"
            raise EndpointError(f"endpoint {self.name!r} {state}: {why}")

    def _move_to(self, config: Answer, new: str, variant: Mapping[str, object]) -> None:
        """Have the endpoint changed to a configuration with other members; there is none if it is refused."""
        if not config:
            raise EndpointError(f"the configuration of endpoint {self.name!r} is gone: deploy it anew")
        if not self._service.make(CONFIG, wire.changed_endpoint_config(config, new, **variant)):
            raise EndpointError(f"there is another endpoint configuration called {new!r}: do the same again")
        try:
            self._clients.sagemaker.update_endpoint(EndpointName=self.name, EndpointConfigName=new)
        except BaseException as error:
            # It was sent again, say, and the first one had arrived: what is in use is not to be deleted.
            is_under_way = self._is_moving_to(new)
            if not is_under_way:
                self._service.take_back(CONFIG, new)
            if not is_under_way or not isinstance(error, Exception):
                raise

    def _is_moving_to(self, config: str) -> bool:
        answer = self._watch.now()
        pending = answer.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        return config in (answer["EndpointConfigName"], pending)

    def _tidy(self, in_use: str) -> None:
        """Delete the configurations that the endpoint was made of before."""
        for name in self._unused - {in_use}:
            self._service.delete(CONFIG, name)
        self._unused.clear()

    def delete(self) -> None:
        """Delete the endpoint, its configuration, and its model where it bears the endpoint's name.

        Returns once the name is free.
        """
        with reporting(f"cannot delete endpoint {self.name!r}", EndpointError):
            try:
                answer = self._come_to_rest()
            except EndpointNotFoundError:
                return
            variants = self._config(answer["EndpointConfigName"]).get("ProductionVariants", [])
            if answer["EndpointStatus"] != _DELETING:
                self._ask_to_end()
            self._gone()
            for config in {answer["EndpointConfigName"], *self._unused}:
                self._service.delete(CONFIG, config)
            if self.name in {variant.get("ModelName") for variant in variants}:
                self._service.delete(MODEL, self.name)

    def _come_to_rest(self) -> Answer:
        """Return what the service says of the endpoint once it can be deleted."""
        answer = self._watch.now()
        if answer["EndpointStatus"] not in _MOVING:
            return answer
        said = "SageMaker deletes no endpoint that comes or changes: waiting until it has"
        later = undoing(ENDPOINT, self.name)
        _log.warning(said, endpoint=self.name, status=answer["EndpointStatus"], or_later=later)
        return self._settled()

    def _ask_to_end(self) -> None:
        try:
            self._service.delete(ENDPOINT, self.name)
        except Exception:
            # It was sent again, say, and the first one had arrived.
            with suppress(EndpointNotFoundError):
                if self._watch.now()["EndpointStatus"] != _DELETING:
                    raise

    def delete_model(self) -> None:
        """Delete the model, or the models, of the endpoint, which answers as before until it is deleted."""
        with reporting(f"cannot delete the model of endpoint {self.name!r}", EndpointError):
            config = self._config(self._watch.now()["EndpointConfigName"])
            for variant in config.get("ProductionVariants", []):
                if "ModelName" in variant:
                    self._service.delete(MODEL, variant["ModelName"])

    # -- asking --------------------------------------------------------------------------------

    def _answered(self, ask: Callable[[], Answer], *, again: bool = True) -> Answer:
        """Return what an endpoint answers; once more where it has come into service in between."""
        with reporting(f"cannot ask endpoint {self.name!r}", EndpointError):
            try:
                return ask()
            except self._clients.runtime.exceptions.ClientError as error:
                if code_of(error) == _MODEL_ERROR:
                    raise self._failed_request(error) from error
                # So is an endpoint called that is still being created, or has failed.
                if not (again and is_unknown(error) and self._is_in_service()):
                    raise self._refused_request(error) from error
            except self._clients.timeouts as error:
                said = f"no answer within {self._settings.invoke_timeout:g} s"
                raise InvocationError(self.name, 504, said, f"See {self._log()}") from error
        return self._answered(ask, again=False)

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
        if not self._raised:
            try:
                lines = self._log_reader().last(_TAIL)
            except ModelyardError:
                lines = []
            self._raised = next((line for line in reversed(lines) if _ERROR.search(line)), "")
        return f"{said} Its log says: {self._raised}" if self._raised else said

    def _is_in_service(self) -> bool:
        """Tell whether the endpoint can answer, once it is no longer created. Raises for one that failed."""
        answer = self._watch.now()
        if reading.endpoint_status(answer) is EndpointStatus.CREATING:
            answer = self._settled()
        status = reading.endpoint_status(answer)
        if status is EndpointStatus.FAILED:
            raise EndpointFailedError(self.name, self._reason(answer), f"See {self._log()}")
        return status is EndpointStatus.IN_SERVICE

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
        answer = self._service.find(ENDPOINT, self.name)
        if answer is None:
            raise EndpointNotFoundError(
                f"no endpoint is called {self.name!r} on SageMaker in {self._clients.region}; is it in "
                "another region, or of another account?"
            )
        return answer

    # -- what it is made of --------------------------------------------------------------------

    def _plan(self, answer: Answer) -> EndpointPlan:
        config = answer["EndpointConfigName"]
        if config not in self._plans:
            found = self._config(config)
            variant: Answer = next(iter(found.get("ProductionVariants", [])), {})
            model = self._service.find(MODEL, variant["ModelName"]) if "ModelName" in variant else None
            self._plans[config] = reading.endpoint_plan(self.name, found, model or {}, self._clients.region)
        return self._plans[config]

    def _config(self, name: str) -> Answer:
        """Return a configuration; nothing where it was deleted: the endpoint lives on without it."""
        return self._service.find(CONFIG, name) or {}

    def _log_reader(self) -> LogReader:
        return LogReader(self._clients, EndpointError, f"{reading.ENDPOINT_LOGS}/{self.name}")

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
