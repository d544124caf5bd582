"""The six nouns as Protocols, and the small values that they exchange.

A provider is a class: its ``name`` is its identity and its attrs fields are its options, so a
provider is made by ``cls(**options)``. A provider need not inherit from anything here.

A new ability of a noun is a new, small Protocol that callers ask for by ``isinstance``
(`ArrayCodec` is one), never a new required method: a plugin written today goes on working.
"""

import enum
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import attrs

from modelyard.core.plans import (
    EndpointPlan,
    EndpointStatus,
    JobStatus,
    ModelSource,
    Resources,
    SourceCode,
    TrainingPlan,
)

CONTRACT_VERSION = "1.0"
"""Of these Protocols and of the hooks: an addition makes it 1.1; a removal would make it 2.0.

A plugin says by ``MODELYARD_CONTRACT`` for which version it was written, and is turned off where that is
newer than this one.
"""


# -- codecs ------------------------------------------------------------------------------------


@runtime_checkable
class Codec(Protocol):
    """Bytes of its media types to and from Python values.

    A class may declare ``suffixes`` besides, the endings of files that hold its first media type
    (``(".csv",)``): by them ``modelyard predict`` knows what it sends.
    """

    name: ClassVar[str]
    media_types: ClassVar[tuple[str, ...]]
    """What it reads and writes, lower case, without parameters; the first one is canonical."""

    def encode(self, value: object) -> bytes:
        """Return `value` (a numpy array or plain Python) as one document. Raises `EncodeError`."""
        ...

    def decode(self, body: bytes) -> object:
        """Return what the document says, as numpy or plain Python. Raises `DecodeError`."""
        ...


@runtime_checkable
class ArrayCodec(Protocol):
    """A codec of a text format, whose numbers have no dtype of their own until one is asked for."""

    def decode_array(self, body: bytes, dtype: str = "float32") -> object:
        """Return the document as one numpy array of `dtype`. Raises `DecodeError`."""
        ...


@runtime_checkable
class GuardedCodec(Protocol):
    """A codec whose documents may run code.

    A table leaves it out unless it was made with ``trusted=True``, so no client can choose it.
    """

    trusted: bool


# -- hardware and launching --------------------------------------------------------------------


@attrs.frozen
class Host:
    """One host of a job, as that host sees it.

    ``name``: its own name; ``names``: of all hosts of the job, the master first;
    ``network_interface``: the interface on which the hosts reach each other; ``addresses``: where
    they do, in the order of ``names``, which are resolved where there are none; ``master_port``: the
    port of the master at which a process group meets. The port after it is the launcher's own.
    ``master_address``: where the others reach the master, if it is not the one in ``addresses``.
    ``processes``: how many processes of the job its machine runs, once that is known.
    """

    name: str
    names: tuple[str, ...]
    network_interface: str = "eth0"
    addresses: tuple[str, ...] = ()
    master_port: int = 7777
    processes: int = 1
    _master_address: str = attrs.field(default="", alias="master_address")

    @property
    def rank(self) -> int:
        """Its place among the hosts, from 0."""
        return self.names.index(self.name)

    @property
    def master(self) -> str:
        """The name of the host that coordinates."""
        return self.names[0]

    @property
    def is_master(self) -> bool:
        """Whether it is the host that coordinates."""
        return self.name == self.master

    @property
    def address(self) -> str:
        """Where the others reach it."""
        return self.address_of(self.name)

    @property
    def master_address(self) -> str:
        """Where the others reach the master."""
        return self._master_address or self.address_of(self.master)

    @property
    def neighbours(self) -> int:
        """How many hosts of the job are this machine, itself among them."""
        return max(1, sum(address.startswith("127.") for address in self.addresses))

    def address_of(self, name: str) -> str:
        """Return where a host of the job is reached."""
        return self.addresses[self.names.index(name)] if self.addresses else name


class EntryForm(enum.StrEnum):
    """How an entry point is run."""

    SCRIPT = "script"
    """A file for the Python of the job."""
    MODULE = "module"
    """A module's dotted name, for ``python -m``."""
    SHELL = "shell"
    """A file for ``/bin/sh``."""
    EXECUTABLE = "executable"
    """A file that the operating system runs: a binary, or a script that names its interpreter."""


@attrs.frozen
class EntryPoint:
    """What the user asked to run: ``program`` with ``arguments``.

    ``program``: a path relative to ``code_dir``, or a module's name; ``form``: which of them, and how
    it is run; ``interpreter``: the Python that has the packages of the job.
    """

    program: str
    arguments: tuple[str, ...]
    code_dir: Path
    form: EntryForm = EntryForm.SCRIPT
    interpreter: str = sys.executable

    @property
    def argv(self) -> tuple[str, ...]:
        """What one process of the job runs."""
        return (*self._run_by, *self.arguments)

    @property
    def _run_by(self) -> tuple[str, ...]:
        match self.form:
            case EntryForm.MODULE:
                return (self.interpreter, "-m", self.program)
            case EntryForm.SHELL:
                return ("/bin/sh", self.program)
            case EntryForm.EXECUTABLE:
                return (f"./{self.program}",)
        return (self.interpreter, self.program)


@attrs.frozen
class Command:
    """What one host runs: ``argv``, with ``environ`` added to the job's own, in ``cwd``.

    ``ranks``: how many processes of the job it starts that open streams of their own, by
    `modelyard.core.handover.STREAMS`; 0 where its own output is all that there is.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path
    ranks: int = 0


class Hardware(Protocol):
    """One kind of device: count it, talk over it, put a model on it."""

    name: ClassVar[str]
    device_type: ClassVar[str]
    """What torch calls the device: ``cpu``, ``cuda``, ``xla``."""
    collectives: ClassVar[tuple[str, ...]]
    """Process-group backends, the preferred one first: ``("nccl", "gloo")``."""
    instance_types: ClassVar[tuple[str, ...]]
    """Shell-style patterns of the instance types that mean this hardware: ``("ml.p*", "ml.g*")``."""

    def device_count(self) -> int:
        """Return how many devices this machine has; 0 means none. Never raises, never imports torch."""
        ...

    def environ(self, host: Host) -> Mapping[str, str]:
        """Return the variables that the process group needs on `host`. Changes nothing."""
        ...

    def load(self, model_dir: Path) -> object:
        """Load the one model in `model_dir` without the user's help: the default ``model_fn``."""
        ...

    def place(self, value: object, index: int = 0) -> object:
        """Return the array, tensor or module, or the arrays of a dict, on device `index`; else as it is."""
        ...

    def predict(self, model: object, value: object) -> object:
        """Call the model on a placed value, without recording gradients."""
        ...

    def fetch(self, value: object) -> object:
        """Return the value with each tensor in it as a numpy array in host memory."""
        ...


@runtime_checkable
class BatchingHardware(Protocol):
    """Hardware on which the inputs of several requests can be one input."""

    def batch_key(self, value: object) -> Hashable | None:
        """Return what inputs that can be stacked have in common; None for one that goes with no other."""
        ...

    def stack(self, values: Sequence[object]) -> tuple[object, Sequence[int]]:
        """Return inputs of one `batch_key`, joined along the first dimension, and the rows of each."""
        ...

    def split(self, prediction: object, sizes: Sequence[int]) -> Sequence[object]:
        """Return a prediction's rows, cut by `sizes`. Raises ``ValueError`` if it has not that many."""
        ...


@runtime_checkable
class DescribedHardware(Protocol):
    """Hardware that can say what it has found."""

    def describe(self) -> str:
        """Return which devices this machine has, or why none, on one line. Never raises."""
        ...


@runtime_checkable
class CheckingHardware(Protocol):
    """Hardware that does not go with all resources."""

    def check(self, resources: Resources) -> None:
        """Raise `InvalidPlanError` where it does not go with these."""
        ...


@runtime_checkable
class PreparingHardware(Protocol):
    """Hardware that has a say in how the processes of a job are started."""

    def prepare(self, command: Command, host: Host, environ: Mapping[str, str]) -> Command:
        """Return what `host` runs instead of `command`, whose variables will be `environ`.

        Raises `InvalidPlanError` for what it cannot run.
        """
        ...


@runtime_checkable
class WorkerHardware(Protocol):
    """Hardware that the workers of an endpoint need variables for."""

    def worker_environ(self, index: int) -> Mapping[str, str]:
        """Return the variables of the worker that has device `index`, with regard to those there are."""
        ...


@runtime_checkable
class RecoveringHardware(Protocol):
    """Hardware that a request may leave in disorder, or beyond repair."""

    def recover(self, error: BaseException) -> bool:
        """Put in order what a request that raised `error` has left; tell whether the device still works.

        Called after the request's end, on its thread. False: only another process can use the device.
        """
        ...


class Launcher(Protocol):
    """From an entry point to the command that one host runs. Pure: it never spawns."""

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    """The keys of ``distribution={...}`` that select it; empty for the launcher of no distribution."""

    def command(self, entry: EntryPoint, host: Host, hardware: Hardware) -> Command:
        """Return what `host` runs. Raises `InvalidPlanError` for what it cannot launch."""
        ...


@runtime_checkable
class ProfiledLauncher(Protocol):
    """A launcher that says which variables and arguments its scripts expect."""

    profile: str
    """``toolkit``: those of SageMaker's training toolkit; ``drivers``: those of SDK v3's drivers."""


@runtime_checkable
class CheckingLauncher(Protocol):
    """A launcher whose options do not go with all resources."""

    def check(self, resources: Resources) -> None:
        """Raise `InvalidPlanError` where they do not go with these."""
        ...


@attrs.frozen
class RankFailure:
    """Which process of a job failed first. ``status``: its exit code, or minus the signal's number."""

    rank: int
    status: int


@runtime_checkable
class DiagnosingLauncher(Protocol):
    """A launcher whose tool reports which process failed first."""

    def first_failure(self, stderr: str) -> RankFailure | None:
        """Return what the tool's report at the end of its standard error says; None without one."""
        ...


# -- packaging and storage ---------------------------------------------------------------------


@attrs.frozen
class Bundle:
    """An archive on this machine.

    ``path``: the file; ``digest``: SHA-256 (hex) of its canonical content, the same for the same
    content whatever the compressor; ``files``: how many; ``size``: bytes of the file.
    """

    path: Path
    digest: str
    files: int
    size: int


class Packager(Protocol):
    """Source and model archives: their layout, their digest, and how to open them safely."""

    name: ClassVar[str]

    def pack_source(self, source: SourceCode, into: Path) -> Bundle:
        """Write the source archive into the folder `into`. Raises `PackagingError`."""
        ...

    def pack_model(self, model: Path, source: SourceCode | None, into: Path) -> Bundle:
        """Write a model archive into the folder `into`: `model` with `source` as its code.

        `model` is a model archive or a folder with the model's files. Where `source` is None the
        code that the model brings is kept. Raises `PackagingError`.
        """
        ...

    def pack_tree(self, folder: Path, archive: Path) -> Bundle:
        """Write the content of `folder` to the file `archive`, links followed. Raises `PackagingError`."""
        ...

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack an archive into the new or empty folder `into`; `into` appears whole or not at all.

        Raises `PackagingError` for a damaged archive and `UnsafeArchiveError` for a hostile one.
        """
        ...


@attrs.frozen
class Splice:
    """A model archive with other code: `before`, the old archive's bytes from `start` to `stop`, and `after`.

    ``digest`` and ``files``: those of a `Bundle` of it.
    """

    before: bytes
    start: int
    stop: int
    after: bytes
    digest: str
    files: int


@runtime_checkable
class SplicingPackager(Protocol):
    """A packager that can give an archive other code without having it: where ranges can be copied."""

    def code_ends(self, head: bytes) -> int | None:
        """Return how many bytes of a model archive have to be known to `splice` it.

        `head`: its first 4 KiB. None where only reading all of the archive can tell what is in it.
        """
        ...

    def splice(
        self, head: bytes, size: int, trailer: bytes, source: SourceCode, *, at_least: int = 0
    ) -> Splice | None:
        """Return what to put around a range of a model archive so that `source` is its code.

        `head`: its first `code_ends` bytes; `size`: of all of it; `trailer`: its last 8 bytes;
        `at_least`: bytes to put before the range. The result is what `pack_model` makes, with the same
        digest. None where only reading all of the archive can tell whether that is right. Raises
        `PackagingError`.
        """
        ...


class Storage(Protocol):
    """One or more URI schemes: trees and objects, in and out."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]

    def download(self, uri: str, into: Path) -> None:
        """Bring what is at `uri` into the folder `into`: a tree's content, or the one file.

        Raises `StorageError` where there is nothing.
        """
        ...

    def upload(self, path: Path, uri: str) -> str:
        """Write the file or tree at `path` to `uri` and return the URI it can be read from.

        The same upload once more is no error; other content that is there already is never
        overwritten: `StorageError`.
        """
        ...

    def prepare(self, uri: str) -> None:
        """Make sure now that an upload below `uri` can succeed later. Raises `StorageError`."""
        ...


@runtime_checkable
class KeepingStorage(Protocol):
    """A storage that can leave alone what is there, where URIs name their content (by its digest, say)."""

    def upload_if_absent(self, path: Path, uri: str) -> bool:
        """Write the file `path` to `uri` unless something is there; tell whether it was written."""
        ...


# -- backends ----------------------------------------------------------------------------------


@attrs.frozen
class JobDescription:
    """A training job at one moment.

    ``reason`` says why it is Failed or Stopped; ``model_data`` is the URI of ``model.tar.gz`` once
    the job is Completed; ``source_data`` that of the source archive; ``log`` says where the whole
    log is, for a person to open; ``created`` and ``ended``: when, in seconds since 1970 (UTC).
    """

    name: str
    status: JobStatus
    plan: TrainingPlan
    reason: str = ""
    model_data: str | None = None
    source_data: str | None = None
    log: str = ""
    created: float | None = None
    ended: float | None = None


@attrs.frozen
class Metric:
    """One value that a job's log showed. ``time``: when, in seconds since 1970 (UTC)."""

    name: str
    value: float
    time: float
    host: str


@attrs.frozen
class EndpointDescription:
    """An endpoint at one moment.

    ``reason`` says why it is Failed; ``url``: where it listens, for a backend that can tell; ``log`` says
    where the whole log is; ``created`` and ``ended``: when, in seconds since 1970 (UTC).
    """

    name: str
    status: EndpointStatus
    plan: EndpointPlan
    reason: str = ""
    url: str | None = None
    log: str = ""
    created: float | None = None
    ended: float | None = None


@attrs.frozen
class Invocation:
    """What an endpoint answered: the body and its media type."""

    body: bytes
    content_type: str


class JobHandle(Protocol):
    """A training job that was submitted, wherever it runs."""

    name: str

    def describe(self) -> JobDescription:
        """Return how it stands now."""
        ...

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the log's lines without their newline; with `follow`, until the job has ended."""
        ...

    def stop(self) -> None:
        """End the job's processes; returns once the job is in a terminal state."""
        ...


@runtime_checkable
class MeasuredJob(Protocol):
    """A job whose ``metric_definitions`` are looked for in its log."""

    def metrics(self) -> Sequence[Metric]:
        """Return the values so far, the oldest first."""
        ...


@runtime_checkable
class InterruptibleJob(Protocol):
    """A job that can be interrupted as a spot instance is."""

    def interrupt(self) -> None:
        """End the script with SIGTERM and its time of grace, and start it again with its checkpoints."""
        ...


class EndpointHandle(Protocol):
    """An endpoint that was deployed, wherever it runs."""

    name: str

    def describe(self) -> EndpointDescription:
        """Return how it stands now. Raises `EndpointNotFoundError` once it is deleted."""
        ...

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the log's lines without their newline; with `follow`, until the endpoint has ended."""
        ...

    def invoke(self, body: bytes, *, content_type: str, accept: str) -> Invocation:
        """Send one request. Raises `InvocationError` for an answer of 400 and above."""
        ...

    def delete(self) -> None:
        """End the endpoint and free its name; returns once its processes are gone."""
        ...


@runtime_checkable
class ReloadableEndpoint(Protocol):
    """An endpoint that can load its model anew without a request that fails."""

    def reload(self) -> None:
        """Have the model loaded anew; the old one answers until the new one can. Returns at once.

        Raises `EndpointError` where the endpoint is not in service.
        """
        ...


@runtime_checkable
class StreamingEndpoint(Protocol):
    """An endpoint that can be asked for an answer piece by piece."""

    def invoke_stream(self, body: bytes, *, content_type: str, accept: str) -> Iterator[bytes]:
        """Send one request, and yield the answer's bytes as they come. Raises as `invoke` does."""
        ...


class Carrier(Protocol):
    """A plan's files, moved by the packager and the storages that belong to it.

    A backend is handed one with each plan: it decides where files go, the carrier knows how.
    """

    def using(self, scheme: str, options: Mapping[str, object]) -> "Carrier":
        """Return a carrier that gives these options to the storage of a scheme: whose account, which key.

        It uses them for what the plan's archive is packed from as well.
        """
        ...

    def pack(self, into: Path) -> Bundle:
        """Write the plan's archive (source for a job, model for an endpoint) into `into`."""
        ...

    def unpack(self, archive: Path, into: Path) -> None:
        """Unpack an archive into the new or empty folder `into`."""
        ...

    def download(self, uri: str, into: Path) -> None:
        """Bring what is at `uri` into the folder `into`."""
        ...

    def upload(self, path: Path, uri: str) -> str:
        """Write the file or tree at `path` to `uri`; return the URI it can be read from."""
        ...

    def upload_once(self, path: Path, uri: str) -> None:
        """Write the file `path` to a `uri` that names its content, unless something is there."""
        ...

    def prepare(self, uri: str) -> None:
        """Make sure now that an upload below `uri` can succeed later."""
        ...


@runtime_checkable
class SplicingCarrier(Protocol):
    """A carrier that can give a model archive other code where it is, instead of `Carrier.pack`."""

    def code_ends(self, head: bytes) -> int | None:
        """Return how many bytes of an archive `splice` needs, None where it is to be packed."""
        ...

    def splice(self, head: bytes, size: int, trailer: bytes, *, at_least: int = 0) -> Splice | None:
        """Return what to put around a range of an archive to make the plan's, as of `SplicingPackager`."""
        ...


class Backend(Protocol):
    """Where jobs and endpoints run."""

    name: ClassVar[str]
    instance_types: ClassVar[tuple[str, ...]]
    """Shell-style patterns of the instance types that it offers: ``("local", "local_*")``."""

    def submit(self, plan: TrainingPlan, carrier: Carrier, *, attached: bool = True) -> JobHandle:
        """Start a training job. Everything that can be known to be wrong is raised before it runs.

        `attached`: the job ends when this process dies without saying so. Raises `JobExistsError`.
        """
        ...

    def deploy(self, plan: EndpointPlan, carrier: Carrier) -> EndpointHandle:
        """Start an endpoint; it may still be loading its model. Raises `EndpointExistsError`."""
        ...

    def job(self, name: str) -> JobHandle:
        """Return the job of that name. Raises `JobNotFoundError`."""
        ...

    def endpoint(self, name: str) -> EndpointHandle:
        """Return the live endpoint of that name. Raises `EndpointNotFoundError`."""
        ...


@runtime_checkable
class ListingBackend(Protocol):
    """A backend that knows its jobs."""

    def jobs(self) -> Iterable[JobDescription]:
        """Return every job that is known, the oldest first."""
        ...


@runtime_checkable
class EndpointListingBackend(Protocol):
    """A backend that knows its endpoints."""

    def endpoints(self) -> Iterable[EndpointDescription]:
        """Return every endpoint that is known, the oldest first; also those that have ended."""
        ...


__all__ = [
    "CONTRACT_VERSION",
    "ArrayCodec",
    "Backend",
    "BatchingHardware",
    "Bundle",
    "Carrier",
    "CheckingHardware",
    "CheckingLauncher",
    "Codec",
    "Command",
    "DescribedHardware",
    "DiagnosingLauncher",
    "EndpointDescription",
    "EndpointHandle",
    "EndpointListingBackend",
    "EntryForm",
    "EntryPoint",
    "GuardedCodec",
    "Hardware",
    "Host",
    "InterruptibleJob",
    "Invocation",
    "JobDescription",
    "JobHandle",
    "KeepingStorage",
    "Launcher",
    "ListingBackend",
    "MeasuredJob",
    "Metric",
    "ModelSource",
    "Packager",
    "PreparingHardware",
    "ProfiledLauncher",
    "RankFailure",
    "RecoveringHardware",
    "ReloadableEndpoint",
    "Resources",
    "SourceCode",
    "Splice",
    "SplicingCarrier",
    "SplicingPackager",
    "Storage",
    "StreamingEndpoint",
    "WorkerHardware",
]
