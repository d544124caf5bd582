"""A job and an endpoint as frozen values: printed, compared, saved as JSON, handed to any backend."""

import enum
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.core.redaction import redact, without_login
from modelyard.core.values import freeze, from_json, thaw, to_json

if TYPE_CHECKING:
    from datetime import datetime

# As strings: compiling them takes longer than most jobs need to use one.
_NAME = r"(?!.{64})[A-Za-z0-9](-*[A-Za-z0-9])*"
_CHANNEL = r"[A-Za-z0-9._-]{1,64}"


class JobStatus(enum.StrEnum):
    """The states of a training job, by SageMaker's names."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended; a terminal state never changes."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED)


class EndpointStatus(enum.StrEnum):
    """The states of an endpoint, by SageMaker's names; ``Deleted`` is what is left in the records."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    DELETING = "Deleting"
    FAILED = "Failed"
    DELETED = "Deleted"

    @property
    def is_terminal(self) -> bool:
        """Whether the endpoint has ended; a terminal state never changes."""
        return self in (EndpointStatus.FAILED, EndpointStatus.DELETED)


def check_name(what: str, name: str) -> str:
    """Return `name` if SageMaker would take it as the name of a job or an endpoint.

    Raises `InvalidPlanError` otherwise: names become folders, so nothing else is let through.
    """
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise InvalidPlanError(
            f"{what} {name!r} is not a valid name: use 1 to 63 letters, digits and hyphens, "
            "starting and ending with a letter or digit"
        )
    return name


def unique_name(base: str, now: "datetime | None" = None) -> str:
    """Return ``<base>-<UTC time to the millisecond>-<4 hex digits>``, cut to 63 characters.

    SDK v2 has the same shape without the digits, and two jobs of one millisecond collide there.
    """
    from datetime import UTC, datetime

    moment = now or datetime.now(UTC)
    suffix = f"{moment:%Y-%m-%d-%H-%M-%S}-{moment.microsecond // 1000:03d}-{os.urandom(2).hex()}"
    stem = re.sub(r"[^A-Za-z0-9]+", "-", base).strip("-")[: 62 - len(suffix)].rstrip("-")
    return f"{stem or 'job'}-{suffix}"


def _names(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidPlanError(f"a list of paths is expected, not the string {value!r}")
    return tuple(value)


def _frozen_mapping(value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    frozen: Mapping[str, Any] = freeze(value or {})
    return frozen


class JsonValue:
    """What every plan value can do: become JSON and come back from it."""

    __slots__ = ()

    def to_json(self) -> str:
        """Return the value as indented JSON."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the value that `to_json` wrote. Raises `InvalidPlanError`."""
        return from_json(cls, text)


@attrs.frozen
class ProviderRef(JsonValue):
    """Which provider a plan uses: its name, its options, and the distribution that it came from.

    The job compares ``distribution`` and ``version`` with what is installed where it runs.
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen_mapping)
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        options = ", ".join(f"{key}={thaw(value)!r}" for key, value in self.options.items())
        origin = f" from {self.distribution} {self.version}" if self.distribution else ""
        return f"{self.name}({options}){origin}" if options else f"{self.name}{origin}"


_INSTALLED_FROM = frozenset({"pyproject.toml", "requirements.txt", "setup.py"})
"""Files of a source by which pip brings modules that are not in it."""


def _expanded(path: str | os.PathLike[str]) -> str:
    return os.path.expanduser(os.fspath(path))  # noqa: PTH111 - a Path would spoil a URI


def _no_option(program: str) -> str:
    if program.startswith("-"):
        raise InvalidPlanError(
            f"the program {program!r} would be taken for an option of its interpreter: rename it so that it "
            "does not begin with '-'; a module is '-m package.module'"
        )
    return program


@attrs.frozen
class SourceCode(JsonValue):
    """The user's code: ``entry_point`` inside ``source_dir``, with ``dependencies`` beside it.

    ``entry_point``: a file, or ``-m package.module``; ``source_dir``: a folder, a ``.tar.gz`` of one,
    or None where ``entry_point`` is a file of its own; ``dependencies``: further files and folders,
    copied next to the entry point.
    """

    entry_point: str
    source_dir: str | None = None
    dependencies: tuple[str, ...] = attrs.field(default=(), converter=_names)

    @classmethod
    def of(
        cls,
        entry_point: str | os.PathLike[str],
        source_dir: str | os.PathLike[str] | None,
        dependencies: Iterable[str | os.PathLike[str]],
    ) -> Self:
        """Return the source code at paths as a person gives them: of any kind, also with ``~``."""
        if isinstance(dependencies, str):
            raise InvalidPlanError(f"dependencies must be a list of paths, not {dependencies!r}")
        return cls(
            _expanded(entry_point),
            None if source_dir is None else _expanded(source_dir),
            tuple(_expanded(path) for path in dependencies),
        )

    @property
    def module(self) -> str | None:
        """The module's dotted name where the entry point is ``-m package.module``, else None."""
        flag, *names = self.entry_point.split() or [""]
        if flag != "-m":
            return None
        if len(names) != 1 or not re.fullmatch(r"[^./\\]+(\.[^./\\]+)*", names[0]):
            raise InvalidPlanError(
                f"entry point {self.entry_point!r} names no module: write '-m package.module', with dots "
                "between the names; what the script is given goes into hyperparameters"
            )
        return names[0]

    @property
    def program(self) -> str:
        """The entry point's path inside the archive, with forward slashes; or ``-m package.module``."""
        if self.module is not None:
            if self.source_dir is None:
                raise InvalidPlanError(
                    f"entry point {self.entry_point!r} is a module: pass the folder that holds its package "
                    "as source_dir"
                )
            return f"-m {self.module}"
        path = self.entry_point.replace("\\", "/")
        if self.source_dir is None:
            return _no_option(PurePath(path).name)
        inside = os.path.normpath(path)
        if PurePath(inside).is_absolute():
            inside = os.path.relpath(inside, self.source_dir)
        if ".." in PurePath(inside).parts:
            raise InvalidPlanError(
                f"entry point {self.entry_point!r} is outside source_dir {self.source_dir!r}; "
                "give its path relative to source_dir"
            )
        return _no_option(PurePath(inside).as_posix())

    def redacted(self) -> Self:
        """Return where the code is, without the logins of URIs."""
        return attrs.evolve(
            self,
            entry_point=without_login(self.entry_point),
            source_dir=self.source_dir and without_login(self.source_dir),
            dependencies=map(without_login, self.dependencies),
        )

    def check_module(self, files: Collection[str]) -> None:
        """Raise `InvalidPlanError` where the module is not among `files`, nor may pip bring it.

        `files`: the names of the source's files, with forward slashes. What has the top of the name
        in the source is looked for there alone, as Python does.
        """
        if self.module is None:
            return
        path = self.module.replace(".", "/")
        if not {f"{path}.py", f"{path}/__main__.py"}.isdisjoint(files):
            return
        top = path.partition("/")[0]
        here = not {f"{top}.py", f"{top}/__init__.py"}.isdisjoint(files)
        if not here and not _INSTALLED_FROM.isdisjoint(files):
            return
        modules = (
            name.removesuffix(".py").removesuffix("/__main__") for name in files if name.endswith(".py")
        )
        known = {name.replace("/", ".") for name in modules if not name.endswith("__init__")}
        raise InvalidPlanError(
            f"module {self.module!r} is not in the source{did_you_mean(self.module, known)}"
        )


@attrs.frozen
class ModelSource(JsonValue):
    """Where a model comes from: the URI or path of a ``model.tar.gz`` or of a folder."""

    uri: str


class InputMode(enum.StrEnum):
    """How a script gets at a channel's data, by SageMaker's names."""

    FILE = "File"
    """Files in the channel's folder, the job's own to do with what it likes."""
    PIPE = "Pipe"
    """A named pipe ``<channel>_<epoch>`` for each pass over the data."""
    FAST_FILE = "FastFile"
    """Files in the channel's folder, read where they lie: nothing is copied, nothing can be written."""


class Replication(enum.StrEnum):
    """Which host gets which of a channel's files, by SageMaker's names."""

    FULL = "FullyReplicated"
    SHARDED = "ShardedByS3Key"


@attrs.frozen
class Channel(JsonValue):
    """One input of a training job, seen by the script at ``SM_CHANNEL_<NAME>``.

    ``shuffle_seed``: the order of the files is drawn anew for each epoch, from this seed.
    """

    name: str = attrs.field()
    uri: str
    content_type: str | None = None
    input_mode: InputMode = InputMode.FILE
    replication: Replication = Replication.FULL
    shuffle_seed: int | None = None

    @name.validator
    def _check_name(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if not re.fullmatch(_CHANNEL, value) or value in (".", ".."):
            raise InvalidPlanError(
                f"{value!r} is not a channel name: use 1 to 64 letters, digits, '.', '_' and '-'"
            )


@attrs.frozen
class MetricDefinition(JsonValue):
    """A number to look for in the log: the first group of ``regex``."""

    name: str
    regex: str = attrs.field()

    @regex.validator
    def _check_regex(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise InvalidPlanError(
                f"metric {self.name!r}: {value!r} is no regular expression: {error}"
            ) from error
        if not groups:
            raise InvalidPlanError(
                f"metric {self.name!r}: put the number into a group, such as {value + '([0-9.]+)'!r}"
            )


def _metrics(value: Iterable[MetricDefinition]) -> tuple[MetricDefinition, ...]:
    return tuple(value)


def _seconds(value: float | None) -> float | None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9
    ):
        raise InvalidPlanError(f"max_run is a number of seconds above 0, not {value!r}")
    return value


def _channels(value: Iterable[Channel]) -> tuple[Channel, ...]:
    return tuple(value)


@attrs.frozen
class Resources(JsonValue):
    """What to run on: ``instance_count`` machines of ``instance_type``."""

    instance_type: str = "local"
    instance_count: int = attrs.field(default=1)
    accelerator_type: str | None = None

    @instance_count.validator
    def _check_count(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if type(value) is not int or value < 1:
            raise InvalidPlanError(f"instance_count must be a whole number of at least 1, not {value!r}")


def _hyperparameters(value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    for key, item in (value or {}).items():
        if not isinstance(key, str):
            raise InvalidPlanError(f"hyperparameter names are strings, not {key!r}")
        if not key or "=" in key or "\0" in key:
            raise InvalidPlanError(f"{key!r} cannot be the name of a hyperparameter")
        if not _is_json(item):
            raise InvalidPlanError(
                f"hyperparameter {key!r} is a {type(item).__name__} that JSON cannot carry; pass a number, "
                "a string, a boolean, None, or lists and dicts (with strings as keys) of these"
            )
    return _frozen_mapping(value)


def _is_json(value: object) -> bool:
    """Tell whether JSON brings the value back as it was."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int, float))


def _environment(value: Mapping[str, str] | None) -> Mapping[str, str]:
    for key, item in (value or {}).items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise InvalidPlanError(f"environment variable {key!r} must map to a string, not {item!r}")
        if not key or "=" in key or "\0" in key + item:
            raise InvalidPlanError(f"{key!r} cannot be the name of an environment variable")
    return _frozen_mapping(value)


def _job_name(name: str) -> str:
    return check_name("job name", name)


def _endpoint_name(name: str) -> str:
    return check_name("endpoint name", name)


@attrs.frozen
class TrainingPlan(JsonValue):
    """Everything about a training job before it runs. ``print(plan)`` is a dry run.

    ``source``: None for the script that the backend's image has.
    """

    job_name: str = attrs.field(converter=_job_name)
    source: SourceCode | None
    backend: ProviderRef
    hardware: ProviderRef
    launcher: ProviderRef
    packager: ProviderRef
    resources: Resources = attrs.field(factory=Resources)
    hyperparameters: Mapping[str, Any] = attrs.field(factory=dict, converter=_hyperparameters)
    channels: tuple[Channel, ...] = attrs.field(default=(), converter=_channels)
    environment: Mapping[str, str] = attrs.field(factory=dict, converter=_environment)
    output_path: str | None = None
    framework_version: str | None = None
    py_version: str | None = None
    role: str | None = None
    checkpoint_uri: str | None = None
    max_run: float | None = attrs.field(default=None, converter=_seconds)
    metrics: tuple[MetricDefinition, ...] = attrs.field(default=(), converter=_metrics)

    title: ClassVar[str] = "training plan"

    def redacted(self) -> Self:
        """Return the plan as it may be saved and shown: without secrets, and without the logins of URIs."""
        return attrs.evolve(
            self,
            source=self.source and self.source.redacted(),
            channels=[attrs.evolve(channel, uri=without_login(channel.uri)) for channel in self.channels],
            output_path=self.output_path and without_login(self.output_path),
            checkpoint_uri=self.checkpoint_uri and without_login(self.checkpoint_uri),
            environment=redact(self.environment),
            hyperparameters=redact(self.hyperparameters),
        )

    def __str__(self) -> str:
        return _table(self.title, self.job_name, self.redacted())


@attrs.frozen
class EndpointPlan(JsonValue):
    """Everything about an endpoint before it runs.

    ``startup_timeout``: seconds that the model may take to load.
    """

    endpoint_name: str = attrs.field(converter=_endpoint_name)
    model: ModelSource
    backend: ProviderRef
    hardware: ProviderRef
    packager: ProviderRef
    source: SourceCode | None = None
    resources: Resources = attrs.field(factory=Resources)
    environment: Mapping[str, str] = attrs.field(factory=dict, converter=_environment)
    startup_timeout: float = 480.0
    framework_version: str | None = None
    py_version: str | None = None
    role: str | None = None

    title: ClassVar[str] = "endpoint plan"

    def redacted(self) -> Self:
        """Return the plan as it may be saved and shown: without secrets, and without the logins of URIs."""
        return attrs.evolve(
            self,
            model=ModelSource(without_login(self.model.uri)),
            source=self.source and self.source.redacted(),
            environment=redact(self.environment),
        )

    def __str__(self) -> str:
        return _table(self.title, self.endpoint_name, self.redacted())


def _table(title: str, name: str, plan: Any) -> str:
    """Return one line per field that says something, nested values on one line each."""
    lines = [f"{title} {name}"]
    for field in attrs.fields(type(plan))[1:]:
        value = getattr(plan, field.name)
        if value in (None, (), {}):
            continue
        lines.extend(f"  {label:<18}{text}" for label, text in _rows(field.name, value))
    return "\n".join(lines)


def _rows(label: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        texts = [f"{key} = {json.dumps(thaw(item))}" for key, item in value.items()]
    elif isinstance(value, tuple):
        texts = [_line(item) for item in value]
    else:
        texts = [_line(value)]
    return [(label if i == 0 else "", text) for i, text in enumerate(texts)]


def _line(value: Any) -> str:
    """Return a nested value on one line: its own text, or its fields that say something."""
    if not attrs.has(type(value)) or isinstance(value, ProviderRef):
        return str(value)
    said = ((field, getattr(value, field.name)) for field in attrs.fields(type(value)))
    return ", ".join(f"{field.name}={thaw(item)}" for field, item in said if not _is_silent(field, item))


def _is_silent(field: "attrs.Attribute[Any]", item: object) -> bool:
    """Tell whether a field is empty, or a mode that nobody changed."""
    return item in (None, (), {}) or (isinstance(item, enum.Enum) and item is field.default)
