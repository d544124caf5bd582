"""A backend that runs nothing and keeps what it is given: for tests of what a plan says."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from modelyard.core.contracts import (
    Carrier,
    EndpointDescription,
    EndpointHandle,
    Invocation,
    JobDescription,
    JobHandle,
)
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointNotFoundError,
    JobExistsError,
    JobNotFoundError,
)
from modelyard.core.plans import EndpointPlan, EndpointStatus, JobStatus, TrainingPlan


class RecordedJob:
    """A job that was Completed when it was submitted."""

    def __init__(self, plan: TrainingPlan) -> None:
        self.name = plan.job_name
        self.plan = plan

    def describe(self) -> JobDescription:
        """Return a description whose model is where none is."""
        model = f"file:///recorded/{self.name}/model.tar.gz"
        return JobDescription(self.name, JobStatus.COMPLETED, self.plan.redacted(), model_data=model)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def stop(self) -> None:
        """Do nothing: it has ended."""


class RecordedEndpoint:
    """An endpoint that is InService, and answers a request with its body."""

    def __init__(self, plan: EndpointPlan, backend: "type[RecordingBackend]") -> None:
        self.name = plan.endpoint_name
        self.plan = plan
        self.backend = backend

    def describe(self) -> EndpointDescription:
        """Return its description. Raises `EndpointNotFoundError` once it is deleted."""
        self.backend().endpoint(self.name)
        return EndpointDescription(self.name, EndpointStatus.IN_SERVICE, self.plan.redacted())

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def invoke(self, body: bytes, *, content_type: str, accept: str) -> Invocation:
        """Return the body as it came, as the media type that it came as."""
        self.backend.requests.append((self.name, body, content_type, accept))
        return Invocation(body, content_type)

    def delete(self) -> None:
        """Free its name."""
        self.backend.live.pop(self.name, None)


class RecordingBackend:
    """A backend that is only used where it is named: ``backend="recording"``.

    ``jobs`` and ``endpoints``: the plans that were submitted and deployed, the first one first;
    ``live``: those endpoints that were not deleted; ``requests``: name, body, content type and accept of
    each. They are the class's: `modelyard.testing.fixtures.recording_backend` makes a class for each test.
    """

    name: ClassVar[str] = "recording"
    instance_types: ClassVar[tuple[str, ...]] = ()
    jobs: ClassVar[list[TrainingPlan]] = []
    endpoints: ClassVar[list[EndpointPlan]] = []
    live: ClassVar[dict[str, EndpointPlan]] = {}
    requests: ClassVar[list[tuple[str, bytes, str, str]]] = []

    @classmethod
    def anew(cls) -> "type[RecordingBackend]":
        """Return a class that has recorded nothing yet."""
        recorded: dict[str, object] = {"jobs": [], "endpoints": [], "live": {}, "requests": []}
        return type(cls.__name__, (cls,), {**recorded, "__doc__": cls.__doc__})

    def submit(self, plan: TrainingPlan, carrier: Carrier, *, attached: bool = True) -> JobHandle:
        """Keep the plan; nothing is packed. Raises `JobExistsError`."""
        if plan.job_name in _names(self.jobs):
            raise JobExistsError(f"there is a job called {plan.job_name!r}")
        self.jobs.append(plan)
        return RecordedJob(plan)

    def deploy(self, plan: EndpointPlan, carrier: Carrier) -> EndpointHandle:
        """Keep the plan; nothing is packed. Raises `EndpointExistsError`."""
        if plan.endpoint_name in self.live:
            raise EndpointExistsError(f"there is an endpoint called {plan.endpoint_name!r}")
        self.endpoints.append(plan)
        self.live[plan.endpoint_name] = plan
        return RecordedEndpoint(plan, type(self))

    def job(self, name: str) -> JobHandle:
        """Return the job of that name. Raises `JobNotFoundError`."""
        for plan in self.jobs:
            if plan.job_name == name:
                return RecordedJob(plan)
        raise JobNotFoundError(f"there is no job called {name!r}")

    def endpoint(self, name: str) -> EndpointHandle:
        """Return the endpoint of that name. Raises `EndpointNotFoundError`."""
        if name not in self.live:
            raise EndpointNotFoundError(f"there is no endpoint called {name!r}")
        return RecordedEndpoint(self.live[name], type(self))


def _names(plans: Iterable[TrainingPlan]) -> list[str]:
    return [plan.job_name for plan in plans]
