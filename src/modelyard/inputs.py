"""A job's inputs as a caller gives them, and the channels that they become in a plan."""

import enum
import os
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import attrs

from modelyard.compat.names import old_name
from modelyard.core.carrier import as_uri
from modelyard.core.errors import InvalidPlanError, did_you_mean
from modelyard.core.keywords import checked_keywords
from modelyard.core.plans import Channel, InputMode, Replication

PathLike = str | os.PathLike[str]
Choice = TypeVar("Choice", bound=enum.StrEnum)

# What a plan cannot carry: the values that ask for nothing, and what to do instead.
_WITHOUT: Mapping[str, tuple[tuple[object, ...], str]] = {
    "compression": ((None, "None"), "a script gets the files as they are: have it decompress them"),
    "record_wrapping": ((None, "None"), "a pipe carries the files as they are: write them as RecordIO"),
    "s3_data_type": (("S3Prefix",), "manifests are not read: give a folder or a file"),
    "instance_groups": ((None, [], ()), "all hosts are of one type, and each gets the channel"),
    "attribute_names": ((None, [], ()), "augmented manifests are not read: give a folder or a file"),
    "target_attribute_name": ((None,), "augmented manifests are not read: give a folder or a file"),
}


@attrs.frozen
class ShuffleConfig:
    """The files of a Pipe channel in an order of their own for each epoch, drawn from ``seed``."""

    seed: int = attrs.field()

    @seed.validator
    def _check_seed(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if type(value) is not int:
            raise InvalidPlanError(f"seed must be a whole number, not {value!r}")


def _choice(kind: type[Choice], keyword: str, value: str) -> Choice:
    """Return the member of `kind` that has this value. Raises `InvalidPlanError`."""
    try:
        return kind(value)
    except ValueError:
        known = [member.value for member in kind]
        raise InvalidPlanError(f"{keyword} cannot be {value!r}{did_you_mean(str(value), known)}") from None


def _replication(value: str | None) -> Replication:
    return Replication.FULL if value is None else _choice(Replication, "distribution", value)


def _mode(value: str | None) -> InputMode | None:
    return None if value is None else _choice(InputMode, "input_mode", value)


@attrs.frozen
class TrainingInput:
    """A channel's data and how the script gets it, by the names and in the order of SDK v2.

    ``s3_data``: a path or a URI; ``distribution``: ``FullyReplicated``, or ``ShardedByS3Key`` for
    each file on one host only; ``content_type``: told to the script; ``input_mode``: ``File``,
    ``Pipe`` or ``FastFile``, instead of the job's own; ``shuffle_config``: for Pipe.

    The other keywords take the values that ask for nothing. Raises `InvalidPlanError` for what
    cannot be done, and ``TypeError`` for an unknown keyword.
    """

    s3_data: PathLike
    distribution: Replication = attrs.field(default=Replication.FULL, converter=_replication)
    compression: str | None = None
    content_type: str | None = None
    record_wrapping: str | None = None
    s3_data_type: str = "S3Prefix"
    instance_groups: object = None
    input_mode: InputMode | None = attrs.field(default=None, converter=_mode)
    attribute_names: object = None
    target_attribute_name: str | None = None
    shuffle_config: ShuffleConfig | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(ShuffleConfig))
    )

    def __attrs_post_init__(self) -> None:
        for keyword, (nothing, instead) in _WITHOUT.items():
            value = getattr(self, keyword)
            if value not in nothing:
                raise InvalidPlanError(f"{keyword} must be {nothing[0]!r}, not {value!r}: {instead}")


# attrs writes the method; a typo among eleven keywords deserves the same answer as anywhere else.
TrainingInput.__init__ = checked_keywords(TrainingInput.__init__)  # type: ignore[method-assign]


_FILE_SYSTEMS: Mapping[str, str] = {"EFS": "efs", "FSxLustre": "fsxlustre"}


def _access(value: str) -> str:
    if value not in ("ro", "rw"):
        raise InvalidPlanError(f"file_system_access_mode is 'ro' or 'rw', not {value!r}")
    return value


@attrs.frozen
class FileSystemInput:
    """A channel's data on a file system of AWS, which only SageMaker's machines can mount.

    ``file_system_id``; ``file_system_type``: ``EFS`` or ``FSxLustre``; ``directory_path``: from its
    root; ``file_system_access_mode``: ``ro`` or ``rw``; ``content_type``: told to the script. In a plan it
    is a URI such as ``efs://fs-0123/data?mode=ro``.
    """

    file_system_id: str
    file_system_type: str = attrs.field()
    directory_path: str = attrs.field()
    file_system_access_mode: str = attrs.field(default="ro", converter=_access)
    content_type: str | None = None

    @file_system_type.validator
    def _check_type(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in _FILE_SYSTEMS:
            raise InvalidPlanError(
                f"file_system_type cannot be {value!r}{did_you_mean(value, _FILE_SYSTEMS)}"
            )

    @directory_path.validator
    def _check_path(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if not value.startswith("/"):
            raise InvalidPlanError(f"directory_path begins with '/', as {'/' + value!r}")

    @property
    def uri(self) -> str:
        """The directory as a URI."""
        scheme = _FILE_SYSTEMS[self.file_system_type]
        path = quote(self.directory_path)
        return f"{scheme}://{self.file_system_id}{path}?mode={self.file_system_access_mode}"


FileSystemInput.__init__ = checked_keywords(FileSystemInput.__init__)  # type: ignore[method-assign]

Input = PathLike | TrainingInput | FileSystemInput
Inputs = Input | Mapping[str, Input] | None


def channels(inputs: Inputs, *, input_mode: InputMode | str = InputMode.FILE) -> tuple[Channel, ...]:
    """Return the channels of `fit`'s inputs, in `input_mode` unless a `TrainingInput` has its own.

    A lone path is the channel ``train``, as SageMaker's documentation says, and is also seen as
    ``training``, as SDK v2 really names it. Raises `InvalidPlanError`.
    """
    default = _choice(InputMode, "input_mode", input_mode)
    if inputs is None:
        return ()
    if isinstance(inputs, (str, os.PathLike, TrainingInput, FileSystemInput)):
        inputs = dict.fromkeys(("train", "training"), inputs)
    if not isinstance(inputs, Mapping):
        raise InvalidPlanError(
            "inputs must be a path, a URI or a dict of them by channel, each also as a TrainingInput, "
            f"not {inputs!r}"
        )
    return tuple(_channel(name, given, default) for name, given in inputs.items())


def _channel(name: str, given: Input, default: InputMode) -> Channel:
    if isinstance(given, FileSystemInput):
        return Channel(name, given.uri, content_type=given.content_type, input_mode=default)
    if not isinstance(given, TrainingInput):
        return Channel(name, _location(name, given), input_mode=default)
    mode = given.input_mode or default
    if given.shuffle_config and mode is not InputMode.PIPE:
        raise InvalidPlanError(
            f"channel {name!r}: shuffle_config needs input_mode='Pipe', not {mode.value!r}: the files of "
            "a folder have no order, so the script draws its own"
        )
    return Channel(
        name,
        _location(name, given.s3_data),
        content_type=given.content_type,
        input_mode=mode,
        replication=given.distribution,
        shuffle_seed=given.shuffle_config.seed if given.shuffle_config else None,
    )


def _location(channel: str, location: object) -> str:
    if not isinstance(location, (str, os.PathLike)) or not os.fspath(location):
        raise InvalidPlanError(f"channel {channel!r} must be a path or a URI, not {location!r}")
    return as_uri(location)


def __getattr__(name: str) -> object:
    return old_name(__name__, name, {"TrainingInput": __name__})
