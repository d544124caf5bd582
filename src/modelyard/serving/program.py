"""The program of an endpoint: from a model's folder and settings to a server, and to its end."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from modelyard.core.contracts import DescribedHardware
from modelyard.core.cores import cores
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import ACCELERATOR_PRESENT
from modelyard.core.listening import listen
from modelyard.core.log import get_logger
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef, Resources
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.model import folder as model_folder
from modelyard.serving.model import packages
from modelyard.serving.pages import metrics
from modelyard.serving.processes.arbiter import serve as supervise
from modelyard.serving.processes.gunicorn_app import Make
from modelyard.serving.settings import ServerSettings

if TYPE_CHECKING:
    import socket

_log = get_logger(__name__)


@attrs.frozen
class Deployment:
    """What is to be served.

    ``model_dir``: the unpacked archive; ``own``: a folder of the endpoint's own, for what is unpacked and
    installed; ``name`` and ``hardware``: of the endpoint, where a plan says; ``isolated``: whether what
    the model's code asks pip for must not go into this Python's environment; ``refresh``: brings the model
    anew before a reload, into a folder that is there and empty if it needs one, and returns its folder;
    ``number``: how many models were served, or to be served, before this one.

    What is in ``own`` of a model goes when its last worker has ended.
    """

    model_dir: Path
    own: Path
    settings: ServerSettings
    name: str = ""
    hardware: ProviderRef | None = None
    isolated: bool = False
    refresh: Callable[[Path], Path] | None = None
    number: int = 0

    def endpoint(self, environ: Mapping[str, str] = os.environ) -> Endpoint:
        """Look through the model's folder, and return what the workers are made from.

        Raises `UserCodeError` for a model that is packed in a way that cannot be served.
        """
        plugins = PluginManager.discover(environ)
        packager = plugins.packagers.create(plugins.select_packager(None))
        folder = model_folder.find(
            self.model_dir,
            packager.unpack,
            self._place(self.number),
            program=self.settings.program,
            submitted=environ.get("SAGEMAKER_SUBMIT_DIRECTORY", ""),
        )
        hardware = self.hardware or _hardware(plugins, self.settings, environ)
        return Endpoint(folder, self.settings, plugins, hardware, self.name)

    def renewed(self, number: int) -> Make:
        """Return what makes the applications of the new workers at a reload."""
        model_dir = self.model_dir
        if self.refresh:
            self._place(number).mkdir(parents=True)
            model_dir = self.refresh(self._place(number))
        endpoint = attrs.evolve(self, model_dir=model_dir, number=number).endpoint()
        if endpoint.folder.requirements is not None:
            _log.warning("a reload installs nothing: the packages are those with which the server started")
        return endpoint.application

    def forget(self, number: int) -> None:
        """Remove what was unpacked for the model of that number, which nothing serves any more."""
        folders = [self._place(number)]
        if number == self.number and self.refresh and self.model_dir.is_relative_to(self.own):
            folders.append(self.model_dir)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _place(self, number: int) -> Path:
        return self.own / f"model-{number}"


def _hardware(plugins: PluginManager, settings: ServerSettings, environ: Mapping[str, str]) -> ProviderRef:
    """Return the hardware that the settings name, or else what this machine has."""
    accelerator = "ml.eia" if environ.get(ACCELERATOR_PRESENT) == "true" else None
    resources = Resources(accelerator_type=accelerator)
    options = json.loads(settings.hardware_options or "{}")
    name = settings.hardware or plugins.select_hardware(resources).name
    return plugins.select_hardware(resources, ProviderRef(name, options))


def serve(deployment: Deployment, listening: "socket.socket | None" = None) -> None:
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
    found = hardware.describe() if isinstance(hardware, DescribedHardware) else ""
    devices = hardware.device_count() if hardware.device_type != "cpu" else 0
    if hardware.device_type != "cpu" and not devices:
        raise InvalidPlanError(f"hardware {hardware.name!r} cannot serve here: {found or 'it has no device'}")
    settings = attrs.evolve(deployment.settings, workers=deployment.settings.workers or devices or cores())
    deployment = attrs.evolve(deployment, settings=settings)
    listening = listening or listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    _log.info(
        "listening",
        host=host,
        port=port,
        workers=settings.workers,
        hardware=str(endpoint.hardware),
        found=found,
    )
    counts = Path(tempfile.mkdtemp(prefix="modelyard-metrics-"))
    try:
        metrics.prepare(counts)
        make = attrs.evolve(endpoint, settings=settings).application
        supervise(
            make,
            listening,
            settings,
            renew=deployment.renewed,
            forget=deployment.forget,
            ended=metrics.forget,
        )
    finally:
        shutil.rmtree(counts, ignore_errors=True)
