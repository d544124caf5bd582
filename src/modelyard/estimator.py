"""Estimators: from keywords to a training plan, and from the plan to a trained model."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

from modelyard.core.carrier import PluginCarrier, as_uri
from modelyard.core.contracts import Backend, DescribedHardware, JobDescription, JobHandle
from modelyard.core.errors import InvalidPlanError, JobFailedError, JobStoppedError
from modelyard.core.keywords import checked_keywords
from modelyard.core.manager import PluginManager
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


class Estimator:
    """A training script with everything that it needs to run.

    ``entry_point``: the script, in ``source_dir`` where that is given; ``dependencies``: files and
    folders to put beside it; ``hyperparameters``: become the script's arguments; ``instance_type``
    and ``instance_count``: what to run on, ``"local"`` for this machine; ``environment``: variables
    of the script; ``distribution``: how to launch it on several processes, as SDK v2 spells it;
    ``input_mode``: how it gets its data, ``File``, ``Pipe`` or ``FastFile``; ``checkpoint_s3_uri``: the
    folder that is ``checkpoints`` in the job, found again by the next one; ``max_run``: seconds after
    which the job is stopped; ``metric_definitions``: what to look for in the log, as
    ``{"Name": ..., "Regex": ...}`` with the number in the first group;
    ``output_path``: where the model goes, below a folder of the job's name; ``job_name``: of the
    next job, else made from ``base_job_name``; ``backend``, ``hardware``, ``launcher`` and
    ``packager``: names or `ProviderRef` of providers, instead of those that the instance type
    selects; ``plugins``: a `PluginManager`, instead of what is installed.

    Raises ``TypeError`` for an unknown keyword and `InvalidPlanError` for values that cannot be.
    """

    @checked_keywords
    def __init__(
        self,
        entry_point: PathLike,
        *,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] = (),
        hyperparameters: Mapping[str, Any] | None = None,
        instance_type: str = "local",
        instance_count: int = 1,
        framework_version: str | None = None,
        py_version: str | None = None,
        role: str | None = None,
        output_path: PathLike | None = None,
        base_job_name: str | None = None,
        job_name: str | None = None,
        environment: Mapping[str, str] | None = None,
        distribution: Mapping[str, Any] | None = None,
        input_mode: InputMode | str = InputMode.FILE,
        checkpoint_s3_uri: PathLike | None = None,
        max_run: float | None = None,
        metric_definitions: Sequence[Mapping[str, str]] = (),
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        launcher: ProviderRef | str | None = None,
        packager: ProviderRef | str | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.source = SourceCode.of(entry_point, source_dir, dependencies)
        self.resources = Resources(instance_type, instance_count)
        self.framework_version = framework_version
        self.py_version = py_version
        self.role = role
        self.output_path = None if output_path is None else os.fspath(output_path)
        self.base_job_name = base_job_name
        self.environment = dict(environment or {})
        self.distribution = distribution
        self.input_mode = input_mode
        self.checkpoint_s3_uri = None if checkpoint_s3_uri is None else as_uri(checkpoint_s3_uri)
        self.max_run = max_run
        self.metric_definitions = tuple(_metric(definition) for definition in metric_definitions)
        self.plugins = plugins or PluginManager.discover()
        self._hyperparameters = dict(hyperparameters or {})
        self._job_name = job_name
        self._asked = {"backend": backend, "hardware": hardware, "launcher": launcher, "packager": packager}
        self._job: JobHandle | None = None

    @property
    def entry_point(self) -> str:
        """The training script."""
        return self.source.entry_point

    @property
    def source_dir(self) -> str | None:
        """The folder of the training script, if one was given."""
        return self.source.source_dir

    def __repr__(self) -> str:
        resources = self.resources
        return (
            f"{type(self).__name__}({self.entry_point!r}, source_dir={self.source_dir!r}, "
            f"instance_type={resources.instance_type!r}, instance_count={resources.instance_count})"
        )

    # -- before the job ------------------------------------------------------------------------

    def hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters."""
        return dict(self._hyperparameters)

    def set_hyperparameters(self, **hyperparameters: object) -> None:
        """Add or replace hyperparameters."""
        self._hyperparameters.update(hyperparameters)

    @checked_keywords
    def plan(self, inputs: Inputs = None, *, job_name: str | None = None) -> TrainingPlan:
        """Return what `fit` would run, without running it: ``print(estimator.plan(inputs))``.

        Raises `InvalidPlanError`, and `UnknownProviderError` for an instance type or a distribution
        that no plugin offers.
        """
        plugins, asked, resources = self.plugins, self._asked, self.resources
        hardware = plugins.select_hardware(resources, asked["hardware"])
        return TrainingPlan(
            job_name=job_name or self._job_name or unique_name(self.base_job_name or "pytorch-training"),
            source=self.source,
            backend=plugins.select_backend(resources, asked["backend"]),
            hardware=hardware,
            launcher=plugins.select_launcher(resources, hardware.name, self.distribution, asked["launcher"]),
            packager=plugins.select_packager(self.source, asked["packager"]),
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

    # -- the job -------------------------------------------------------------------------------

    @checked_keywords
    def fit(
        self, inputs: Inputs = None, wait: bool = True, logs: bool = True, job_name: str | None = None
    ) -> None:
        """Train: start the job and, with `wait`, stay until it has ended, showing its log.

        `inputs`: a folder or file (path or URI) for the channel ``train``, or a dict of them by
        channel. Without `wait` the job goes on by itself, also after this process has ended.
        Ctrl-C while waiting stops the job. Raises `JobFailedError` with the script's own reason and
        `JobStoppedError`; what is known to be wrong is raised before anything is launched.
        """
        plan = self.plan(inputs, job_name=job_name)
        backend = self.plugins.backends.create(plan.backend)
        carrier = PluginCarrier.of(
            self.plugins, plan.packager, lambda packager, into: packager.pack_source(plan.source, into)
        )
        self._job = backend.submit(plan, carrier, attached=wait)
        try:
            self.plugins.job_started(plan)
            if wait:
                self.wait(logs=logs)
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
        *,
        backend: ProviderRef | str = "local",
        plugins: PluginManager | None = None,
    ) -> Self:
        """Return an estimator for a job that this or another process started.

        A job that is still running is waited for, with its log. Raises `JobNotFoundError`, and what
        `fit` raises for a job that failed.
        """
        manager = plugins or PluginManager.discover()
        handle = _backend(manager, backend).job(training_job_name)
        description = _completed(handle, manager, show=True)
        plan = description.plan
        estimator = cls(
            plan.source.program,
            source_dir=description.source_data,
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
            backend=backend,
            hardware=plan.hardware,
            launcher=plan.launcher,
            packager=plan.packager,
            plugins=manager,
        )
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

    @checked_keywords
    def create_model(
        self,
        *,
        entry_point: PathLike | None = None,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        role: str | None = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> PyTorchModel:
        """Return the model of the latest job, with the estimator's code or the code given here."""
        return PyTorchModel(
            self.model_data,
            role=role or self.role,
            entry_point=entry_point or self.source.entry_point,
            source_dir=source_dir or self.source.source_dir,
            dependencies=self.source.dependencies if dependencies is None else dependencies,
            framework_version=self.framework_version,
            py_version=self.py_version,
            env=env,
            name=name,
            plugins=self.plugins,
        )

    @checked_keywords
    def deploy(
        self,
        initial_instance_count: int = 1,
        instance_type: str = "local",
        *,
        endpoint_name: str | None = None,
        entry_point: PathLike | None = None,
        source_dir: PathLike | None = None,
        dependencies: Sequence[PathLike] | None = None,
        env: Mapping[str, str] | None = None,
        backend: ProviderRef | str | None = None,
        hardware: ProviderRef | str | None = None,
        startup_timeout: float = 480.0,
        wait: bool = True,
    ) -> Predictor:
        """Serve the latest job's model and return a `Predictor` for its endpoint.

        `entry_point`: the inference script where it is not the training script; `startup_timeout`:
        seconds that the model may take to load. Raises what `PyTorchModel.deploy` raises.
        """
        model = self.create_model(
            entry_point=entry_point, source_dir=source_dir, dependencies=dependencies, env=env
        )
        return model.deploy(
            initial_instance_count,
            instance_type,
            endpoint_name=endpoint_name,
            backend=backend,
            hardware=hardware,
            startup_timeout=startup_timeout,
            wait=wait,
        )

    def _latest(self) -> JobHandle:
        if self._job is None:
            raise InvalidPlanError("there is no training job yet: call fit() first, or attach() to one")
        return self._job


class PyTorch(Estimator):
    """An `Estimator` of a PyTorch script, by the name that SageMaker's documentation uses."""


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


def _backend(plugins: PluginManager, backend: ProviderRef | str) -> Backend:
    return plugins.backends.create(plugins.resolve("backend", backend))


def _stop(job: JobHandle) -> None:
    """Stop a job on Ctrl-C, and say so: the script may take its time."""
    with Progress(f"{job.name} Stopping") as progress:
        progress.line(f"training job {job.name}: stopping")
        job.stop()
        progress.line(f"training job {job.name}: {job.describe().status}")


def _follow(job: JobHandle, plugins: PluginManager, *, show: bool) -> None:
    """Wait for the job's end, with its log and its state where they are to be shown."""
    if not show:
        for _ in job.logs(follow=True):
            pass
        return
    with Progress(f"{job.name} InProgress") as progress:
        progress.line(f"training job {job.name} started")
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


def _completed(job: JobHandle, plugins: PluginManager, *, show: bool) -> JobDescription:
    """Wait for the job, tell the plugins, and return what it left; raise if it did not complete."""
    _follow(job, plugins, show=show)
    description = job.describe()
    plugins.job_finished(description)
    hint = f"The whole log is {description.log}" if description.log else ""
    if description.status is JobStatus.FAILED:
        raise JobFailedError(description.name, description.reason, hint)
    if description.status is JobStatus.STOPPED:
        raise JobStoppedError(description.name, description.reason)
    return description
