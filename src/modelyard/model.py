"""Models: from an archive and an inference script to an endpoint."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from modelyard.compat.names import old_keywords
from modelyard.core.backend_keywords import BackendKeywords
from modelyard.core.carrier import PluginCarrier, as_uri, local_path
from modelyard.core.contracts import Bundle, EndpointHandle
from modelyard.core.errors import EndpointFailedError, InvalidPlanError, PackagingError
from modelyard.core.keywords import keywords_of
from modelyard.core.manager import PluginManager
from modelyard.core.places import Place, place_of
from modelyard.core.plans import (
    EndpointPlan,
    EndpointStatus,
    ModelSource,
    ProviderRef,
    Resources,
    SourceCode,
    unique_name,
)
from modelyard.predictor import predictor_of
from modelyard.progress import Progress

PathLike = str | os.PathLike[str]

_POLL = 0.02
_WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
_LOG_LEVEL = "SAGEMAKER_CONTAINER_LOG_LEVEL"


class Model:
    """A trained model with the code that serves it.

    ``model_data``: the ``model.tar.gz`` (path or URI), or a folder with the model's files;
    ``entry_point``, ``source_dir`` and ``dependencies``: the inference script, as for an
    `Estimator`; without them the code that the archive brings in ``code/`` is used; ``env``:
    variables of the endpoint; ``name``: the beginning of the endpoint's name;
    ``model_server_workers``: how many processes serve it; ``container_log_level``: the number of a
    log level, 20 for INFO; ``predictor_cls``: makes what `deploy` returns; ``vpc_config``: as SDK v2
    spells it; ``sagemaker_session``: a `modelyard.Session`. Further keywords are options of the
    backend, such as ``image_uri``, ``tags`` and ``subnets`` for SageMaker.

    Raises ``TypeError`` for an unknown keyword and `InvalidPlanError` for code without a script.
    """

    @old_keywords
    def __init__(
        self,
        model_data: PathLike | Mapping[str, Any],
        role: str | None = None,
        entry_point: PathLike | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Callable[..., Any] | None = None,
        model_server_workers: int | None = None,
        *,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        container_log_level: int | None = None,
        vpc_config: Mapping[str, Sequence[str]] | None = None,
        sagemaker_session: object = None,
        plugins: PluginManager | None = None,
        **options: Any,
    ) -> None:
        place = place_of(sagemaker_session)
        self.plugins = plugins or (place and place.plugins) or PluginManager.discover()
        self._place = place
        self._keywords = BackendKeywords.of(
            self.plugins,
            {"image_uri": image_uri, **_network(vpc_config), **options},
            called=type(self).__name__,
            known=keywords_of(Model.__init__),
            quiet=place.backend.options if place else None,
        )
        self.model_data = _location(model_data, role)
        self.role = role
        self.source = _source(entry_point, source_dir, dependencies or ())
        self.framework_version = framework_version
        self.py_version = py_version
        self.image_uri = image_uri
        self.predictor_cls = predictor_cls
        self.env = _variables(env, {_WORKERS: model_server_workers, _LOG_LEVEL: container_log_level})
        self.name = name
        self.sagemaker_session = sagemaker_session

    @old_keywords
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
        **options: Any,
    ) -> EndpointPlan:
        """Return what `deploy` would start, without starting it."""
        resources = Resources(instance_type, initial_instance_count, accelerator_type)
        plugins = self.plugins
        asked = backend or (self._place.backend.name if self._place and self._place.decides else None)
        return EndpointPlan(
            endpoint_name=endpoint_name or unique_name(self.name or "pytorch-inference"),
            model=ModelSource(as_uri(self.model_data)),
            backend=self._with(options, "plan").applied(plugins.select_backend(resources, asked)),
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

    @old_keywords
    def deploy(
        self,
        initial_instance_count: int = 1,
        instance_type: str = "local",
        serializer: Any = None,
        deserializer: Any = None,
        accelerator_type: str | None = None,
        endpoint_name: str | None = None,
        *,
        startup_timeout: float = 480.0,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        wait: bool = True,
        **options: Any,
    ) -> Any:
        """Start an endpoint and, with `wait`, stay until its model is loaded; return its `Predictor`.

        `serializer` and `deserializer` are set on the predictor. Further keywords are options of the
        backend. Raises `EndpointFailedError` with the model's own reason, `EndpointExistsError` where
        the name is taken, and what packing raises.
        """
        keywords = self._with(options, "deploy")
        plan = self.plan(
            initial_instance_count,
            instance_type,
            accelerator_type=accelerator_type,
            endpoint_name=endpoint_name,
            startup_timeout=startup_timeout,
            backend=backend,
            hardware=hardware,
            **options,
        )
        carrier = PluginCarrier.of(
            self.plugins, plan.packager, partial(_packed, plan), partial(_here, plan.source)
        )
        handle = self.plugins.backends.create(plan.backend).deploy(plan, carrier)
        if wait:
            _await_service(handle, keywords.note(plan.backend))
        place = Place(plan.backend, self.plugins)
        return predictor_of(
            self.predictor_cls, handle, place, serializer=serializer, deserializer=deserializer
        )

    def _with(self, options: Mapping[str, Any], method: str) -> BackendKeywords:
        """Return the model's keywords for backends with those of a call of `method`, which win."""
        if not options:
            return self._keywords
        known = keywords_of(getattr(Model, method))
        called = f"{type(self).__name__}.{method}"
        return self._keywords.merged(BackendKeywords.of(self.plugins, options, called=called, known=known))


class PyTorchModel(Model):
    """A `Model` of a PyTorch script, by the name that SageMaker's documentation uses."""


def _packed(plan: EndpointPlan, carrier: PluginCarrier, into: Path) -> Bundle:
    """Write the model's archive, with its code, into a folder."""
    uri = plan.model.uri
    with carrier.fetched(uri, into) as model, _here(plan.source, carrier, into) as source:
        try:
            return carrier.packager.pack_model(model, source, into)
        except PackagingError as error:
            if local_path(uri):
                raise
            # The user knows the URI, and not the copy of it that is gone by now.
            raise type(error)(str(error).replace(str(model), uri)) from None


@contextmanager
def _here(source: SourceCode | None, carrier: PluginCarrier, folder: Path) -> Iterator[SourceCode | None]:
    """Give the source with its folder on this machine: that of a job may be in another place."""
    if source is None or "://" not in (source.source_dir or ""):
        yield source
        return
    with carrier.fetched(str(source.source_dir), folder) as code:
        yield attrs.evolve(source, source_dir=str(code))


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


def _location(model_data: PathLike | Mapping[str, Any], role: str | None) -> str:
    if role is not None and "://" in role:
        raise InvalidPlanError(
            f"the role is {role!r}, which is a place: model_data comes first, then role; give image_uri by "
            "its name"
        )
    return _on_s3(model_data) if isinstance(model_data, Mapping) else os.fspath(model_data)


def _on_s3(model_data: Mapping[str, Any]) -> str:
    """Return the URI of SDK v2's ``{"S3DataSource": {...}}``: that of a folder has a slash at its end."""
    match model_data:
        case {"S3DataSource": {"S3Uri": str(uri), "S3DataType": "S3Prefix", "CompressionType": "None"}}:
            return f"{uri.rstrip('/')}/"
        case {"S3DataSource": {"S3Uri": str(uri), "S3DataType": "S3Object", "CompressionType": "Gzip"}}:
            return uri
    raise InvalidPlanError(
        'model_data as a dict is {"S3DataSource": {"S3Uri": "s3://...", "S3DataType": "S3Prefix", '
        '"CompressionType": "None"}} for a folder of files, or "S3Object" and "Gzip" for an archive, not '
        f"{model_data!r}"
    )


def _network(vpc_config: Mapping[str, Sequence[str]] | None) -> dict[str, Sequence[str]]:
    """Return the options that SDK v2's ``vpc_config`` says in one. Raises `InvalidPlanError`."""
    if vpc_config is None:
        return {}
    if not isinstance(vpc_config, Mapping) or set(vpc_config) != {"Subnets", "SecurityGroupIds"}:
        raise InvalidPlanError(
            f'vpc_config is {{"Subnets": [...], "SecurityGroupIds": [...]}}, not {vpc_config!r}'
        )
    return {"subnets": vpc_config["Subnets"], "security_group_ids": vpc_config["SecurityGroupIds"]}


def _variables(env: Mapping[str, str] | None, said: Mapping[str, int | None]) -> dict[str, str]:
    """Return the endpoint's variables with those that keywords stand for. Raises `InvalidPlanError`."""
    variables = dict(env or {})
    for variable, value in said.items():
        if value is None:
            continue
        if type(value) is not int or value < 0:
            raise InvalidPlanError(f"{variable} is a whole number, not {value!r}")
        if variables.setdefault(variable, str(value)) != str(value):
            raise InvalidPlanError(
                f"env says {variable}={variables[variable]!r}, and its keyword {value}: leave one of them out"
            )
    return variables


def _await_service(handle: EndpointHandle, note: str = "") -> None:
    """Stay until the endpoint is in service, and say what is to be noted. Ctrl-C meanwhile deletes it."""
    try:
        with Progress(f"endpoint {handle.name} Creating") as progress:
            if note:
                progress.line(f"note: {note}")
            progress.line(f"endpoint {handle.name} started")  # It may take minutes to load.
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
