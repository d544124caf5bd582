"""The program of an endpoint: from a model's folder and settings to a server, and to its end."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model import packages
from modelyard.serving.pages import metrics
from modelyard.serving.processes.arbiter import serve as supervise
from modelyard.serving.processes.gunicorn_app import Make
from modelyard.serving.processes.resources import cores
from modelyard.serving.settings import ServerSettings

_BACKLOG = 2048

_log = get_logger(__name__)


@attrs.frozen
class Deployment:
    """What is to be served.

    ``model_dir``: the unpacked archive; ``own``: a folder of the endpoint's own, for what is unpacked and
    installed; ``name`` and ``hardware``: of the endpoint, where a plan says; ``isolated``: whether what
    the model's code asks pip for must not go into this Python's environment; ``refresh``: brings the model
    anew before a reload, and returns its folder.
    """

    model_dir: Path
    own: Path
    settings: ServerSettings
    name: str = ""
    hardware: ProviderRef | None = None
    isolated: bool = False
    refresh: Callable[[], Path] | None = None

    def endpoint(self, environ: Mapping[str, str] = os.environ) -> Endpoint:
        """Look through the model's folder, and return what the workers are made from.

        Raises `UserCodeError` for a model that is packed in a way that cannot be served.
        """
        plugins = PluginManager.discover(environ)
        packager = plugins.packagers.create(plugins.select_packager(None))
        folder = model_folder.find(
            self.model_dir,
            packager.unpack,
            self.own,
            program=self.settings.program,
            submitted=environ.get("SAGEMAKER_SUBMIT_DIRECTORY", ""),
        )
        hardware = self.hardware or plugins.select_hardware(Resources())
        return Endpoint(folder, self.settings, plugins, hardware, self.name)


def serve(deployment: Deployment, listening: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT; to be called by the main thread of a process without others.

    `listening`: a socket that is taken over, instead of one at the host and port of the settings. What
    the model's code asks pip for is installed first, and the program then starts anew. Raises
    `LoadFailedError` where the model cannot be loaded, `UserCodeError`, `InstallError`, and
    `InvalidPlanError` for an address that cannot be listened on.
    """
    endpoint = deployment.endpoint()
    into = deployment.own / "environment" if deployment.isolated else None
    packages.provide(endpoint.folder, into=into, timeout=deployment.settings.startup_timeout)
    hardware = endpoint.plugins.hardware.create(endpoint.hardware)
    devices = hardware.device_count() if hardware.device_type != "cpu" else 0
    settings = attrs.evolve(deployment.settings, workers=deployment.settings.workers or devices or cores())
    deployment = attrs.evolve(deployment, settings=settings)
    listening = listening or bound(settings)
    host, port = listening.getsockname()[:2]
    _log.info("listening", host=host, port=port, workers=settings.workers, hardware=str(endpoint.hardware))
    counts = Path(tempfile.mkdtemp(prefix="modelyard-metrics-"))
    try:
        metrics.prepare(counts)
        make = attrs.evolve(endpoint, settings=settings).application
        supervise(make, listening, settings, renew=lambda: _renewed(deployment), ended=metrics.forget)
    finally:
        shutil.rmtree(counts, ignore_errors=True)


def bound(settings: ServerSettings) -> socket.socket:
    """Return a socket that listens where the settings say. Raises `InvalidPlanError`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise InvalidPlanError(
            f"cannot listen on {settings.host}:{settings.port}: {error}; port 0 is any free one"
        ) from error


def _renewed(deployment: Deployment) -> Make:
    """Return what makes the applications of the new workers at a reload."""
    if deployment.refresh:
        deployment = attrs.evolve(deployment, model_dir=deployment.refresh())
    endpoint = deployment.endpoint()
    if endpoint.folder.requirements is not None:
        _log.warning("a reload installs nothing: the packages are those with which the server started")
    return endpoint.application
