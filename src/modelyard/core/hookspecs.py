"""The hooks: what a plugin may implement, each with its exact arguments.

A plugin is a module (or any object) with functions marked by `hookimpl`; a function may leave out
arguments that it does not need. Three families:

* *registration* says what exists: return the provider classes, an empty tuple for none;
* *selection* says which one: return a `ProviderRef` or its name, or None for "not mine", and the
  first answer that is not None wins; without one the providers' own declarations decide
  (``instance_types``, ``distributions``);
* *lifecycle* says "tell me" (an observer's exception is logged, never raised) or "let me wrap".

The docstrings are the reference: ``docs/reference/hooks.md`` is made of them, and each example in them
is a whole plugin that the tests register and call.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

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

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(self, /, **options: bool) -> Callable[[F], F]: ...
    def __call__(self, function: Any = None, /, **options: bool) -> Any:
        return self._marker(function, **options)

    def options(self, **options: bool) -> Callable[[F], F]:
        """Return the marker with pluggy's options: ``tryfirst``, ``trylast``, ``optionalhook``."""
        return cast(Callable[[F], F], self._marker(**options))


hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = _Marker(pluggy.HookimplMarker(PROJECT))
"""Marks a function of a plugin as the implementation of the hook of its name."""


# -- registration ------------------------------------------------------------------------------


@hookspec
def modelyard_register_codecs() -> Iterable[type[Codec]]:
    """Return codec classes.

    Called once in each process that reads or writes media types: a client with a `Predictor`, and each
    worker of an endpoint.

    * returns: the classes, not instances, each with the members of `Codec`.

    Example::

        import json

        from modelyard import hookimpl
        from modelyard.core.errors import DecodeError


        class GeoJsonCodec:
            name = "geojson"
            media_types = ("application/geo+json",)

            def encode(self, value):
                return json.dumps(value).encode()

            def decode(self, body):
                try:
                    return json.loads(body)
                except ValueError as error:
                    raise DecodeError(f"not GeoJSON: {error}") from error


        @hookimpl
        def modelyard_register_codecs():
            return (GeoJsonCodec,)
    """
    return ()


@hookspec
def modelyard_register_hardware() -> Iterable[type[Hardware]]:
    """Return hardware classes.

    Called once in each process that needs hardware: a client that plans a job or an endpoint, the
    in-job program of each host, and each worker of an endpoint.

    * returns: the classes, not instances, each with the members of `Hardware`.

    Example::

        from modelyard import hookimpl
        from modelyard.hardware.cpu import CpuHardware


        class PinnedCpu(CpuHardware):
            name = "pinned-cpu"
            instance_types = ("pinned.*",)

            def environ(self, host):
                return {**super().environ(host), "OMP_PROC_BIND": "close"}


        @hookimpl
        def modelyard_register_hardware():
            return (PinnedCpu,)
    """
    return ()


@hookspec
def modelyard_register_launchers() -> Iterable[type[Launcher]]:
    """Return launcher classes.

    Called once in each process that needs a launcher: a client that plans a job, and the in-job program
    of each host.

    * returns: the classes, not instances, each with the members of `Launcher`.

    Example::

        from modelyard import hookimpl
        from modelyard.core.contracts import Command


        class NiceLauncher:
            name = "nice"
            distributions = ("nice",)

            def command(self, entry, host, hardware):
                return Command(("nice", "-n", "10", *entry.argv), {}, entry.code_dir)


        @hookimpl
        def modelyard_register_launchers():
            return (NiceLauncher,)
    """
    return ()


@hookspec
def modelyard_register_packagers() -> Iterable[type[Packager]]:
    """Return packager classes.

    Called once in each process that packs or unpacks: a client that starts a job or an endpoint, the
    in-job program of each host, and the in-endpoint program.

    * returns: the classes, not instances, each with the members of `Packager`.

    Example::

        from pathlib import Path

        from modelyard import hookimpl
        from modelyard.core.errors import PackagingError
        from modelyard.plugins.packagers.tarball import TarballPackager


        class LicensedPackager(TarballPackager):
            name = "licensed"

            def pack_source(self, source, into):
                if not Path(source.source_dir or ".", "LICENSE").exists():
                    raise PackagingError("the source has no file LICENSE: add one")
                return super().pack_source(source, into)


        @hookimpl
        def modelyard_register_packagers():
            return (LicensedPackager,)
    """
    return ()


@hookspec
def modelyard_register_storages() -> Iterable[type[Storage]]:
    """Return storage classes.

    Called once in each process that moves files by URI: a client that starts a job or an endpoint or
    opens a model, the in-job program of each host, and the in-endpoint program.

    * returns: the classes, not instances, each with the members of `Storage`.

    Example::

        from pathlib import Path

        from modelyard import hookimpl
        from modelyard.plugins.storage.file import FileStorage


        def real(uri):
            return Path.home().joinpath(uri.removeprefix("home://")).as_uri()


        class HomeStorage(FileStorage):
            name = "home"
            schemes = ("home",)

            def download(self, uri, into):
                super().download(real(uri), into)

            def upload(self, path, uri):
                super().upload(path, real(uri))
                return uri

            def prepare(self, uri):
                super().prepare(real(uri))


        @hookimpl
        def modelyard_register_storages():
            return (HomeStorage,)
    """
    return ()


@hookspec
def modelyard_register_backends() -> Iterable[type[Backend]]:
    """Return backend classes.

    Called once in each client that starts, finds or lists jobs and endpoints.

    * returns: the classes, not instances, each with the members of `Backend`.

    Example::

        from modelyard import hookimpl
        from modelyard.core.errors import InvalidPlanError
        from modelyard.plugins.backends.local.backend import LocalBackend


        class ShortJobs(LocalBackend):
            name = "short"
            instance_types = ()  # It is asked for by its name: PyTorch(..., backend="short").

            def submit(self, plan, carrier, *, attached=True):
                if plan.max_run is None or plan.max_run > 3600:
                    raise InvalidPlanError("give max_run, of at most 3600 seconds")
                return super().submit(plan, carrier, attached=attached)


        @hookimpl
        def modelyard_register_backends():
            return (ShortJobs,)
    """
    return ()


# -- selection ---------------------------------------------------------------------------------


@hookspec(firstresult=True)
def modelyard_select_hardware(resources: Resources) -> ProviderRef | str | None:
    """Return the hardware for these resources, or None.

    Called on the client when a job or an endpoint is planned without ``hardware=``, and inside a job or
    an endpoint that was started without a plan, as on SageMaker.

    * `resources`: what is to run it: ``instance_type``, ``instance_count``, and ``accelerator_type``,
      which is None without one.
    * returns: the name of the hardware, or a `ProviderRef` with its options; None for "not mine". Without
      any answer the hardware that declares the accelerator's or the instance's type is taken.

    Example::

        from modelyard import hookimpl


        @hookimpl
        def modelyard_select_hardware(resources):
            return "cpu" if resources.instance_type.startswith("lab.") else None
    """


@hookspec(firstresult=True)
def modelyard_select_launcher(
    resources: Resources, hardware: str, distribution: Mapping[str, Any]
) -> ProviderRef | str | None:
    """Return the launcher for this ``distribution={...}`` on the hardware of that name, or None.

    Called on the client when a job is planned without ``launcher=``, and inside a job that was started
    without a plan, as on SageMaker.

    * `resources`: what is to run it, as for `modelyard_select_hardware`.
    * `hardware`: the name of the hardware that was chosen.
    * `distribution`: the options of each strategy that is switched on, without the switch itself;
      empty where none is.
    * returns: the name of the launcher, or a `ProviderRef` with its options; None for "not mine". Without
      any answer the launcher that declares the strategy is taken.

    Example::

        from modelyard import hookimpl
        from modelyard.core.plans import ProviderRef


        @hookimpl
        def modelyard_select_launcher(resources, distribution):
            if resources.instance_count > 1 and not distribution:
                return ProviderRef("torchrun")
            return None
    """


@hookspec(firstresult=True)
def modelyard_select_backend(resources: Resources) -> ProviderRef | str | None:
    """Return the backend that offers these resources, or None.

    Called on the client when a job or an endpoint is planned without ``backend=`` and without a
    session that decides.

    * `resources`: what is to run it, as for `modelyard_select_hardware`.
    * returns: the name of the backend, or a `ProviderRef` with its options; None for "not mine". Without any
      answer the backend that declares the instance's type is taken.

    Example::

        from modelyard import hookimpl
        from modelyard.core.plans import ProviderRef


        @hookimpl
        def modelyard_select_backend(resources):
            if resources.instance_type == "patient":
                return ProviderRef("local", {"stop_seconds": 120.0})
            return None
    """


@hookspec(firstresult=True)
def modelyard_select_packager(source: SourceCode | None) -> ProviderRef | str | None:
    """Return the packager for this source (None: a model without source), or None.

    Called on the client when a job is planned without ``packager=`` and when an endpoint is planned,
    and inside a job or an endpoint that was started without a plan, as on SageMaker.

    * `source`: the user's code: ``entry_point``, ``source_dir`` and ``dependencies``; None for a model
      that brings its own or needs none.
    * returns: the name of the packager, or a `ProviderRef` with its options; None for "not mine". Without any
      answer it is ``tarball``.

    Example::

        from modelyard import hookimpl
        from modelyard.core.plans import ProviderRef


        @hookimpl
        def modelyard_select_packager(source):
            return ProviderRef("tarball", {"compression_level": 9}) if source is None else None
    """


# -- lifecycle ---------------------------------------------------------------------------------


@hookspec
def modelyard_job_environ(host: Host, hardware: str) -> Mapping[str, str]:
    """Return variables for the script, in the job, before it is launched.

    They win over what modelyard and the hardware set; the user's ``environment`` wins over them.
    Called in the in-job program of each host, each time that the script is started.

    * `host`: this host among those of the job: ``name``, ``rank``, ``names``, ``is_master``.
    * `hardware`: the name of the hardware.
    * returns: the variables and their values, all of them strings; an empty dict for none. Of two plugins
      that set the same one, the one that is registered last wins.

    Example::

        from modelyard import hookimpl


        @hookimpl
        def modelyard_job_environ(host, hardware):
            quiet = {} if host.is_master else {"TQDM_DISABLE": "1"}
            return {"WANDB_TAGS": hardware, **quiet}
    """
    return {}


@hookspec
def modelyard_job_started(plan: TrainingPlan) -> None:
    """Observe that a job was submitted; called on the client.

    Called by ``fit`` once the backend has taken the job, which may not run yet.

    * `plan`: the whole job: ``job_name``, ``resources``, ``hyperparameters`` and so on. Printed it shows
      no secrets, but its ``environment`` has the values of them.

    Example::

        import getpass
        import logging

        from modelyard import hookimpl


        @hookimpl
        def modelyard_job_started(plan):
            audit = logging.getLogger("audit")
            audit.info("%s started %s", getpass.getuser(), plan.job_name)
    """


@hookspec
def modelyard_job_finished(description: JobDescription) -> None:
    """Observe that a job that the client waited for reached a terminal state.

    Called on the client at the end of ``fit`` and ``wait``, before either raises for a job that failed
    or was stopped: once for each time that somebody waited.

    * `description`: how the job ended: ``name``, ``status``, ``reason``, ``model_data``, ``plan``,
      ``created`` and ``ended``.

    Example::

        import logging

        from modelyard import hookimpl


        @hookimpl
        def modelyard_job_finished(description):
            if description.status == "Failed":
                logging.getLogger("pager").error("%s: %s", description.name, description.reason)
    """


@hookspec
def modelyard_model_loaded(model: object, model_dir: Path) -> None:
    """Observe that a worker of an endpoint has loaded its model; called in the endpoint.

    Called in each worker, before its first request; a reload makes new workers.

    * `model`: what ``model_fn`` returned, not yet moved to the device where that is left to modelyard.
    * `model_dir`: the folder that it was loaded from.

    Example::

        import logging

        from modelyard import hookimpl


        @hookimpl
        def modelyard_model_loaded(model, model_dir):
            size = sum(file.stat().st_size for file in model_dir.rglob("*") if file.is_file())
            logging.getLogger("models").info("%s from %d bytes", type(model).__name__, size)
    """


@hookspec
def modelyard_wrap_handler(handler: "Handler") -> "Handler | None":
    """Return a handler around `handler` (middleware), or None; called once, at start.

    Called in each worker of an endpoint when its model has been loaded; the handler that comes back is
    called for each request, on the thread of the model. The plugin that is registered first becomes the
    innermost layer.

    * `handler`: a function from a `Request` to a `Response`, which never raises: an error is an answer
      with its status.
    * returns: another such function, or None to leave things as they are. What it raises is answered as an
      error of the model is.

    Example::

        import attrs

        from modelyard import hookimpl


        @hookimpl
        def modelyard_wrap_handler(handler):
            def tagged(request):
                answer = handler(request)
                return attrs.evolve(answer, headers={**answer.headers, "x-model": "v7"})

            return tagged
    """
