"""What the tests of a backend start from: plans, carriers, and waiting that comes to an end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import pytest

from modelyard.core.carrier import PluginCarrier
from modelyard.core.contracts import (
    Backend,
    Bundle,
    Carrier,
    EndpointDescription,
    EndpointHandle,
    Invocation,
    JobDescription,
    JobHandle,
)
from modelyard.core.errors import PackagingError
from modelyard.core.manager import PluginManager
from modelyard.core.plans import (
    EndpointPlan,
    EndpointStatus,
    ModelSource,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
    unique_name,
)
from modelyard.testing.trees import write_tree

T = TypeVar("T")
P = TypeVar("P", TrainingPlan, EndpointPlan)

_POLL = 0.02


class CountingCarrier:
    """The carrier of a plan, which counts how often it packs, or fails to."""

    def __init__(self, inner: Carrier, *, failing: bool = False) -> None:
        self._inner = inner
        self._failing = failing
        self.packed = 0

    def using(self, scheme: str, options: Mapping[str, object]) -> Self:
        """Give these options to the storage of a scheme."""
        self._inner = self._inner.using(scheme, options)
        return self

    def pack(self, into: Path) -> Bundle:
        """Write the plan's archive into `into`, or raise `PackagingError`."""
        self.packed += 1
        if self._failing:
            raise PackagingError("this plan cannot be packed")
        return self._inner.pack(into)

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack an archive."""
        self._inner.unpack(archive, into)

    def download(self, uri: str, into: Path) -> None:
        """Bring what is at `uri`."""
        self._inner.download(uri, into)

    def upload(self, path: Path, uri: str) -> str:
        """Write what is at `path` to `uri`."""
        return self._inner.upload(path, uri)

    def upload_once(self, path: Path, uri: str) -> None:
        """Write the file `path` to `uri` unless something is there."""
        self._inner.upload_once(path, uri)

    def prepare(self, uri: str) -> None:
        """Make sure that an upload below `uri` can succeed."""
        self._inner.prepare(uri)


class BackendSetup:
    """The attributes of `BackendContract`, and what its tests have in common."""

    backend_class: type[Backend]
    instance_type: ClassVar[str] = "local"
    can_train: ClassVar[bool] = True
    can_serve: ClassVar[bool] = True
    can_read_files: ClassVar[bool] = True
    patience: ClassVar[float] = 60.0

    @pytest.fixture
    def backend(self) -> Backend:
        """Return the backend under test."""
        return self.backend_class()

    def adapt_plan(self, plan: P) -> P:
        """Return the plan that is submitted or deployed instead of `plan`: with a role, say.

        ``attrs.evolve(plan, role="...")`` changes fields; those of jobs and endpoints differ.
        """
        return plan

    # -- plans and carriers --------------------------------------------------------------------

    def _job_plan(self, tmp_path: Path, script: str) -> TrainingPlan:
        if not self.can_train:
            pytest.skip(f"{self.backend_class.name} cannot train here")
        folder = write_tree(tmp_path / "src", {"train.py": script.encode()})
        plugins = PluginManager.builtin()
        plan = TrainingPlan(
            job_name=unique_name("contract"),
            source=SourceCode("train.py", str(folder)),
            backend=ProviderRef(self.backend_class.name),
            hardware=plugins.resolve("hardware", "cpu"),
            launcher=plugins.resolve("launcher", "process"),
            packager=plugins.resolve("packager", "tarball"),
            resources=Resources(self.instance_type),
        )
        return self.adapt_plan(plan)

    def _endpoint_plan(self, tmp_path: Path, script: str, name: str | None = None) -> EndpointPlan:
        if not self.can_serve:
            pytest.skip(f"{self.backend_class.name} cannot serve here")
        folder = write_tree(tmp_path / "src", {"inference.py": script.encode()})
        model = write_tree(tmp_path / "model", {"weights.txt": b"trained"})
        plugins = PluginManager.builtin()
        plan = EndpointPlan(
            endpoint_name=name or unique_name("contract"),
            model=ModelSource(model.as_uri()),
            source=SourceCode("inference.py", str(folder)),
            backend=ProviderRef(self.backend_class.name),
            hardware=plugins.resolve("hardware", "cpu"),
            packager=plugins.resolve("packager", "tarball"),
            resources=Resources(self.instance_type),
            startup_timeout=self.patience,
        )
        return self.adapt_plan(plan)

    def _job_carrier(self, plan: TrainingPlan, *, failing: bool = False) -> CountingCarrier:
        source = plan.source
        assert source is not None
        inner = PluginCarrier.of(
            PluginManager.builtin(),
            plan.packager,
            lambda carrier, into: carrier.packager.pack_source(source, into),
        )
        return CountingCarrier(inner, failing=failing)

    def _endpoint_carrier(
        self, plan: EndpointPlan, tmp_path: Path, *, failing: bool = False
    ) -> CountingCarrier:
        inner = PluginCarrier.of(
            PluginManager.builtin(),
            plan.packager,
            lambda carrier, into: carrier.packager.pack_model(tmp_path / "model", plan.source, into),
        )
        return CountingCarrier(inner, failing=failing)

    # -- starting, and ending whatever happens -------------------------------------------------

    @contextlib.contextmanager
    def _submitted(
        self, backend: Backend, plan: TrainingPlan, carrier: Carrier | None = None, *, attached: bool = True
    ) -> Iterator[JobHandle]:
        handle = backend.submit(plan, carrier or self._job_carrier(plan), attached=attached)
        try:
            yield handle
        finally:
            # The test's own failure says more than one of the tidying up.
            with contextlib.suppress(Exception, AssertionError):
                if not handle.describe().status.is_terminal:
                    self._within("stop()", handle.stop)

    @contextlib.contextmanager
    def _deployed(self, backend: Backend, plan: EndpointPlan, tmp_path: Path) -> Iterator[EndpointHandle]:
        handle = backend.deploy(plan, self._endpoint_carrier(plan, tmp_path))
        try:
            yield handle
        finally:
            with contextlib.suppress(Exception, AssertionError):
                self._within("delete()", handle.delete)

    # -- waiting -------------------------------------------------------------------------------

    def _within(self, what: str, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises, unless it takes too long."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again, where it is waited for
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True, name=what)
        thread.start()
        thread.join(self.patience)
        for error in errors:
            raise error
        assert answers, f"{what} has not returned within {self.patience:g} s"
        return answers[0]

    def _ended(self, handle: JobHandle) -> JobDescription:
        """Return the job's description once it is in a terminal state."""
        deadline = time.monotonic() + self.patience
        while not (description := handle.describe()).status.is_terminal:
            assert time.monotonic() < deadline, f"the job is {description.status} after {self.patience:g} s"
            time.sleep(_POLL)
        return description

    def _log_of(self, handle: JobHandle) -> list[str]:
        """Return the job's log, followed to its end."""
        lines = self._within("logs(follow=True)", lambda: list(handle.logs(follow=True)))
        description = handle.describe()
        assert description.status.is_terminal, f"the log ended, and the job is {description.status}"
        return lines

    def _settled(self, handle: EndpointHandle) -> EndpointDescription:
        """Return the endpoint's description once it is no longer being created."""
        deadline = time.monotonic() + self.patience
        while (description := handle.describe()).status is EndpointStatus.CREATING:
            assert time.monotonic() < deadline, f"the endpoint is Creating after {self.patience:g} s"
            time.sleep(_POLL)
        return description

    def _in_service(self, handle: EndpointHandle) -> EndpointDescription:
        description = self._settled(handle)
        status, reason = description.status, description.reason
        assert status is EndpointStatus.IN_SERVICE, f"the endpoint is {status}, not InService: {reason}"
        return description

    def _invoke(self, handle: EndpointHandle, body: bytes) -> Invocation:
        return self._within(
            "invoke()",
            lambda: handle.invoke(body, content_type="application/x-data", accept="application/x-answer"),
        )


def until(lines: Iterator[str], text: str) -> None:
    """Read lines up to the one that is `text`."""
    seen = []
    for line in lines:
        if line == text:
            return
        seen.append(line)
    raise AssertionError(f"the log ended without the line {text!r}: {seen}")
