"""What SageMaker says of its jobs and endpoints, as plans and descriptions. Pure.

Also of those that other clients have made: what a plan cannot say is left out of it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import attrs

from modelyard.core.contracts import EndpointDescription, JobDescription
from modelyard.core.errors import InvalidPlanError
from modelyard.core.handover import clip
from modelyard.core.plans import (
    Channel,
    EndpointPlan,
    EndpointStatus,
    InputMode,
    JobStatus,
    MetricDefinition,
    ModelSource,
    ProviderRef,
    Replication,
    Resources,
    SourceCode,
    TrainingPlan,
)
from modelyard.plugins.backends.sagemaker.images import inference_image, training_image
from modelyard.plugins.backends.sagemaker.wire import (
    BY_BOTH_NAMES,
    CODE_CHANNEL,
    LONE_INPUT,
    MODEL_CONTENT_TYPE,
    SOURCE_IN_CHANNEL,
)

Answer = Mapping[str, Any]

JOB_LOGS = "/aws/sagemaker/TrainingJobs"
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints"

_HARDWARE = {"ml.p*": "cuda", "ml.g*": "cuda", "ml.trn*": "trainium", "ml.inf*": "trainium"}
_STATUS_OF_JOBS = {"Deleting": JobStatus.STOPPED}
_STATUS_OF_ENDPOINTS = {
    "Creating": EndpointStatus.CREATING,
    "Deleting": EndpointStatus.DELETING,
    "Failed": EndpointStatus.FAILED,
    "OutOfService": EndpointStatus.FAILED,
}
"""Of the service's states of an endpoint those in which it does not answer; in all others it does."""

_LAUNCHERS = {
    "sagemaker_mpi_enabled": "mpirun",
    "sagemaker_pytorch_ddp_enabled": "mpirun",
    "sagemaker_torch_distributed_enabled": "torchrun",
    "sagemaker_distributed_dataparallel_enabled": "mpirun",
}
_DATA_PARALLEL = ("sagemaker_pytorch_ddp_enabled", "sagemaker_distributed_dataparallel_enabled")
_LAUNCHER_OPTIONS = {
    "sagemaker_mpi_num_of_processes_per_host": "processes_per_host",
    "sagemaker_mpi_custom_mpi_options": "custom_mpi_options",
    "sagemaker_distributed_dataparallel_custom_mpi_options": "custom_mpi_options",
}
_TAG = re.compile(r":(\d+\.\d+(?:\.\d+)?)-(?:cpu|gpu|neuron)-(py\d+)")


# -- jobs --------------------------------------------------------------------------------------


def job_status(answer: Answer) -> JobStatus:
    """Return the state of a job that ``DescribeTrainingJob`` describes."""
    status = answer["TrainingJobStatus"]
    return _STATUS_OF_JOBS.get(status) or JobStatus(status)


def job_description(answer: Answer, region: str) -> JobDescription:
    """Return what ``DescribeTrainingJob`` says of a job."""
    name, status = answer["TrainingJobName"], job_status(answer)
    ended = answer.get("TrainingEndTime") or answer.get("LastModifiedTime")
    return JobDescription(
        name=name,
        status=status,
        plan=training_plan(answer, region).redacted(),
        reason=clip(_job_reason(answer, status)),
        model_data=_artifacts(answer) if status is JobStatus.COMPLETED else None,
        source_data=_source_uri(answer, _decoded(answer.get("HyperParameters", {}))),
        log=f"the streams '{name}/...' of {JOB_LOGS} in CloudWatch Logs of {region}",
        created=_time(answer.get("CreationTime")),
        ended=_time(ended) if status.is_terminal else None,
    )


def _artifacts(answer: Answer) -> str | None:
    """Return where the model is: an archive, or a folder of its files, with a slash at its end."""
    uri = answer.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    in_files = answer.get("OutputDataConfig", {}).get("CompressionType") == "NONE"
    return f"{uri.rstrip('/')}/" if uri and in_files else uri


def transitions(answer: Answer) -> list[str]:
    """Return what has become of a job so far, a line for each step."""
    return [
        f"{step['Status']}: {message}" if (message := step.get("StatusMessage")) else str(step["Status"])
        for step in answer.get("SecondaryStatusTransitions", [])
    ]


def training_plan(answer: Answer, region: str) -> TrainingPlan:
    """Return the plan of a job, as far as the service knows it."""
    settings = _decoded(answer.get("HyperParameters", {}))
    image = answer["AlgorithmSpecification"].get("TrainingImage", "")
    version, python = _versions(image)
    resources = _job_resources(answer)
    longest = answer.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
    return TrainingPlan(
        job_name=answer["TrainingJobName"],
        source=_source(answer, settings),
        backend=ProviderRef("sagemaker", _job_options(answer, settings, region)),
        hardware=_hardware(resources),
        launcher=_launcher(settings),
        packager=ProviderRef("tarball"),
        resources=resources,
        hyperparameters=_users(settings),
        channels=list(_channels(answer)),
        environment=_without(answer.get("Environment", {}), BY_BOTH_NAMES),
        output_path=answer.get("OutputDataConfig", {}).get("S3OutputPath"),
        framework_version=version,
        py_version=python,
        role=answer.get("RoleArn"),
        checkpoint_uri=answer.get("CheckpointConfig", {}).get("S3Uri"),
        max_run=longest,
        metrics=list(_metrics(answer)),
    )


def _job_reason(answer: Answer, status: JobStatus) -> str:
    if status is JobStatus.FAILED:
        return str(answer.get("FailureReason", "")) or "SageMaker gives no reason"
    if status is not JobStatus.STOPPED:
        return ""
    limits = answer.get("StoppingCondition", {})
    match answer.get("SecondaryStatus"):
        case "MaxRuntimeExceeded":
            return f"it ran longer than max_run, {limits.get('MaxRuntimeInSeconds')} s"
        case "MaxWaitTimeExceeded":
            return f"it waited and ran longer than max_wait, {limits.get('MaxWaitTimeInSeconds')} s"
        case "Interrupted":
            return "its spot instance was taken away"
    return str(answer.get("FailureReason", "")) or "it was stopped on request"


def _decoded(hyperparameters: Mapping[str, str]) -> dict[str, Any]:
    return {name: _value(text) for name, text in hyperparameters.items()}


def _value(text: str) -> Any:
    """Return a hyperparameter's value: of other clients not all are JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _users(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if name and not name.startswith("sagemaker_") and "=" not in name
    }


def _source_uri(answer: Answer, settings: Mapping[str, Any]) -> str | None:
    submitted = settings.get("sagemaker_submit_directory")
    if submitted != SOURCE_IN_CHANNEL:
        return str(submitted) if submitted else None
    inputs = answer.get("InputDataConfig", [])
    return next((_uri(channel) for channel in inputs if channel["ChannelName"] == CODE_CHANNEL), None)


def _launcher(settings: Mapping[str, Any]) -> ProviderRef:
    name = next((launcher for key, launcher in _LAUNCHERS.items() if settings.get(key)), "process")
    options = {option: settings[key] for key, option in _LAUNCHER_OPTIONS.items() if settings.get(key)}
    return ProviderRef(name, options)


def _channels(answer: Answer) -> Iterator[Channel]:
    """Yield the channels of the user's, without those that the backend made for itself."""
    settings = answer.get("HyperParameters", {})
    isolated = SOURCE_IN_CHANNEL in settings.get("sagemaker_submit_directory", "")
    for channel in answer.get("InputDataConfig", []):
        name, kind = channel["ChannelName"], channel.get("ContentType")
        uri = _uri(channel)
        if uri is None or (isolated and name == CODE_CHANNEL) or kind == MODEL_CONTENT_TYPE:
            continue
        mode = channel.get("InputMode") or answer["AlgorithmSpecification"]["TrainingInputMode"]
        source = channel["DataSource"].get("S3DataSource", {})
        found = Channel(
            name,
            uri,
            content_type=kind,
            input_mode=InputMode(mode),
            replication=Replication(source.get("S3DataDistributionType") or Replication.FULL),
            shuffle_seed=channel.get("ShuffleConfig", {}).get("Seed"),
        )
        if name == LONE_INPUT[-1] and answer.get("Environment", {}).items() >= BY_BOTH_NAMES.items():
            yield attrs.evolve(found, name=LONE_INPUT[0])
        yield found


def _without(variables: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if others.get(name) != value}


def _source(answer: Answer, settings: Mapping[str, Any]) -> SourceCode | None:
    """Return the source of a job; None where its image has the script."""
    program = settings.get("sagemaker_program")
    return SourceCode(str(program), _source_uri(answer, settings)) if program else None


def _uri(channel: Answer) -> str | None:
    source = channel.get("DataSource", {})
    if found := source.get("S3DataSource"):
        return str(found["S3Uri"])
    if system := source.get("FileSystemDataSource"):
        where = f"{system['FileSystemId']}{quote(system['DirectoryPath'])}"
        return f"{system['FileSystemType'].lower()}://{where}?mode={system['FileSystemAccessMode']}"
    return None


def _metrics(answer: Answer) -> Iterator[MetricDefinition]:
    for metric in answer["AlgorithmSpecification"].get("MetricDefinitions", []):
        try:
            yield MetricDefinition(metric["Name"], metric["Regex"])
        except InvalidPlanError:
            continue  # Another client's, for an expression that is not Python's.


def _job_resources(answer: Answer) -> Resources:
    hosts = answer.get("ResourceConfig", {})
    groups = hosts.get("InstanceGroups", [])
    if groups:
        return Resources(groups[0]["InstanceType"], sum(group["InstanceCount"] for group in groups))
    return Resources(hosts.get("InstanceType", ""), hosts.get("InstanceCount", 1))


def _job_options(answer: Answer, settings: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Return the options with which the backend would ask for such a job again."""
    vpc, output = answer.get("VpcConfig", {}), answer.get("OutputDataConfig", {})
    options = {
        "region": region,
        **_image_options(answer, settings, region),
        **_host_options(answer.get("ResourceConfig", {})),
        **_model_options(answer.get("InputDataConfig", [])),
        "output_kms_key": output.get("KmsKeyId"),
        "disable_output_compression": output.get("CompressionType") == "NONE",
        "subnets": vpc.get("Subnets"),
        "security_group_ids": vpc.get("SecurityGroupIds"),
        "use_spot_instances": answer.get("EnableManagedSpotTraining"),
        "max_wait": answer.get("StoppingCondition", {}).get("MaxWaitTimeInSeconds"),
        "max_retry_attempts": answer.get("RetryStrategy", {}).get("MaximumRetryAttempts"),
        "enable_network_isolation": answer.get("EnableNetworkIsolation"),
        "encrypt_inter_container_traffic": answer.get("EnableInterContainerTrafficEncryption"),
        "enable_remote_debug": answer.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
        "enable_infra_check": answer.get("InfraCheckConfig", {}).get("EnableInfraCheck"),
        "checkpoint_local_path": answer.get("CheckpointConfig", {}).get("LocalPath"),
        "container_log_level": settings.get("sagemaker_container_log_level"),
        "tensorboard_output_config": answer.get("TensorBoardOutputConfig"),
        "debugger_hook_config": answer.get("DebugHookConfig"),
        "profiler_config": answer.get("ProfilerConfig"),
        "experiment_config": answer.get("ExperimentConfig"),
        "strategy": "smdistributed.dataparallel" if any(map(settings.get, _DATA_PARALLEL)) else None,
        "distribution_instance_groups": settings.get("sagemaker_distribution_instance_groups"),
    }
    return {name: value for name, value in options.items() if value}


def _image_options(answer: Answer, settings: Mapping[str, Any], region: str) -> dict[str, Any]:
    algorithm = answer["AlgorithmSpecification"]
    image, repository = algorithm.get("TrainingImage", ""), algorithm.get("TrainingImageConfig", {})
    provider = repository.get("TrainingRepositoryAuthConfig", {})
    instance_type = _job_resources(answer).instance_type
    # An image that has the script is named, whoever's it is: without either there is nothing to run.
    chosen = "sagemaker_program" in settings and _is_selected(image, training_image, instance_type, region)
    return {
        "image_uri": None if chosen else image,
        "enable_sagemaker_metrics": algorithm.get("EnableSageMakerMetricsTimeSeries"),
        "container_entry_point": algorithm.get("ContainerEntrypoint"),
        "container_arguments": algorithm.get("ContainerArguments"),
        "training_repository_access_mode": repository.get("TrainingRepositoryAccessMode"),
        "training_repository_credentials_provider_arn": provider.get(
            "TrainingRepositoryCredentialsProviderArn"
        ),
    }


def _host_options(hosts: Answer) -> dict[str, Any]:
    return {
        "volume_size": hosts.get("VolumeSizeInGB"),
        "volume_kms_key": hosts.get("VolumeKmsKeyId"),
        "keep_alive_period_in_seconds": hosts.get("KeepAlivePeriodInSeconds"),
        "training_plan": hosts.get("TrainingPlanArn"),
        "instance_groups": hosts.get("InstanceGroups"),
    }


def _model_options(inputs: Sequence[Answer]) -> dict[str, Any]:
    models = (channel for channel in inputs if channel.get("ContentType") == MODEL_CONTENT_TYPE)
    model = next(models, None)
    return {"model_uri": _uri(model), "model_channel_name": model["ChannelName"]} if model else {}


# -- endpoints ---------------------------------------------------------------------------------


def endpoint_status(answer: Answer) -> EndpointStatus:
    """Return the state of an endpoint that ``DescribeEndpoint`` describes."""
    return _STATUS_OF_ENDPOINTS.get(answer["EndpointStatus"], EndpointStatus.IN_SERVICE)


def endpoint_description(answer: Answer, plan: EndpointPlan, region: str) -> EndpointDescription:
    """Return what ``DescribeEndpoint`` says of an endpoint."""
    name, status = answer["EndpointName"], endpoint_status(answer)
    return EndpointDescription(
        name=name,
        status=status,
        plan=plan,
        reason=clip(str(answer.get("FailureReason", ""))),
        log=f"the streams of {ENDPOINT_LOGS}/{name} in CloudWatch Logs of {region}",
        created=_time(answer.get("CreationTime")),
        ended=_time(answer.get("LastModifiedTime")) if status.is_terminal else None,
    )


def endpoint_plan(name: str, config: Answer, model: Answer, region: str) -> EndpointPlan:
    """Return the plan of an endpoint, by ``DescribeEndpointConfig`` and ``DescribeModel``."""
    variant: Answer = next(iter(config.get("ProductionVariants", [])), {})
    container: Answer = model.get("PrimaryContainer") or next(iter(model.get("Containers", [])), {})
    environment = container.get("Environment", {})
    program = environment.get("SAGEMAKER_PROGRAM")
    version, python = _versions(container.get("Image", ""))
    resources = Resources(
        variant.get("InstanceType", "ml.serverless"),
        variant.get("InitialInstanceCount", 1),
        variant.get("AcceleratorType"),
    )
    patience = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
    plan = EndpointPlan(
        endpoint_name=name,
        model=ModelSource(_model_uri(container)),
        backend=ProviderRef("sagemaker", _endpoint_options(config, variant, container, model, region)),
        hardware=_hardware(resources),
        packager=ProviderRef("tarball"),
        source=SourceCode(program) if program else None,
        resources=resources,
        environment={key: value for key, value in environment.items() if not key.startswith("SAGEMAKER_")},
        framework_version=version,
        py_version=python,
        role=model.get("ExecutionRoleArn"),
    )
    return (attrs.evolve(plan, startup_timeout=float(patience)) if patience else plan).redacted()


def _model_uri(container: Answer) -> str:
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return container.get("ModelDataUrl") or source.get("S3Uri") or ""


def _endpoint_options(
    config: Answer, variant: Answer, container: Answer, model: Answer, region: str
) -> dict[str, Any]:
    vpc = model.get("VpcConfig", {})
    options = {
        "region": region,
        **_container_options(container, variant, region),
        "volume_size": variant.get("VolumeSizeInGB"),
        "model_data_download_timeout": variant.get("ModelDataDownloadTimeoutInSeconds"),
        "inference_ami_version": variant.get("InferenceAmiVersion"),
        "serverless_inference_config": variant.get("ServerlessConfig"),
        "managed_instance_scaling": variant.get("ManagedInstanceScaling"),
        "routing_config": variant.get("RoutingConfig"),
        "kms_key": config.get("KmsKeyId"),
        "data_capture_config": config.get("DataCaptureConfig"),
        "async_inference_config": config.get("AsyncInferenceConfig"),
        "explainer_config": config.get("ExplainerConfig"),
        "subnets": vpc.get("Subnets"),
        "security_group_ids": vpc.get("SecurityGroupIds"),
        "enable_network_isolation": model.get("EnableNetworkIsolation"),
    }
    return {name: value for name, value in options.items() if value}


def _container_options(container: Answer, variant: Answer, region: str) -> dict[str, Any]:
    image, said = container.get("Image", ""), container.get("Environment", {})
    where = variant.get("InstanceType", ""), region, variant.get("AcceleratorType")
    numbers = {
        "model_server_workers": said.get("SAGEMAKER_MODEL_SERVER_WORKERS", ""),
        "container_log_level": said.get("SAGEMAKER_CONTAINER_LOG_LEVEL", ""),
    }
    return {
        "image_uri": None if _is_selected(image, inference_image, *where) else image,
        "image_config": container.get("ImageConfig"),
        **{name: int(text) for name, text in numbers.items() if text.isdecimal()},
    }


# -- both --------------------------------------------------------------------------------------


def _versions(image: str) -> tuple[str | None, str | None]:
    """Return which PyTorch and which Python an image of AWS's has, by its tag."""
    found = _TAG.search(image)
    return (found[1], found[2]) if found else (None, None)


def _is_selected(image: str, look_up: Callable[..., str], *where: str | None) -> bool:
    """Tell whether an image is the one of AWS's own that its versions select; then it need not be named.

    AWS's tags may say more behind the versions: ``2.5.1-gpu-py311-cu124-ubuntu22.04-sagemaker``.
    """
    version, python = _versions(image)
    try:
        return version is not None and image.startswith(look_up(version, python, *where))
    except InvalidPlanError:
        return False


def _hardware(resources: Resources) -> ProviderRef:
    kinds = (kind for pattern, kind in _HARDWARE.items() if fnmatchcase(resources.instance_type, pattern))
    return ProviderRef(next(kinds, "cpu"))


def _time(moment: Any) -> float | None:
    return None if moment is None else float(moment.timestamp())
