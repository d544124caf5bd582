"""The hooks: what a plugin may implement, each with its exact arguments.

A plugin is a module (or any object) with functions marked by `hookimpl`; a function may leave out
arguments that it does not need. Three families:

* *registration* says what exists: return the provider classes, an empty tuple for none;
* *selection* says which one: return a `ProviderRef` or its name, or None for "not mine", and the
  first answer that is not None wins; without one the providers' own declarations decide
  (``instance_types``, ``distributions``);
* *lifecycle* says "tell me" (an observer's exception is logged, never raised) or "let me wrap".
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from modelyard.core.contracts import (
    Backend,
    Codec,
    Hardware,
    Host,
    JobDescription,
    Launcher,
    Packager,
    Storage,
)
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan

if TYPE_CHECKING:
    from modelyard.core.http import Handler

PROJECT = "modelyard"
"""pluggy's project name."""

F = TypeVar("F", bound=Callable[..., Any])


class _Marker:
    """pluggy's markers with types: the function that goes in is the function that comes out."""

    def __init__(self, marker: Callable[..., Any]) -> None:
        self._marker = marker

    def __call__(self, function: F) -> F:
        return cast(F, self._marker(function))

    def options(self, **options: bool) -> Callable[[F], F]:
        """Return the marker with pluggy's options: ``tryfirst``, ``trylast``, ``optionalhook``."""
        return cast(Callable[[F], F], self._marker(**options))


hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = _Marker(pluggy.HookimplMarker(PROJECT))
"""Marks a function of a plugin as the implementation of the hook of its name."""


# -- registration ------------------------------------------------------------------------------


@hookspec
def modelyard_register_codecs() -> Iterable[type[Codec]]:
    """Return codec classes."""
    return ()


@hookspec
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return hardware classes."""
    return ()


@hookspec
def modelyard_register_launchers() -> Iterable[type[Launcher]]:
    """Return launcher classes."""
    return ()


@hookspec
def modelyard_register_packagers() -> Iterable[type[Packager]]:
    """Return packager classes."""
    return ()


@hookspec
def modelyard_register_storages() -> Iterable[type[Storage]]:
    """Return storage classes."""
    return ()


@hookspec
def modelyard_register_backends() -> Iterable[type[Backend]]:
    """Return backend classes."""
    return ()


# -- selection ---------------------------------------------------------------------------------


@hookspec(firstresult=True)
def modelyard_select_hardware(resources: Resources) -> ProviderRef | str | None:
    """Return the hardware for these resources, or None."""


@hookspec(firstresult=True)
def modelyard_select_launcher(
    resources: Resources, hardware: str, distribution: Mapping[str, Any]
) -> ProviderRef | str | None:
    """Return the launcher for this ``distribution={...}`` on the hardware of that name, or None."""


@hookspec(firstresult=True)
def modelyard_select_backend(resources: Resources) -> ProviderRef | str | None:
    """Return the backend that offers these resources, or None."""


@hookspec(firstresult=True)
def modelyard_select_packager(source: SourceCode | None) -> ProviderRef | str | None:
    """Return the packager for this source (None: a model without source), or None."""


# -- lifecycle ---------------------------------------------------------------------------------


@hookspec
def modelyard_job_environ(host: Host, hardware: str) -> Mapping[str, str]:
    """Return variables for the script, in the job, before it is launched.

    They win over what modelyard and the hardware set; the user's ``environment`` wins over them.
    """
    return {}


@hookspec
def modelyard_job_started(plan: TrainingPlan) -> None:
    """Observe that a job was submitted; called on the client."""


@hookspec
def modelyard_job_finished(description: JobDescription) -> None:
    """Observe that a job that the client waited for reached a terminal state."""


@hookspec
def modelyard_model_loaded(model: object, model_dir: Path) -> None:
    """Observe that a worker of an endpoint has loaded its model; called in the endpoint."""


@hookspec
def modelyard_wrap_handler(handler: "Handler") -> "Handler | None":
    """Return a handler around `handler` (middleware), or None; called once, at start.

    The plugin that is registered first becomes the innermost layer.
    """
