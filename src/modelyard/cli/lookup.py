"""Find a backend, its jobs and its endpoints by the names on the command line."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelyard.core.errors import EndpointError, EndpointNotFoundError, JobError, JobNotFoundError

if TYPE_CHECKING:
    from modelyard.core.contracts import (
        Backend,
        EndpointDescription,
        EndpointHandle,
        JobDescription,
        JobHandle,
    )
    from modelyard.core.manager import PluginManager


def backend_of(options: argparse.Namespace, plugins: "PluginManager | None" = None) -> "Backend":
    """Return the backend of ``--backend``, from `plugins` or what is installed.

    Raises `UnknownProviderError`.
    """
    from modelyard.core.manager import PluginManager

    return (plugins or PluginManager.discover()).backends.create(options.backend)


def job_of(options: argparse.Namespace) -> "JobHandle":
    """Return the job of that name.

    Raises `JobNotFoundError`, with the name that was meant where the backend knows its jobs.
    """
    backend = backend_of(options)
    try:
        return backend.job(options.name)
    except JobNotFoundError as error:
        if meant := _meant(backend, options.name):
            raise JobNotFoundError(f"{error}; did you mean {meant!r}?") from error
        raise


def jobs_of(options: argparse.Namespace) -> "list[JobDescription]":
    """Return the backend's jobs, the newest first. Raises `JobError` where it cannot tell."""
    from modelyard.core.contracts import ListingBackend

    backend = backend_of(options)
    if not isinstance(backend, ListingBackend):
        raise JobError(
            f"the backend {options.backend!r} does not list its jobs; modelyard jobs show NAME shows one"
        )
    return list(reversed(list(backend.jobs())))


def endpoint_of(
    options: argparse.Namespace, name: str, plugins: "PluginManager | None" = None
) -> "EndpointHandle":
    """Return the live endpoint of that name, of a backend from `plugins` or what is installed.

    Raises `EndpointNotFoundError`, with the name that was meant where the backend knows its endpoints,
    and with the log of an endpoint that has failed.
    """
    backend = backend_of(options, plugins)
    try:
        return backend.endpoint(name)
    except EndpointNotFoundError as error:
        known = _endpoints(backend)
        if failed := [endpoint for endpoint in known if endpoint.name == name and endpoint.reason]:
            raise EndpointNotFoundError(f"{error}\nIts log is {failed[-1].log}") from error
        live = [endpoint.name for endpoint in known if not endpoint.status.is_terminal]
        if meant := _closest(name, live):
            raise EndpointNotFoundError(f"{error}; did you mean {meant!r}?") from error
        raise


def endpoints_of(options: argparse.Namespace) -> "list[EndpointDescription]":
    """Return the backend's endpoints, the newest first. Raises `EndpointError` where it cannot tell."""
    from modelyard.core.contracts import EndpointListingBackend

    backend = backend_of(options)
    if not isinstance(backend, EndpointListingBackend):
        raise EndpointError(
            f"the backend {options.backend!r} does not list its endpoints; modelyard endpoints show NAME "
            "shows one"
        )
    return _endpoints(backend)[::-1]


def described_endpoint(options: argparse.Namespace) -> "EndpointDescription":
    """Return the newest endpoint of that name, which may have ended where the backend knows it still.

    Raises `EndpointNotFoundError`.
    """
    for endpoint in reversed(_endpoints(backend_of(options))):
        if endpoint.name == options.name:
            return endpoint
    return endpoint_of(options, options.name).describe()


def _endpoints(backend: "Backend") -> "list[EndpointDescription]":
    """Return the endpoints that the backend knows, the oldest first; none where it does not tell."""
    from modelyard.core.contracts import EndpointListingBackend

    return list(backend.endpoints()) if isinstance(backend, EndpointListingBackend) else []


def _meant(backend: "Backend", name: str) -> str | None:
    from modelyard.core.contracts import ListingBackend

    known = [job.name for job in backend.jobs()] if isinstance(backend, ListingBackend) else []
    return _closest(name, known[::-1])


def _closest(name: str, known: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
