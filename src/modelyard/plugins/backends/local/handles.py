"""What a client holds of a local job and a local endpoint."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from modelyard.core.contracts import EndpointDescription, Invocation, JobDescription, Metric
from modelyard.core.errors import (
    EndpointError,
    EndpointFailedError,
    EndpointNotFoundError,
    InvalidPlanError,
    InvocationError,
    JobError,
    JobNotFoundError,
    ModelyardError,
    StorageError,
)
from modelyard.core.layout import JobLayout
from modelyard.core.metrics import read
from modelyard.core.plans import EndpointPlan, EndpointStatus, JobStatus, TrainingPlan
from modelyard.plugins.backends.local import owner
from modelyard.plugins.backends.local.home import INTERRUPTED
from modelyard.plugins.backends.local.records import Record, Records, lease_is_held

if TYPE_CHECKING:
    import urllib3

_POLL = 0.05
_UNAVAILABLE = 503
_LOG_TAIL = 1 << 18
_HEADERS = {
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
}
"""What of ``InvokeEndpoint`` reaches a container, by the names there."""
_MOST_OF_A_HEADER = 1024
"""Characters, on SageMaker."""
_ENDED_WITHIN = 15.0
"""Seconds beyond those that the script or the server has."""
_SAID_WITHIN = 5.0
"""Seconds for a guard to say of a server that has ended why."""


def described(record: Record) -> JobDescription:
    """Return a job as its record has it. Raises `InvalidPlanError` for a plan that cannot be read."""
    delivered = record.is_terminal and record.details.get("delivered")
    return JobDescription(
        name=record.name,
        status=JobStatus(record.status),
        plan=TrainingPlan.from_json(record.plan),
        reason=record.reason,
        model_data=f"{record.details['output']}/model.tar.gz" if delivered else None,
        source_data=record.details.get("source"),
        log=str(record.log),
        created=record.created,
        ended=record.changed if record.is_terminal else None,
    )


def described_endpoint(record: Record) -> EndpointDescription:
    """Return an endpoint as its record has it. Raises `InvalidPlanError` for a plan that cannot be read."""
    return EndpointDescription(
        name=record.name,
        status=EndpointStatus(record.status),
        plan=EndpointPlan.from_json(record.plan),
        reason=record.reason,
        url=_url(record),
        log=str(record.log),
        created=record.created,
        ended=record.changed if record.is_terminal else None,
    )


class LocalJobHandle:
    """A training job of this machine."""

    def __init__(self, records: Records, name: str, owned: int = -1) -> None:
        self.name = name
        self._records = records
        self._owned = owned

    def describe(self) -> JobDescription:
        """Return how the job stands now. Raises `JobNotFoundError`."""
        record = self._record()
        if record.is_terminal:
            owner.release(self._owned)
        return described(record)

    def metrics(self) -> tuple[Metric, ...]:
        """Return what the metrics of the plan were on all hosts, the oldest value first."""
        found = (
            attrs.evolve(metric, host=host.name)
            for host in self._record().folder.glob("algo-*")
            for run in (host, *host.glob(INTERRUPTED.format("*")))
            for metric in read(JobLayout(run).metrics)
        )
        return tuple(sorted(found, key=lambda metric: metric.time))

    def interrupt(self) -> None:
        """Have the job interrupted as a spot instance is: its hosts end, and start again.

        Returns at once; does nothing to a job that has ended.
        """
        record = self._record()
        if not record.is_terminal and (pid := _guard_pid(self._records, record)):
            _signal_holder(record.folder, pid, signal.SIGUSR1)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of the job's log; with `follow`, until the job has ended."""
        return _lines(self._record().log, lambda: follow and not self._record().is_terminal)

    def stop(self) -> None:
        """End the job and wait for it: SIGTERM to the script, SIGKILL when its grace is over."""
        record = self._record()
        self._records.move(record.id, JobStatus.STOPPING, since=(JobStatus.IN_PROGRESS,))
        _end_guard(self._records, record, JobError)

    def _record(self) -> Record:
        record = self._records.find("job", self.name)
        if record is None:
            raise JobNotFoundError(f"no training job is called {self.name!r} in {self._records.home}")
        return record


class LocalEndpointHandle:
    """An endpoint of this machine. One connection pool; may be shared by threads."""

    def __init__(self, records: Records, record: Record, *, timeout: float, owned: int = -1) -> None:
        self.name = record.name
        self._records = records
        self._id = record.id
        self._timeout = timeout
        self._owned = owned
        self._pool: urllib3.HTTPConnectionPool | None = None

    def describe(self) -> EndpointDescription:
        """Return how the endpoint stands now. Raises `EndpointNotFoundError` once it is deleted."""
        record = self._records.current(self._id)
        if record.is_terminal:
            owner.release(self._owned)
        if record.status == EndpointStatus.DELETED:
            raise EndpointNotFoundError(f"endpoint {self.name!r} was deleted")
        return described_endpoint(record)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of the endpoint's log; with `follow`, until the endpoint has ended."""
        log = self._records.get(self._id).log
        return _lines(log, lambda: follow and not self._records.current(self._id).is_terminal)

    def invoke(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str,
        arguments: Mapping[str, str] | None = None,
    ) -> Invocation:
        """Send one request to ``/invocations``; while the model is being loaded, wait for it.

        `arguments`: ``CustomAttributes`` and ``InferenceId``, which the script gets as SageMaker sends them.
        Raises `InvalidPlanError` for others, `InvocationError` for an answer of 400 and above or none in
        time, `EndpointFailedError` where the endpoint has ended.
        """
        answer = self._answered(body, self._headers(content_type, accept, arguments))
        return Invocation(answer.data, answer.headers.get("Content-Type", ""))

    def invoke_stream(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str,
        arguments: Mapping[str, str] | None = None,
    ) -> Iterator[bytes]:
        """Send one request, and yield the answer piece by piece as it comes.

        Raises as `invoke` does, and `EndpointError` where the answer breaks off.
        """
        import urllib3

        headers = self._headers(content_type, accept, arguments)
        answer = self._answered(body, headers, preload_content=False)
        try:
            yield from answer.stream()
        except urllib3.exceptions.HTTPError as error:
            text = f"the answer of endpoint {self.name!r} broke off: {error}. {self._see_log()}"
            raise EndpointError(text) from error
        finally:
            answer.close()  # What is not read to its end leaves a connection that is of no more use.

    def reload(self) -> None:
        """Have the server load the model's folder anew; the old model answers until then.

        Returns at once. Raises `EndpointError` where the endpoint is not in service.
        """
        record = self._records.current(self._id)
        if record.status != EndpointStatus.IN_SERVICE:
            raise EndpointError(f"endpoint {self.name!r} is {record.status}, and has no model to load anew")
        if pid := _guard_pid(self._records, record):
            _signal_holder(record.folder, pid, signal.SIGHUP)

    def _headers(self, content_type: str, accept: str, arguments: Mapping[str, str] | None) -> dict[str, str]:
        """Return a request's headers, where `arguments` can be some. Raises `InvalidPlanError`."""
        headers = {"Content-Type": content_type, "Accept": accept}
        for name, value in (arguments or {}).items():
            if name not in _HEADERS:
                raise InvalidPlanError(
                    f"the endpoint {self.name!r} takes no {name}: it is of this machine, and has one model"
                )
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise InvalidPlanError(f"{name} is a text of printable ASCII, not {value!r}")
            if len(value) > _MOST_OF_A_HEADER:
                raise InvalidPlanError(f"{name} has {len(value)} characters, and {_MOST_OF_A_HEADER} at most")
            headers[_HEADERS[name]] = value
        return headers

    def _answered(
        self, body: bytes, headers: Mapping[str, str], *, preload_content: bool = True
    ) -> "urllib3.BaseHTTPResponse":
        """Return an answer below 400, the second one where the endpoint had yet to come into service."""
        asked = time.time()
        answer = self._post(body, headers, preload_content=preload_content)
        if answer.status == _UNAVAILABLE and self._has_come_into_service(asked):
            answer.close()
            answer = self._post(body, headers, preload_content=preload_content)
        if answer.status >= 400:
            raise InvocationError(self.name, answer.status, _said(answer), self._why(answer))
        return answer

    def _post(
        self, body: bytes, headers: Mapping[str, str], *, preload_content: bool
    ) -> "urllib3.BaseHTTPResponse":
        import urllib3

        try:
            return self._connections().request(
                "POST", "/invocations", body=body, headers=headers, preload_content=preload_content
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            said = f"no answer within {self._timeout:g} s"
            raise InvocationError(self.name, 504, said, self._see_log()) from error
        except urllib3.exceptions.HTTPError as error:
            reason = self._last_words() or f"it cannot be reached: {error}"
            raise EndpointFailedError(self.name, reason, self._see_log()) from error

    def _last_words(self) -> str:
        """Return why the endpoint has ended; waits for its guard to say so where nobody listens any more."""
        deadline = time.monotonic() + _SAID_WITHIN
        while not (description := self.describe()).status.is_terminal and time.monotonic() < deadline:
            if self._is_listened_at():
                break
            time.sleep(_POLL)
        return description.reason

    def _is_listened_at(self) -> bool:
        details = self._records.get(self._id).details
        with contextlib.suppress(OSError), socket.create_connection((details["host"], details["port"]), 1.0):
            return True
        return False

    def _has_come_into_service(self, since: float) -> bool:
        """Wait for an endpoint that is being created; tell whether it came into service after `since`."""
        deadline = time.monotonic() + self._timeout
        first = record = self._records.current(self._id)
        while record.status == EndpointStatus.CREATING and time.monotonic() < deadline:
            time.sleep(_POLL)
            record = self._records.current(self._id)
        new = first.status == EndpointStatus.CREATING or record.changed >= since
        return new and record.status == EndpointStatus.IN_SERVICE

    def delete(self) -> None:
        """End the endpoint, wait for its processes to be gone, and free its name."""
        record = self._records.current(self._id)
        live = (EndpointStatus.CREATING, EndpointStatus.IN_SERVICE)
        self._records.move(record.id, EndpointStatus.DELETING, since=live)
        _end_guard(self._records, record, EndpointError)
        owner.release(self._owned)
        if self._pool is not None:
            self._pool.close()

    def _connections(self) -> "urllib3.HTTPConnectionPool":
        if self._pool is None:
            import urllib3

            record = self._records.get(self._id)
            timeout = urllib3.Timeout(connect=5.0, read=self._timeout)
            self._pool = urllib3.HTTPConnectionPool(
                record.details["host"], record.details["port"], timeout=timeout, retries=False, maxsize=8
            )
        return self._pool

    def _why(self, answer: "urllib3.BaseHTTPResponse") -> str:
        """Return what is behind an answer: the exception, which clients are not told, from the log."""
        request_id = answer.headers.get("x-request-id", "")
        raised = self._raised(request_id) if answer.status >= 500 else []
        which = f" (this was request {request_id})" if request_id else ""
        return "\n".join([*raised, f"{self._see_log()}{which}"])

    def _raised(self, request_id: str) -> list[str]:
        """Return the line of the exception that the log has of a request, if it has one."""
        log = self._records.get(self._id).log
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            text = file.read().decode("utf-8", "replace")
        _, found, trace = text.rpartition(f"request_id={request_id!r}\n")
        raised = [line for line in trace.splitlines() if line and not line[0].isspace()] if found else []
        # The first line is the traceback's header; what is not indented after it is the exception.
        return raised[1:2]

    def _see_log(self) -> str:
        return f"The endpoint's log is {self._records.get(self._id).log}"


def _url(record: Record) -> str | None:
    if "port" not in record.details:
        return None
    return f"http://{record.details['host']}:{record.details['port']}"


def _said(answer: "urllib3.BaseHTTPResponse") -> str:
    """Return the server's own words, which are JSON with the key ``error``."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.data[:500].decode("utf-8", "replace")


def _end_guard(records: Records, record: Record, error: type[ModelyardError]) -> None:
    """Signal the guard and wait until it has recorded the end and let go of its lease.

    The signal goes through a pidfd, opened before the lease is looked at: while a guard holds its
    lease the descriptor is that guard's and nobody else's. Raises `error` where it does not end.
    """
    # Twice: for the script, and for what it leaves to be delivered.
    deadline = time.monotonic() + 2 * record.details.get("stop_seconds", 0.0) + _ENDED_WITHIN
    signalled = False
    while lease_is_held(record.folder):
        if time.monotonic() > deadline:
            raise error(f"{record.kind} {record.name!r} does not end, and holds {record.folder}")
        if not signalled and (pid := records.get(record.id).details.get("pid")):
            signalled = _signal_holder(record.folder, int(pid), signal.SIGTERM)
        time.sleep(0.01)
    records.current(record.id)


def _guard_pid(records: Records, record: Record) -> int:
    """Return the pid of a record's guard once it can be signalled, 0 where it has ended before."""
    deadline = time.monotonic() + _ENDED_WITHIN
    while lease_is_held(record.folder) and time.monotonic() < deadline:
        if pid := records.get(record.id).details.get("pid"):
            return int(pid)
        time.sleep(0.01)
    return 0


def _signal_holder(folder: Path, pid: int, sig: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, sig)
            return True
        descriptor = os.pidfd_open(pid)
        try:
            if lease_is_held(folder):
                signal.pidfd_send_signal(descriptor, sig)
        finally:
            os.close(descriptor)
    return True


def _lines(path: Path, more_to_come: Callable[[], bool]) -> Iterator[str]:
    """Yield a growing file's lines until `more_to_come` says no, and then the rest."""
    partial = b""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise StorageError(f"the log '{path}' is gone: somebody has removed it") from None
    with file:
        last = False
        while True:
            if chunk := file.read(1 << 16):
                *complete, partial = (partial + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in complete)
            elif last:
                break
            elif more_to_come():
                time.sleep(_POLL)
            else:
                last = True
    if partial:
        yield partial.decode("utf-8", "replace")
