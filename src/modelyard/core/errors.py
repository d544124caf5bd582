"""Every error that modelyard raises on purpose.

::

    ModelyardError
    ├── InvalidPlanError (ValueError)             a keyword, a name, a channel: the caller's input
    ├── PluginError
    │   ├── UnknownProviderError (LookupError)    nothing of that name is registered
    │   ├── ProviderConflictError                 two distributions provide one name
    │   ├── BrokenPluginError                     raised only under MODELYARD_PLUGINS_STRICT
    │   └── ContractVersionError                  the plugin is built for another modelyard
    ├── CodecError (ValueError)
    │   ├── EncodeError                           the value does not fit the format
    │   ├── DecodeError                           the bytes are not of the format
    │   ├── UnsupportedMediaTypeError             no codec reads this Content-Type
    │   └── NotAcceptableError                    no codec writes what Accept asks for
    ├── PackagingError (ValueError)
    │   └── UnsafeArchiveError                    an archive that must not be unpacked
    ├── StorageError
    ├── UserCodeError                             the inference script cannot be loaded or called
    ├── InferenceError (ValueError)               .status_code; raised by an inference script
    ├── InstallError                              pip could not install what the user's code asks for
    ├── JobError
    │   ├── JobExistsError
    │   ├── JobNotFoundError (LookupError)
    │   ├── JobFailedError                        .job_name, .reason
    │   └── JobStoppedError                       .job_name, .reason
    └── EndpointError
        ├── EndpointExistsError
        ├── EndpointNotFoundError (LookupError)
        ├── EndpointFailedError                   .endpoint_name, .reason
        └── InvocationError                       .status, .message

A message names the thing at fault and the way out. Errors that are also a built-in type
(``ValueError``, ``LookupError``) can be caught as either.
"""

from collections.abc import Iterable

_SHOWN = 12
"""Of the known names in an error message, the nearest ones."""


class ModelyardError(Exception):
    """The root of the tree."""


class InvalidPlanError(ModelyardError, ValueError):
    """A job or an endpoint was described in a way that cannot be run."""


class PluginError(ModelyardError):
    """Something about a plugin, or about finding one."""


class UnknownProviderError(PluginError, LookupError):
    """No provider of that name, media type, URI scheme or distribution is registered."""


class ProviderConflictError(PluginError):
    """Two plugins provide the same name, and the name was asked for."""


class BrokenPluginError(PluginError):
    """A plugin could not be loaded, and ``MODELYARD_PLUGINS_STRICT`` makes that fatal."""


class ContractVersionError(PluginError):
    """A plugin is built for a newer contract than this modelyard has, or does not say it properly."""


class CodecError(ModelyardError, ValueError):
    """A value and a media type do not meet."""


class EncodeError(CodecError):
    """The value cannot be written in this format."""


class DecodeError(CodecError):
    """The bytes are not a valid document of this format."""


class UnsupportedMediaTypeError(CodecError):
    """No registered codec reads this content type (HTTP 415)."""


class NotAcceptableError(CodecError):
    """No registered codec writes any of the accepted media types (HTTP 406)."""


class PackagingError(ModelyardError, ValueError):
    """A source folder or a model cannot be made into an archive, or an archive cannot be read."""


class UnsafeArchiveError(PackagingError):
    """The archive holds something that must not be unpacked: a link out, a device, a bomb."""


class StorageError(ModelyardError):
    """A URI cannot be read or written."""


class UserCodeError(ModelyardError):
    """The user's inference script cannot be imported, or one of its functions cannot be called."""


class InferenceError(ModelyardError, ValueError):
    """For inference scripts: the request is understood and cannot be answered.

    The client gets the message and the status, 422 unless another one is given.
    """

    def __init__(self, message: str, status_code: int = 422) -> None:
        super().__init__(message)
        self.status_code = status_code


class InstallError(ModelyardError):
    """What the user's code asks pip for could not be installed."""


class JobError(ModelyardError):
    """Something about a training job."""


class JobExistsError(JobError):
    """The name of the training job is taken."""


class JobNotFoundError(JobError, LookupError):
    """No training job of that name is known to the backend."""


class JobFailedError(JobError):
    """The training job ended in the state Failed.

    ``job_name``: its name; ``reason``: the failure record, at most 1,024 bytes; ``hint``: where to
    look.
    """

    def __init__(self, job_name: str, reason: str, hint: str = "") -> None:
        super().__init__(job_name, reason, hint)
        self.job_name = job_name
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return _with_hint(f"training job {self.job_name!r} failed: {self.reason}", self.hint)


class JobStoppedError(JobError):
    """The training job was stopped before it completed."""

    def __init__(self, job_name: str, reason: str) -> None:
        super().__init__(job_name, reason)
        self.job_name = job_name
        self.reason = reason

    def __str__(self) -> str:
        return f"training job {self.job_name!r} was stopped: {self.reason}"


class EndpointError(ModelyardError):
    """Something about an endpoint."""


class EndpointExistsError(EndpointError):
    """A live endpoint holds the name."""


class EndpointNotFoundError(EndpointError, LookupError):
    """No live endpoint of that name is known to the backend."""


class EndpointFailedError(EndpointError):
    """The endpoint never came into service, or left it by itself."""

    def __init__(self, endpoint_name: str, reason: str, hint: str = "") -> None:
        super().__init__(endpoint_name, reason, hint)
        self.endpoint_name = endpoint_name
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return _with_hint(f"endpoint {self.endpoint_name!r} failed: {self.reason}", self.hint)


class InvocationError(EndpointError):
    """The endpoint answered with an error.

    ``status``: the HTTP status; ``message``: what the endpoint said; ``hint``: where to look.
    """

    def __init__(self, endpoint_name: str, status: int, message: str, hint: str = "") -> None:
        super().__init__(endpoint_name, status, message, hint)
        self.endpoint_name = endpoint_name
        self.status = status
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return _with_hint(
            f"endpoint {self.endpoint_name!r} answered {self.status}: {self.message}", self.hint
        )


def is_expected(error: BaseException) -> bool:
    """Tell whether an error says by itself what is wrong: its traceback is of no use to the user."""
    return isinstance(error, (ModelyardError, OSError))


def said(error: BaseException) -> str:
    """Return what to tell the user of an error: its message, and its type where that says more.

    >>> said(InvalidPlanError("there is no port 70000")), said(KeyError("weight"))
    ('there is no port 70000', "KeyError: 'weight'")
    """
    return str(error) if is_expected(error) else f"{type(error).__name__}: {error}"


def _with_hint(message: str, hint: str) -> str:
    return f"{message}\n{hint}" if hint else message


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known name, and the known names near it.

    >>> did_you_mean("jsno", ["json", "csv"])
    "; did you mean 'json'? Known: csv, json"
    """
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else "."
    nearest = sorted(difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.0))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{guess} Known: {', '.join(nearest) or 'none'}{more}"
