"""Estimators: from keywords to a training plan, and from the plan to a trained model."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from modelyard.compat.names import old_keywords
from modelyard.core.backend_keywords import BackendKeywords, backend_options
from modelyard.core.carrier import PluginCarrier, as_uri
from modelyard.core.contracts import (
    Bundle,
    DescribedHardware,
    EndpointHandle,
    JobDescription,
    JobHandle,
    Packager,
)
from modelyard.core.errors import InvalidPlanError, JobFailedError, JobNotFoundError, JobStoppedError
from modelyard.core.keywords import checked_keywords, keywords_of
from modelyard.core.manager import PluginManager
from modelyard.core.places import found_anywhere, place_of
from modelyard.core.plans import (
    InputMode,
    JobStatus,
    MetricDefinition,
    ProviderRef,
    Resources,
    SourceCode,
    TrainingPlan,
    unique_name,
)
from modelyard.core.redaction import REDACTED
from modelyard.inputs import Inputs, PathLike, channels
from modelyard.model import PyTorchModel
from modelyard.predictor import Predictor
from modelyard.progress import Progress

T = TypeVar("T")


_PROGRAM, _SUBMIT_DIRECTORY = "SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY"

_HANDED_ON = (
    "code_location",
    "enable_network_isolation",
    "image_uri",
    "security_group_ids",
    "subnets",
    "tags",
)
"""The options of a job's backend that its model's endpoint gets as well, as with SDK v2."""


class Estimator:
    """A training script, or an image that has one, with everything that it needs to run.

    ``image_uri``: of a container, for a backend that runs them; ``role``: for a backend that needs
    one; ``entry_point``: the script, in ``source_dir`` where that is given; ``dependencies``: files
    and folders to put beside it; ``hyperparameters``: become the script's arguments; ``instance_type``
    and ``instance_count``: what to run on, ``"local"`` for this machine; ``environment``: variables
    of the script; ``distribution``: how to launch it on several processes, as SDK v2 spells it;
    ``input_mode``: how it gets its data, ``File``, ``Pipe`` or ``FastFile``; ``checkpoint_s3_uri``: the
    folder that is ``checkpoints`` in the job, found again by the next one; ``max_run``: seconds after
    which the job is stopped; ``metric_definitions``: what to look for in the log, as
    ``{"Name": ..., "Regex": ...}`` with the number in the first group;
    ``output_path``: where the model goes, below a folder of the job's name; ``job_name``: of the
    next job, else made from ``base_job_name``; ``sagemaker_session``: a `modelyard.Session`;
    ``backend``, ``hardware``, ``launcher`` and ``packager``: names or `ProviderRef` of providers,
    instead of those that the instance type selects; ``plugins``: a `PluginManager`, instead of what is
    installed. Further keywords are options of the backend, such as ``volume_size``, ``subnets`` and
    ``tags`` for SageMaker: one that the chosen backend has no use for is noted.

    An image alone runs where the backend runs images; elsewhere the variables that its Dockerfile
    sets, ``SAGEMAKER_PROGRAM`` and ``SAGEMAKER_SUBMIT_DIRECTORY``, name the script, in ``environment``
    or in this process.

    Raises ``TypeError`` for an unknown keyword and `InvalidPlanError` for values that cannot be.
    """

    @old_keywords
    def __init__(
        self,
        image_uri: str | None = None,
        role: str | None = None,
        instance_count: int = 1,
        instance_type: str = "local",
        *,
        entry_point: PathLike | None = None,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        output_path: PathLike | None = None,
        base_job_name: str | None = None,
        job_name: str | None = None,
        environment: Mapping[str, str] | None = None,
        distribution: Mapping[str, Any] | None = None,
        input_mode: InputMode | str = InputMode.FILE,
        checkpoint_s3_uri: PathLike | None = None,
        max_run: float | None = None,
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        sagemaker_session: object = None,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        launcher: ProviderRef | str | None = None,
        packager: ProviderRef | str | None = None,
        plugins: PluginManager | None = None,
        **options: Any,
    ) -> None:
        place = place_of(sagemaker_session)
        self.plugins = plugins or (place and place.plugins) or PluginManager.discover()
        self._keywords = BackendKeywords.of(
            self.plugins,
            {"image_uri": image_uri, **options},
            called=type(self).__name__,
            known=keywords_of(Estimator.__init__) | keywords_of(type(self).__init__),
            quiet={**(place.backend.options if place else {}), **_strategy(distribution)},
        )
        self.environment = dict(environment or {})
        self.source = _source(entry_point, source_dir, dependencies or ())
        self.image_uri = _image(image_uri)
        self.resources = Resources(instance_type, instance_count)
        self.framework_version = framework_version
        self.py_version = py_version
        self.role = role
        self.output_path = None if output_path is None else os.fspath(output_path)
        self.base_job_name = base_job_name
        self.distribution = distribution
        self.input_mode = input_mode
        self.checkpoint_s3_uri = None if checkpoint_s3_uri is None else as_uri(checkpoint_s3_uri)
        self.max_run = max_run
        self.metric_definitions = tuple(_metric(definition) for definition in metric_definitions or ())
        self.sagemaker_session = sagemaker_session
        self._hyperparameters = {str(name): value for name, value in (hyperparameters or {}).items()}
        self._job_name = job_name
        chosen = backend or (place.backend.name if place and place.decides else None)
        self._asked = {"backend": chosen, "hardware": hardware, "launcher": launcher, "packager": packager}
        self._job: JobHandle | None = None
        self._ran: SourceCode | None = None
        self._deployed: EndpointHandle | None = None

    @property
    def entry_point(self) -> str | None:
        """The training script; None for that of an image."""
        return self.source.entry_point if self.source else None

    @property
    def source_dir(self) -> str | None:
        """The folder of the training script, if one was given."""
        return self.source.source_dir if self.source else None

    @property
    def instance_type(self) -> str:
        """The type of the machines."""
        return self.resources.instance_type

    @property
    def instance_count(self) -> int:
        """How many machines."""
        return self.resources.instance_count

    def __repr__(self) -> str:
        resources = self.resources
        what = self.image_uri if self.source is None else self.entry_point
        return (
            f"{type(self).__name__}({what!r}, source_dir={self.source_dir!r}, "
            f"instance_type={resources.instance_type!r}, instance_count={resources.instance_count})"
        )

    # -- before the job ------------------------------------------------------------------------

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters."""
        return dict(self._hyperparameters)

    def set_hyperparameters(self, **hyperparameters: object) -> None:
        """Add or replace hyperparameters."""
        self._hyperparameters.update(hyperparameters)

    def plan(self, inputs: Inputs = None, *, job_name: str | None = None, **options: Any) -> TrainingPlan:
        """Return what `fit` would run, without running it: ``print(estimator.plan(inputs))``.

        Raises `InvalidPlanError`, and `UnknownProviderError` for an instance type or a distribution
        that no plugin offers.
        """
        plugins, asked, resources = self.plugins, self._asked, self.resources
        hardware = plugins.select_hardware(resources, asked["hardware"])
        keywords = self._with(options, "plan")
        backend = keywords.applied(plugins.select_backend(resources, asked["backend"]))
        source = self._source_for(backend)
        return TrainingPlan(
            job_name=job_name or self._job_name or unique_name(self.base_job_name or "pytorch-training"),
            source=source,
            backend=backend,
            hardware=hardware,
            launcher=plugins.select_launcher(resources, hardware.name, self.distribution, asked["launcher"]),
            packager=plugins.select_packager(source, asked["packager"]),
            resources=resources,
            hyperparameters=self._hyperparameters,
            channels=channels(inputs, input_mode=self.input_mode),
            environment=self.environment,
            output_path=None if self.output_path is None else as_uri(self.output_path),
            framework_version=self.framework_version,
            py_version=self.py_version,
            role=self.role,
            checkpoint_uri=self.checkpoint_s3_uri,
            max_run=self.max_run,
            metrics=self.metric_definitions,
        )

    def _with(self, options: Mapping[str, Any], method: str) -> BackendKeywords:
        """Return the estimator's keywords for backends with those of a call of `method`, which win."""
        if not options:
            return self._keywords
        known = keywords_of(getattr(Estimator, method))
        called = f"{type(self).__name__}.{method}"
        return self._keywords.merged(BackendKeywords.of(self.plugins, options, called=called, known=known))

    def _source_for(self, backend: ProviderRef) -> SourceCode | None:
        """Return the script, or None for one that the image has. Raises `InvalidPlanError` for neither."""
        if self.source is not None:
            return self.source
        if self.image_uri and backend.name in backend_options(self.plugins).get("image_uri", ()):
            return None
        found = {**os.environ, **self.environment}
        if _PROGRAM in found:
            return SourceCode.of(found[_PROGRAM], found.get(_SUBMIT_DIRECTORY), ())
        why = f"the backend {backend.name!r} runs no images: give" if self.image_uri else "give"
        raise InvalidPlanError(
            f"there is no script to run; {why} entry_point, or in environment the variables {_PROGRAM} and "
            f"{_SUBMIT_DIRECTORY} of the image's Dockerfile"
        )

    # -- the job -------------------------------------------------------------------------------

    def fit(
        self,
        inputs: Inputs = None,
        wait: bool = True,
        logs: bool | str | Sequence[str] = True,
        job_name: str | None = None,
        **options: Any,
    ) -> None:
        """Train: start the job and, with `wait`, stay until it has ended, showing its log.

        `inputs`: a folder or file (path or URI) for the channel ``train``, or a dict of them by
        channel. `logs`: also as SDK v2 spells it, ``"All"`` or ``"None"``. Further keywords are options
        of the backend for this job. Without `wait` the job goes on by itself, also after this process
        has ended. Ctrl-C while waiting stops the job. Raises `JobFailedError` with the script's own
        reason and `JobStoppedError`; what is known to be wrong is raised before anything is launched.
        """
        keywords = self._with(options, "fit")
        plan = self.plan(inputs, job_name=job_name, **options)
        backend = self.plugins.backends.create(plan.backend)
        carrier = PluginCarrier.of(
            self.plugins, plan.packager, lambda carrier, into: _packed(carrier.packager, plan, into)
        )
        self._job = backend.submit(plan, carrier, attached=wait)
        self._ran = plan.source
        try:
            self.plugins.job_started(plan)
            if wait:
                if _shows(logs) and (note := keywords.note(plan.backend)):
                    _say(f"note: {note}")
                self.wait(logs=_shows(logs))
        except KeyboardInterrupt:
            if wait:
                _stop(self._job)
            raise

    def wait(self, *, logs: bool = True) -> None:
        """Stay until the latest job has ended. Raises what `fit` raises; Ctrl-C leaves the job alone."""
        _completed(self._latest(), self.plugins, show=logs)

    def stop(self) -> None:
        """Stop the latest job and wait for its end."""
        self._latest().stop()

    @classmethod
    @checked_keywords
    def attach(
        cls,
        training_job_name: str,
        sagemaker_session: object = None,
        *,
        backend: ProviderRef | str | None = None,
        plugins: PluginManager | None = None,
    ) -> Self:
        """Return an estimator for a job that this or another process started.

        `sagemaker_session` or `backend`: where it runs; without them the local backend is asked first,
        then the others. A job that is still running is waited for, with its log. Raises
        `JobNotFoundError`, and what `fit` raises for a job that failed.
        """
        place = place_of(sagemaker_session)
        manager = plugins or (place and place.plugins) or PluginManager.discover()
        asked = backend or (place.backend if place else None)
        where, handle = found_anywhere(
            manager, asked, lambda found: (found.name, found.job(training_job_name)), JobNotFoundError
        )
        description = _completed(handle, manager, show=True, opening="found")
        plan = description.plan
        estimator = cls(
            entry_point=plan.source.program if plan.source else None,
            source_dir=description.source_data if plan.source else None,
            hyperparameters=_shown(plan.hyperparameters),
            instance_type=plan.resources.instance_type,
            instance_count=plan.resources.instance_count,
            framework_version=plan.framework_version,
            py_version=plan.py_version,
            role=plan.role,
            output_path=plan.output_path,
            environment=_shown(plan.environment),
            checkpoint_s3_uri=plan.checkpoint_uri,
            max_run=plan.max_run,
            metric_definitions=[{"Name": metric.name, "Regex": metric.regex} for metric in plan.metrics],
            backend=_attached(where, asked, plan.backend),
            hardware=plan.hardware,
            launcher=plan.launcher,
            packager=plan.packager,
            plugins=manager,
        )
        estimator.image_uri = plan.backend.options.get("image_uri")
        estimator.sagemaker_session = sagemaker_session
        estimator._job = handle
        return estimator

    # -- after the job -------------------------------------------------------------------------

    @property
    def latest_training_job(self) -> JobHandle | None:
        """The latest job: ``.name``, ``.describe()``, ``.logs()``, ``.stop()``; None before `fit`."""
        return self._job

    @property
    def model_data(self) -> str:
        """The URI of the latest job's ``model.tar.gz``. Raises `InvalidPlanError` before there is one."""
        description = self._latest().describe()
        if description.model_data is None:
            raise InvalidPlanError(
                f"training job {description.name!r} is {description.status}: it has no model"
            )
        return description.model_data

    def logs(self) -> None:
        """Print the latest job's log; for a job that is running, until it has ended."""
        for line in self._latest().logs(follow=True):
            print(line)  # noqa: T201 - it is what was asked for

    @old_keywords
    def create_model(
        self,
        model_server_workers: int | None = None,
        role: str | None = None,
        *,
        entry_point: PathLike | None = None,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        predictor_cls: Callable[..., Any] | None = None,
        container_log_level: int | None = None,
        vpc_config: Mapping[str, Sequence[str]] | None = None,
        **options: Any,
    ) -> PyTorchModel:
        """Return the model of the latest job, with the estimator's code or the code given here.

        It has the options of the estimator's backend that an endpoint needs as well: the image, the
        network, tags and where code goes.
        """
        known = keywords_of(Estimator.create_model)
        called = f"{type(self).__name__}.create_model"
        given = BackendKeywords.of(self.plugins, options, called=called, known=known).given
        source = self._ran or self.source
        level = self._keywords.given.get("container_log_level")
        return PyTorchModel(
            self.model_data,
            role or self.role,
            entry_point or (source.entry_point if source else None),
            source_dir=source_dir or (source.source_dir if source else None),
            dependencies=source.dependencies if source and dependencies is None else dependencies,
            framework_version=self.framework_version,
            py_version=self.py_version,
            env=env,
            name=name,
            predictor_cls=predictor_cls,
            model_server_workers=model_server_workers,
            container_log_level=level if container_log_level is None else container_log_level,
            vpc_config=vpc_config,
            sagemaker_session=self.sagemaker_session,
            plugins=self.plugins,
            **{**self._handed_on(vpc_config is None), **given},
        )

    def _handed_on(self, network: bool) -> dict[str, Any]:
        """Return the options of the job's backend that the model's endpoint gets, `network` included."""
        asked = self._asked["backend"]
        said = dict(asked.options) if isinstance(asked, ProviderRef) else {}
        left_out = () if network else ("subnets", "security_group_ids")
        return {
            name: value
            for name, value in {**said, **self._keywords.given}.items()
            if name in _HANDED_ON and name not in left_out
        }

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
        entry_point: PathLike | None = None,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        role: str | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        predictor_cls: Callable[..., Any] | None = None,
        model_server_workers: int | None = None,
        container_log_level: int | None = None,
        vpc_config: Mapping[str, Sequence[str]] | None = None,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        startup_timeout: float = 480.0,
        wait: bool = True,
        **options: Any,
    ) -> Any:
        """Serve the latest job's model and return a `Predictor` for its endpoint.

        `entry_point`: the inference script where it is not the training script; `startup_timeout`:
        seconds that the model may take to load; `serializer`, `deserializer`: set on the predictor;
        the others as for `PyTorchModel`. Further keywords are options of the backend. Raises what
        `PyTorchModel.deploy` raises.
        """
        # Before there has to be a job: a typo is one with or without it.
        self._with(options, "deploy")
        model = self.create_model(
            model_server_workers,
            role,
            entry_point=entry_point,
            source_dir=source_dir,
            dependencies=dependencies,
            env=env,
            name=name,
            predictor_cls=predictor_cls,
            container_log_level=container_log_level,
            vpc_config=vpc_config,
        )
        predictor = model.deploy(
            initial_instance_count,
            instance_type,
            serializer,
            deserializer,
            accelerator_type,
            endpoint_name,
            backend=backend,
            hardware=hardware,
            startup_timeout=startup_timeout,
            wait=wait,
            **options,
        )
        self._deployed = predictor.handle if isinstance(predictor, Predictor) else None
        return predictor

    def delete_endpoint(self) -> None:
        """End the endpoint that the latest `deploy` has started, as SDK v1 does."""
        if self._deployed is None:
            raise InvalidPlanError("this estimator has no endpoint: call deploy() first")
        self._deployed.delete()
        self._deployed = None

    def _latest(self) -> JobHandle:
        if self._job is None:
            raise InvalidPlanError("there is no training job yet: call fit() first, or attach() to one")
        return self._job


class PyTorch(Estimator):
    """An `Estimator` of a PyTorch script, by the name that SageMaker's documentation uses.

    The script comes first, then SDK v2's order; all other keywords are those of `Estimator`.
    """

    @old_keywords
    def __init__(
        self,
        entry_point: PathLike | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        source_dir: PathLike | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        distribution: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(
            image_uri,
            entry_point=entry_point,
            framework_version=framework_version,
            py_version=py_version,
            source_dir=source_dir,
            hyperparameters=hyperparameters,
            distribution=distribution,
            **keywords,
        )


def _source(
    entry_point: PathLike | None, source_dir: PathLike | None, dependencies: Sequence[PathLike]
) -> SourceCode | None:
    if entry_point is not None:
        return SourceCode.of(entry_point, source_dir, dependencies)
    if source_dir is not None or dependencies:
        raise InvalidPlanError("source_dir and dependencies belong to a training script: give entry_point")
    return None


def _strategy(distribution: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the option of a backend that needs the key of ``distribution``, and not the launcher alone."""
    # What is no mapping is the plan's to refuse.
    for key, options in distribution.items() if isinstance(distribution, Mapping) else ():
        if isinstance(options, Mapping) and options.get("enabled", True):
            library = next(iter(options), "") if key == "smdistributed" else ""
            return {"strategy": f"{key}.{library}" if library else key}
    return {}


def _image(image_uri: str | None) -> str | None:
    if image_uri is not None and image_uri.endswith((".py", ".sh")):
        raise InvalidPlanError(
            f"{image_uri!r} is a script, where an Estimator's first argument is image_uri: give "
            f"entry_point={image_uri!r}, or use PyTorch({image_uri!r})"
        )
    return image_uri


def _packed(packager: Packager, plan: TrainingPlan, into: Path) -> Bundle:
    if plan.source is None:
        raise InvalidPlanError(f"training job {plan.job_name!r} has no source: its image has the script")
    return packager.pack_source(plan.source, into)


def _attached(where: str, asked: ProviderRef | str | None, planned: ProviderRef) -> ProviderRef:
    """Return the backend that a job was found in, with the options of its plan and those asked with."""
    options = dict(planned.options) if planned.name == where else {}
    if isinstance(asked, ProviderRef):
        options |= asked.options
    return ProviderRef(where, options)


def _shows(logs: bool | str | Sequence[str]) -> bool:
    """Tell whether SDK v2's ``logs`` asks for the log: True, False, ``"All"``, ``"None"`` or a list."""
    return logs != "None" and bool(logs)


def _say(line: str) -> None:
    with Progress("") as progress:
        progress.line(line)


def _shown(values: Mapping[str, T]) -> dict[str, T]:
    """Return a saved plan's values without the secrets, which were never saved."""
    return {name: value for name, value in values.items() if REDACTED not in str(value)}


def _metric(definition: Mapping[str, str]) -> MetricDefinition:
    """Return a metric as SDK v2 spells it: ``{"Name": "loss", "Regex": "loss=([0-9.]+)"}``."""
    if not isinstance(definition, Mapping) or set(definition) != {"Name", "Regex"}:
        raise InvalidPlanError(
            f'a metric definition is {{"Name": "loss", "Regex": "loss=([0-9.]+)"}}, not {definition!r}'
        )
    return MetricDefinition(definition["Name"], definition["Regex"])


def _stop(job: JobHandle) -> None:
    """Stop a job on Ctrl-C, and say so: the script may take its time."""
    with Progress(f"{job.name} Stopping") as progress:
        progress.line(f"training job {job.name}: stopping")
        job.stop()
        progress.line(f"training job {job.name}: {job.describe().status}")


def _follow(job: JobHandle, plugins: PluginManager, *, show: bool, opening: str) -> None:
    """Wait for the job's end, with its log and its state where they are to be shown, after `opening`."""
    if not show:
        for _ in job.logs(follow=True):
            pass
        return
    with Progress(f"{job.name} InProgress") as progress:
        progress.line(f"training job {job.name} {opening}")
        if found := _found(job.describe().plan, plugins):
            progress.line(found)
        for line in job.logs(follow=True):
            progress.line(line)
        description = job.describe()
        progress.line(f"training job {job.name}: {description.status}")
        if description.model_data:
            progress.line(f"model: {description.model_data}")


def _found(plan: TrainingPlan, plugins: PluginManager) -> str:
    """Return what this machine has of the plan's hardware, where it is this machine that runs it."""
    if not plan.resources.instance_type.startswith("local"):
        return ""
    hardware = plugins.hardware.create(plan.hardware)
    found = f": {hardware.describe()}" if isinstance(hardware, DescribedHardware) else ""
    return f"hardware {plan.hardware.name}{found}"


def _completed(
    job: JobHandle, plugins: PluginManager, *, show: bool, opening: str = "started"
) -> JobDescription:
    """Wait for the job, tell the plugins, and return what it left; raise if it did not complete."""
    _follow(job, plugins, show=show, opening=opening)
    description = job.describe()
    plugins.job_finished(description)
    hint = f"The whole log is {description.log}" if description.log else ""
    if description.status is JobStatus.FAILED:
        raise JobFailedError(description.name, description.reason, hint)
    if description.status is JobStatus.STOPPED:
        raise JobStoppedError(description.name, description.reason)
    return description
