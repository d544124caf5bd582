"""The backend: stages a plan in a folder, starts its guard, and finds both again by name."""

import contextlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from modelyard.core import values
from modelyard.core.carrier import as_uri
from modelyard.core.contracts import Carrier, EndpointDescription, JobDescription
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointNotFoundError,
    InvalidPlanError,
    JobExistsError,
    JobNotFoundError,
)
from modelyard.core.handover import HANDED_OVER, ISOLATED_PACKAGES, STOP_SECONDS
from modelyard.core.lazy import lazy_module
from modelyard.core.listening import listen
from modelyard.core.log import get_logger
from modelyard.core.plans import EndpointPlan, EndpointStatus, JobStatus, TrainingPlan
from modelyard.plugins.backends.local.home import absolute, default_home

if TYPE_CHECKING:
    import subprocess

    from modelyard.plugins.backends.local.guard import GuardSettings
    from modelyard.plugins.backends.local.handles import LocalEndpointHandle, LocalJobHandle
    from modelyard.plugins.backends.local.records import Record, Records
else:
    subprocess = lazy_module("subprocess")

# What stages, guards and finds again is imported when it is needed: to tell what there is takes none of it.

_OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
_OF_OTHERS = ("SAGEMAKER_", "SM_", "TORCHELASTIC_", "OMPI_COMM_", "PMI_", "PMIX_")
_SERVER_PATIENCE = "MODELYARD_SERVE_STARTUP_TIMEOUT"
_SAYS_WORKERS = re.compile(r"(MODELYARD_SERVE|SAGEMAKER_(MODEL_SERVER|TS_MAX|TS_MIN))_WORKERS").fullmatch
_log = get_logger(__name__)


@attrs.frozen
class LocalBackend:
    """Runs jobs and endpoints as processes of this machine.

    ``home``: where records and files are kept (``MODELYARD_HOME``); ``host`` and ``port``: where an
    endpoint listens, port 0 for any free one; ``invoke_timeout``: seconds to wait for an answer;
    ``stop_seconds``: how long a script or a server may take to end after SIGTERM.
    """

    name: ClassVar[str] = "local"
    instance_types: ClassVar[tuple[str, ...]] = ("local", "local_*")

    home: str = attrs.field(factory=lambda: str(default_home()), converter=absolute)
    host: str = "127.0.0.1"
    port: int = 0
    invoke_timeout: float = 60.0
    stop_seconds: float = 30.0

    @property
    def _records(self) -> "Records":
        from modelyard.plugins.backends.local.records import Records

        return Records(Path(self.home))

    # -- jobs ----------------------------------------------------------------------------------

    def submit(self, plan: TrainingPlan, carrier: Carrier, *, attached: bool = True) -> "LocalJobHandle":
        """Stage the job's hosts and start its guard.

        Raises what packing and downloading raise, `InvalidPlanError` and `JobExistsError`; nothing is
        left behind then.
        """
        from modelyard.plugins.backends.local.handles import LocalJobHandle
        from modelyard.plugins.backends.local.job_guard import JobSettings
        from modelyard.plugins.backends.local.staging import stage

        taken = self._records.add("job", plan.job_name, JobStatus.IN_PROGRESS, plan.redacted().to_json())
        if taken is None:
            raise JobExistsError(
                f"a training job called {plan.job_name!r} exists in {self.home}; use another job_name, or "
                f"PyTorch.attach({plan.job_name!r})"
            )
        with self._staging(*taken) as (record, lease):
            below = as_uri(plan.output_path or record.folder.parent).rstrip("/")
            output = f"{below}/{plan.job_name}/output"
            carrier.prepare(below)
            staged = stage(plan, record.folder, carrier)
            self._records.annotate(
                record.id, output=output, source=staged.source.as_uri(), stop_seconds=self.stop_seconds
            )
            settings = JobSettings(
                **self._guarded(record, lease), hosts=staged.hosts, output=output, max_run=plan.max_run
            )
            with record.log.open("a", encoding="utf-8") as log:
                log.writelines(f"modelyard: {note}\n" for note in staged.notes)
            told = {
                "TRAINING_JOB_NAME": plan.job_name,
                STOP_SECONDS: str(self.stop_seconds),
                ISOLATED_PACKAGES: "1",
                **staged.environ,
            }
            environ = {**_surroundings(), **told, **plan.environment}
            owned = _start_guard("job_guard", settings, record, environ, attached=attached)
        return LocalJobHandle(self._records, plan.job_name, owned)

    def jobs(self) -> Iterator[JobDescription]:
        """Yield every job of this home, the oldest first."""
        from modelyard.plugins.backends.local.handles import described

        for record in self._records.all("job"):
            try:
                yield described(record)
            except InvalidPlanError as error:
                # Of a later version, say: the others are to be seen all the same.
                _log.warning("a job cannot be shown", job=record.name, error=str(error))

    def job(self, name: str) -> "LocalJobHandle":
        """Return the job of that name. Raises `JobNotFoundError`."""
        from modelyard.plugins.backends.local.handles import LocalJobHandle

        if self._records.find("job", name) is None:
            known = [record.name for record in self._records.all("job")][-5:]
            newest = f"; the newest are {', '.join(reversed(known))}" if known else ""
            raise JobNotFoundError(f"no training job is called {name!r} in {self.home}{newest}")
        return LocalJobHandle(self._records, name)

    # -- endpoints -----------------------------------------------------------------------------

    def deploy(self, plan: EndpointPlan, carrier: Carrier) -> "LocalEndpointHandle":
        """Unpack the model, bind the socket and start the guard.

        The socket listens from now on, so a client that comes early waits instead of being refused.
        Raises what packing raises, and `EndpointExistsError`; nothing is left behind then.
        """
        from modelyard.plugins.backends.local.endpoint_guard import EndpointSettings
        from modelyard.plugins.backends.local.handles import LocalEndpointHandle

        if plan.resources.instance_count != 1:
            raise InvalidPlanError(
                "the backend 'local' serves an endpoint on one host; initial_instance_count is "
                f"{plan.resources.instance_count}"
            )
        text = plan.redacted().to_json()
        taken = self._records.add("endpoint", plan.endpoint_name, EndpointStatus.CREATING, text)
        if taken is None:
            raise EndpointExistsError(
                f"an endpoint called {plan.endpoint_name!r} is live; use another endpoint_name, or end it "
                f"with Predictor({plan.endpoint_name!r}).delete_endpoint()"
            )
        with self._staging(*taken) as (record, lease), listen(self.host, self.port) as listening:
            bundle = carrier.pack(record.folder)
            carrier.unpack(bundle.path, record.folder / "model")
            bundle.path.unlink()
            (record.folder / "modelyard.json").write_text(text, "utf-8")
            _made(record.folder / "output")
            host, port = listening.getsockname()[:2]
            self._records.annotate(record.id, host=host, port=port, stop_seconds=self.stop_seconds)
            settings = EndpointSettings(
                **self._guarded(record, lease),
                # -P: what lies in the folder that the program runs in is not to be imported by accident.
                argv=(sys.executable, "-P", "-m", "modelyard.serving"),
                base=str(record.folder),
                listen=listening.fileno(),
                startup_timeout=plan.startup_timeout,
            )
            environ = {**_surroundings(), ISOLATED_PACKAGES: "1", **_served(plan)}
            owned = _start_guard("endpoint_guard", settings, record, environ, attached=True)
        return LocalEndpointHandle(self._records, record, timeout=self.invoke_timeout, owned=owned)

    def endpoint(self, name: str) -> "LocalEndpointHandle":
        """Return the live endpoint of that name. Raises `EndpointNotFoundError`."""
        from modelyard.plugins.backends.local.handles import LocalEndpointHandle

        record = self._records.find("endpoint", name)
        if record is None or record.is_terminal:
            live = [r.name for r in self._records.all("endpoint") if not r.is_terminal]
            why = f" ({record.status}: {record.reason})" if record and record.reason else ""
            known = f"; live are {', '.join(live)}" if live else ""
            raise EndpointNotFoundError(f"no live endpoint is called {name!r} in {self.home}{why}{known}")
        return LocalEndpointHandle(self._records, record, timeout=self.invoke_timeout)

    def endpoints(self) -> Iterator[EndpointDescription]:
        """Yield every endpoint of this home, the oldest first."""
        from modelyard.plugins.backends.local.handles import described_endpoint

        for record in self._records.all("endpoint"):
            try:
                yield described_endpoint(record)
            except InvalidPlanError as error:
                _log.warning("an endpoint cannot be shown", endpoint=record.name, error=str(error))

    # -- starting ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _staging(self, record: "Record", lease: int) -> "Iterator[tuple[Record, int]]":
        """Take the record back, with its folder, if what is done meanwhile fails."""
        try:
            yield record, lease
        except BaseException:
            shutil.rmtree(record.folder, ignore_errors=True)
            self._records.discard(record)
            raise
        finally:
            os.close(lease)

    def _guarded(self, record: "Record", lease: int) -> dict[str, Any]:
        """Return what every guard is told."""
        return {"home": self.home, "record_id": record.id, "lease": lease, "grace": self.stop_seconds}


def _start_guard(
    program: str, settings: "GuardSettings", record: "Record", environ: Mapping[str, str], *, attached: bool
) -> int:
    """Start the guard and return the number of this process's hold on it, or -1."""
    from modelyard.plugins.backends.local import owner

    theirs, ours = owner.hold() if attached else (-1, -1)
    settings = attrs.evolve(settings, owner=theirs)
    module = f"modelyard.plugins.backends.local.{program}"
    try:
        with record.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, values.to_json(settings)],
                cwd=record.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=settings.inherited,
            )
    except OSError as error:
        owner.release(ours)
        raise InvalidPlanError(f"cannot start {record.kind} {record.name!r}: {error}") from error
    finally:
        if theirs >= 0:
            os.close(theirs)
    # Reaps the guard when it ends; the thread ends with this process.
    threading.Thread(target=process.wait, daemon=True, name=f"reaper of {record.name}").start()
    return ours


def _surroundings() -> dict[str, str]:
    """Return this process's variables without those of a job, or of a launcher, that it is a part of."""
    own = {"TRAINING_JOB_NAME", *HANDED_OVER, *_OF_LAUNCHERS}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in own and not name.startswith(_OF_OTHERS)
    }


def _served(plan: EndpointPlan) -> dict[str, str]:
    """Return the variables that SDK v2 gives a PyTorch model, and the user's, which win."""
    program = {"SAGEMAKER_PROGRAM": plan.source.program} if plan.source else {}
    # The guard's patience, which began before the server's does: the server does not give up first.
    patience = {_SERVER_PATIENCE: str(plan.startup_timeout)}
    # A person's machine has other things to do than to hold a model for each core.
    workers = {} if any(map(_SAYS_WORKERS, plan.environment)) else {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    return {**program, **patience, **workers, "SAGEMAKER_CONTAINER_LOG_LEVEL": "20", **plan.environment}


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
