"""Models: from an archive and an inference script to an endpoint."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelyard.core.carrier import PluginCarrier, as_uri, fetched
from modelyard.core.contracts import Bundle, EndpointHandle, Packager
from modelyard.core.errors import EndpointFailedError, InvalidPlanError
from modelyard.core.keywords import checked_keywords
from modelyard.core.manager import PluginManager
from modelyard.core.plans import (
    EndpointPlan,
    EndpointStatus,
    ModelSource,
    ProviderRef,
    Resources,
    SourceCode,
    unique_name,
)
from modelyard.predictor import Predictor
from modelyard.progress import Progress

PathLike = str | os.PathLike[str]

_POLL = 0.02


class Model:
    """A trained model with the code that serves it.

    ``model_data``: the ``model.tar.gz`` (path or URI), or a folder with the model's files;
    ``entry_point``, ``source_dir`` and ``dependencies``: the inference script, as for an
    `Estimator`; without them the code that the archive brings in ``code/`` is used; ``env``:
    variables of the endpoint; ``name``: the beginning of the endpoint's name.

    Raises ``TypeError`` for an unknown keyword and `InvalidPlanError` for code without a script.
    """

    @checked_keywords
    def __init__(
        self,
        model_data: PathLike,
        role: str | None = None,
        entry_point: PathLike | None = None,
        *,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] = (),
        framework_version: str | None = None,
        py_version: str | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.model_data = os.fspath(model_data)
        self.role = role
        self.source = _source(entry_point, source_dir, dependencies)
        self.framework_version = framework_version
        self.py_version = py_version
        self.env = dict(env or {})
        self.name = name
        self.plugins = plugins or PluginManager.discover()

    @checked_keywords
    def plan(
        self,
        initial_instance_count: int = 1,
        instance_type: str = "local",
        *,
        accelerator_type: str | None = None,
        endpoint_name: str | None = None,
        startup_timeout: float = 480.0,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
    ) -> EndpointPlan:
        """Return what `deploy` would start, without starting it."""
        resources = Resources(instance_type, initial_instance_count, accelerator_type)
        plugins = self.plugins
        return EndpointPlan(
            endpoint_name=endpoint_name or unique_name(self.name or "pytorch-inference"),
            model=ModelSource(as_uri(self.model_data)),
            backend=plugins.select_backend(resources, backend),
            hardware=plugins.select_hardware(resources, hardware),
            packager=plugins.select_packager(self.source),
            source=self.source,
            resources=resources,
            environment=self.env,
            startup_timeout=startup_timeout,
            framework_version=self.framework_version,
            py_version=self.py_version,
            role=self.role,
        )

    @checked_keywords
    def deploy(
        self,
        initial_instance_count: int = 1,
        instance_type: str = "local",
        *,
        accelerator_type: str | None = None,
        endpoint_name: str | None = None,
        startup_timeout: float = 480.0,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        wait: bool = True,
    ) -> Predictor:
        """Start an endpoint and, with `wait`, stay until its model is loaded.

        Raises `EndpointFailedError` with the model's own reason, `EndpointExistsError` where the
        name is taken, and what packing raises.
        """
        plan = self.plan(
            initial_instance_count,
            instance_type,
            accelerator_type=accelerator_type,
            endpoint_name=endpoint_name,
            startup_timeout=startup_timeout,
            backend=backend,
            hardware=hardware,
        )
        carrier = PluginCarrier.of(self.plugins, plan.packager, self._packing(plan))
        handle = self.plugins.backends.create(plan.backend).deploy(plan, carrier)
        if wait:
            _await_service(handle)
        return Predictor(handle.name, handle=handle, plugins=self.plugins)

    def _packing(self, plan: EndpointPlan) -> Callable[[Packager, Path], Bundle]:
        def pack(packager: Packager, into: Path) -> Bundle:
            with fetched(self.plugins, plan.model.uri, into) as model:
                return packager.pack_model(model, plan.source, into)

        return pack


class PyTorchModel(Model):
    """A `Model` of a PyTorch script, by the name that SageMaker's documentation uses."""


def _source(
    entry_point: PathLike | None, source_dir: PathLike | None, dependencies: Sequence[PathLike]
) -> SourceCode | None:
    if entry_point is None:
        if source_dir is not None or dependencies:
            raise InvalidPlanError(
                "source_dir and dependencies belong to an inference script: give entry_point"
            )
        return None
    return SourceCode.of(entry_point, source_dir, dependencies)


def _await_service(handle: EndpointHandle) -> None:
    """Stay until the endpoint is in service. Ctrl-C meanwhile deletes it."""
    try:
        with Progress(f"endpoint {handle.name} Creating") as progress:
            while (description := handle.describe()).status is EndpointStatus.CREATING:
                time.sleep(_POLL)
            in_service = description.status is EndpointStatus.IN_SERVICE and description.url
            where = f" at {description.url}" if in_service else ""
            progress.line(f"endpoint {handle.name}: {description.status}{where}")
    except KeyboardInterrupt:
        handle.delete()
        raise
    if description.status is EndpointStatus.FAILED:
        hint = f"The whole log is {description.log}" if description.log else ""
        raise EndpointFailedError(handle.name, description.reason, hint)
