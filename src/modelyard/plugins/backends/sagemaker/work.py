"""A plan becomes requests to SageMaker, and what SageMaker says becomes descriptions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelyard.core.carrier import ARCHIVE
from modelyard.core.contracts import Carrier, EndpointDescription, JobDescription
from modelyard.core.errors import (
    EndpointError,
    EndpointExistsError,
    EndpointNotFoundError,
    InvalidPlanError,
    JobError,
    JobExistsError,
    ModelyardError,
)
from modelyard.core.log import get_logger
from modelyard.core.plans import EndpointPlan, EndpointStatus, SourceCode, TrainingPlan
from modelyard.plugins.backends.sagemaker import wire
from modelyard.plugins.backends.sagemaker.clients import Clients, reporting
from modelyard.plugins.backends.sagemaker.endpoint import SageMakerEndpointHandle
from modelyard.plugins.backends.sagemaker.images import inference_image, layout_is_old, training_image
from modelyard.plugins.backends.sagemaker.job import SageMakerJobHandle
from modelyard.plugins.backends.sagemaker.s3_repack import repacked
from modelyard.plugins.backends.sagemaker.service import (
    CONFIG,
    ENDPOINT,
    JOB,
    MODEL,
    PerhapsMadeError,
    Service,
    undoing,
)
from modelyard.plugins.backends.sagemaker.settings import Settings
from modelyard.plugins.backends.sagemaker.staging import Staging, check_on_s3, in_older_layout

_PARALLEL = 8
_TO_BE_SENT = ""
"""Stands for the URI of a source that is still on this machine."""

_FAILED = "Failed"
"""The one state of an endpoint in which nothing can be done with it but to delete it."""

_log = get_logger(__name__)


class Work:
    """What a backend of these settings does: the methods of `SageMakerBackend`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)

    @property
    def _service(self) -> Service:
        return Service(self._clients)

    # -- jobs ----------------------------------------------------------------------------------

    def submit(self, plan: TrainingPlan, carrier: Carrier) -> SageMakerJobHandle:
        """Upload the source and the data, and have the job created."""
        doing = f"cannot start training job {plan.job_name!r}"
        with reporting(doing, JobError):
            check_on_s3("output_path", plan.output_path)
            check_on_s3("checkpoint_s3_uri", plan.checkpoint_uri)
            region = self._clients.region
            image = self._settings.image_uri or training_image(
                plan.framework_version, plan.py_version, plan.resources.instance_type, region
            )
            # Asked of the service only if everything that can be known without it is right.
            wire.create_training_job(plan, self._settings, _trial(plan, image, region))
            if self._service.find(JOB, plan.job_name, doing) is not None:
                raise _job_exists(plan.job_name)
            staging = Staging(self._clients, self._settings, carrier, self._settings.output_kms_key)
            role = staging.role(plan.role)
            source = _source(plan.source, staging)
            output = "" if plan.output_path else f"{staging.default_folder}/"
            with staging.channels(plan) as channels:
                facts = wire.JobFacts(image, role, region, source, output, channels)
                if not self._service.make(JOB, wire.create_training_job(plan, self._settings, facts)):
                    raise _job_exists(plan.job_name)
        return SageMakerJobHandle(self._clients, self._settings, plan.job_name)

    def job(self, name: str) -> SageMakerJobHandle:
        """Return the job of that name, whoever made it. Raises `JobNotFoundError`."""
        handle = SageMakerJobHandle(self._clients, self._settings, name)
        handle.describe()
        return handle

    def jobs(self) -> Iterator[JobDescription]:
        """Yield the newest jobs of the account and region, as many as ``list_limit``, the oldest first."""
        with reporting("cannot list the training jobs", JobError):
            names = self._newest("list_training_jobs", "TrainingJobSummaries", "TrainingJobName")
        yield from self._described(self.job, names)

    # -- endpoints -----------------------------------------------------------------------------

    def deploy(self, plan: EndpointPlan, carrier: Carrier) -> SageMakerEndpointHandle:
        """Upload the model and have the endpoint created: a model, a configuration, the endpoint."""
        doing = f"cannot deploy endpoint {plan.endpoint_name!r}"
        with reporting(doing, EndpointError):
            region = self._clients.region
            resources = plan.resources
            image = self._settings.image_uri or inference_image(
                plan.framework_version,
                plan.py_version,
                resources.instance_type,
                region,
                resources.accelerator_type,
            )
            failed = self._failed(plan.endpoint_name, doing)
            staging = Staging(self._clients, self._settings, carrier, self._settings.model_kms_key)
            role = staging.role(plan.role)
            model, source = self._model(plan, staging)
            facts = wire.ModelFacts(image, role, region, model, source)
            if failed is not None:
                _log.info("deleting a failed endpoint, whose name is asked for", endpoint=failed.name)
                failed.delete()
            self._create_endpoint(plan, facts)
        return SageMakerEndpointHandle(self._clients, self._settings, plan.endpoint_name)

    def _failed(self, name: str, doing: str) -> SageMakerEndpointHandle | None:
        """Return the endpoint of that name that has failed, if any. Raises `EndpointExistsError`."""
        found = self._service.find(ENDPOINT, name, doing)
        if found is None:
            return None
        if found["EndpointStatus"] != _FAILED:
            raise EndpointExistsError(
                f"an endpoint called {name!r} is {found['EndpointStatus']} on SageMaker in "
                f"{self._clients.region}; use another endpoint_name, or delete it: {undoing(ENDPOINT, name)}"
            )
        return SageMakerEndpointHandle(self._clients, self._settings, name)

    def _model(self, plan: EndpointPlan, staging: Staging) -> tuple[str, str | None]:
        """Return where the model is on S3, an archive or a folder, and its source for the older layout."""
        uri = plan.model.uri
        if plan.source is None and (_is_folder(uri) or (uri.startswith("s3://") and uri.endswith(ARCHIVE))):
            return uri, None
        has_code_inside = (
            plan.source is None or bool(self._settings.image_uri) or not layout_is_old(plan.framework_version)
        )
        compressed = self._settings.compress_model
        in_files = _is_folder(uri) if compressed is None else not compressed
        if in_files and not has_code_inside:
            raise InvalidPlanError(
                f"AWS's image of PyTorch {plan.framework_version} serves archives alone: compress_model=True"
            )
        if has_code_inside and not in_files and (made := repacked(staging, uri)):
            return made, None
        with TemporaryDirectory(prefix="modelyard-") as scratch:
            bundle = staging.carrier.pack(Path(scratch))
            if in_files:
                return staging.files(bundle, Path(scratch)), None
            if has_code_inside:
                return staging.archive(bundle, "model"), None
            unpacked = Path(scratch, "unpacked")
            staging.carrier.unpack(bundle.path, unpacked)
            model, code = in_older_layout(unpacked, Path(scratch))
            return staging.archive(model, "model"), staging.archive(code, "source")

    def _create_endpoint(self, plan: EndpointPlan, facts: wire.ModelFacts) -> None:
        """Create the three parts of an endpoint, or none of them. Raises `EndpointExistsError`."""
        name = plan.endpoint_name
        with ExitStack() as undo:
            for kind, request in (
                (MODEL, wire.create_model(plan, self._settings, facts)),
                (CONFIG, wire.create_endpoint_config(plan, self._settings)),
                (ENDPOINT, wire.create_endpoint(plan, self._settings)),
            ):
                try:
                    made = self._service.make(kind, request)
                except PerhapsMadeError:
                    if kind == ENDPOINT:  # What may be in use is not to be deleted.
                        undo.pop_all()
                    raise
                if not made:
                    raise EndpointExistsError(
                        f"there is another {kind} called {name!r} in {self._clients.region}: use another "
                        f"endpoint_name, or delete it: {undoing(kind, name)}"
                    )
                undo.callback(self._service.take_back, kind, name)
            undo.pop_all()

    def endpoint(self, name: str) -> SageMakerEndpointHandle:
        """Return the live endpoint of that name, whoever made it. Raises `EndpointNotFoundError`."""
        handle = SageMakerEndpointHandle(self._clients, self._settings, name)
        description = handle.describe()
        if description.status is EndpointStatus.FAILED:
            raise EndpointNotFoundError(
                f"endpoint {name!r} has failed: {description.reason}; deploying another of that name deletes "
                f"it, and so does {undoing(ENDPOINT, name)}"
            )
        return handle

    def endpoints(self) -> Iterator[EndpointDescription]:
        """Yield the newest endpoints, as many as ``list_limit``, the oldest first."""
        with reporting("cannot list the endpoints", EndpointError):
            names = self._newest("list_endpoints", "Endpoints", "EndpointName")
        handle = partial(SageMakerEndpointHandle, self._clients, self._settings)
        yield from self._described(handle, names)

    # -- lists ---------------------------------------------------------------------------------

    def _newest(self, method: str, member: str, key: str) -> list[str]:
        """Return the names of the newest things, the oldest of them first."""
        limit = self._settings.list_limit
        pages = self._clients.sagemaker.get_paginator(method).paginate(
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"MaxItems": limit, "PageSize": min(limit, 100)},
        )
        return [item[key] for page in pages for item in page[member]][::-1]

    def _described(self, handle: Any, names: list[str]) -> Iterator[Any]:
        def describe(name: str) -> Any:
            try:
                return handle(name).describe()
            except ModelyardError as error:  # It may be gone by now, or be of a kind of its own.
                _log.warning("cannot be shown", name=name, error=str(error))
                return None

        with ThreadPoolExecutor(_PARALLEL) as pool:
            yield from filter(None, pool.map(describe, names))


def _job_exists(name: str) -> JobExistsError:
    return JobExistsError(
        f"a training job called {name!r} exists, and SageMaker keeps the names of jobs: use another "
        f"job_name, or PyTorch.attach({name!r}, backend='sagemaker')"
    )


def _given(source: SourceCode | None) -> str | None:
    """Return where the source's archive is on S3; None where the image has a script of its own.

    Raises `InvalidPlanError` for a source on S3 that is no archive, or would have to be repacked.
    """
    if source is None or not (source.source_dir or "").startswith("s3://"):
        return None if source is None else _TO_BE_SENT
    if not str(source.source_dir).endswith(ARCHIVE) or source.dependencies:
        raise InvalidPlanError(
            f"source_dir {source.source_dir!r}: on S3 it is an archive, .../sourcedir.tar.gz, with the "
            "dependencies in it; or give a folder of this machine"
        )
    return source.source_dir


def _is_folder(uri: str) -> bool:
    """Tell whether a model on S3 is a folder of files, as its URI says by the slash at its end."""
    return uri.startswith("s3://") and uri.endswith("/")


def _source(source: SourceCode | None, staging: Staging) -> str | None:
    """Return where the source's archive is on S3, sent there if need be."""
    given = _given(source)
    if given != _TO_BE_SENT:
        return given
    with TemporaryDirectory(prefix="modelyard-") as scratch:
        return staging.archive(staging.carrier.pack(Path(scratch)), "source")


def _trial(plan: TrainingPlan, image: str, region: str) -> wire.JobFacts:
    """Return facts that are as good as any to see whether the service's request can be made of a plan."""
    channels = {channel.name: channel.uri for channel in plan.channels}
    return wire.JobFacts(image, "", region, _given(plan.source), "", channels)
