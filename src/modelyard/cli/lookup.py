"""Find a backend and its jobs by the names on the command line."""

import argparse
from typing import TYPE_CHECKING

from modelyard.core.errors import JobError, JobNotFoundError

if TYPE_CHECKING:
    from modelyard.core.contracts import Backend, JobDescription, JobHandle


def backend_of(options: argparse.Namespace) -> "Backend":
    """Return the backend of ``--backend``. Raises `UnknownProviderError`."""
    from modelyard.core.manager import PluginManager

    return PluginManager.discover().backends.create(options.backend)


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


def _meant(backend: "Backend", name: str) -> str | None:
    import difflib

    from modelyard.core.contracts import ListingBackend

    known = [job.name for job in backend.jobs()] if isinstance(backend, ListingBackend) else []
    return next(iter(difflib.get_close_matches(name, known[::-1], n=1)), None)
