"""What SageMaker is asked, as JSON: the one place that spells its requests. Pure.

The shapes are those that SDK v2 sends, so that AWS's images find what they look for.
"""

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import Channel, EndpointPlan, InputMode, ProviderRef, TrainingPlan
from modelyard.core.values import thaw
from modelyard.plugins.backends.sagemaker.settings import TRAINING_VOLUME, Settings

Request = dict[str, Any]

CODE_CHANNEL = "code"
SOURCE_IN_CHANNEL = f"/opt/ml/input/data/{CODE_CHANNEL}/sourcedir.tar.gz"
SOURCE_IN_MODEL = "/opt/ml/model/code"
MODEL_CONTENT_TYPE = "application/x-sagemaker-model"
VARIANT = "AllTraffic"

LONE_INPUT = ("train", "training")
"""The channels that a lone path is in a plan. The service fetches it once, as ``training``, as of SDK v2."""
BY_BOTH_NAMES = {"SM_CHANNEL_TRAIN": "/opt/ml/input/data/training"}
"""By what a script finds it under its other name, too."""

MAX_RUN = 86_400
DATA_PARALLEL = ("pytorchddp", "smdistributed.dataparallel")
"""Strategies of the launcher ``mpirun`` that AWS's images run with a tool of their own."""

FILE_SYSTEMS = {"efs": "EFS", "fsxlustre": "FSxLustre"}
"""The schemes of file systems that a job can mount, and SageMaker's names of their kinds."""

_METRICS_SINCE = (1, 3)
_HEALTH_CHECK = (60, 3600)
"""The fewest and the most seconds that the service gives a container to answer ``/ping``."""


@attrs.frozen
class JobFacts:
    """What a job's request says beyond its plan.

    ``role``: an ARN; ``source``: the URI of the source archive, None for a script that the image has;
    ``output``: where the model goes if the plan does not say; ``channels``: where the data of each channel
    is on S3.
    """

    image: str
    role: str
    region: str
    source: str | None
    output: str
    channels: Mapping[str, str]


@attrs.frozen
class ModelFacts:
    """What the requests for an endpoint say beyond its plan. ``source``: only of the older layout."""

    image: str
    role: str
    region: str
    model: str
    source: str | None = None


# -- jobs --------------------------------------------------------------------------------------


def create_training_job(plan: TrainingPlan, settings: Settings, facts: JobFacts) -> Request:
    """Return the request ``CreateTrainingJob``. Raises `InvalidPlanError` for what the service cannot do."""
    isolated = bool(settings.enable_network_isolation)
    return _said(
        {
            "TrainingJobName": plan.job_name,
            "AlgorithmSpecification": _algorithm(plan, settings, facts.image),
            "RoleArn": facts.role,
            "HyperParameters": _hyperparameters(plan, settings, facts, isolated=isolated),
            "Environment": {**(BY_BOTH_NAMES if _is_lone(plan) else {}), **plan.environment},
            "InputDataConfig": _inputs(plan, settings, facts, isolated=isolated),
            "OutputDataConfig": _said(
                {
                    "S3OutputPath": plan.output_path or facts.output,
                    "KmsKeyId": settings.output_kms_key,
                    "CompressionType": "NONE" if settings.disable_output_compression else None,
                }
            ),
            "ResourceConfig": _resources(plan, settings),
            "StoppingCondition": _stopping(plan, settings),
            "CheckpointConfig": _checkpoints(plan, settings),
            "VpcConfig": _vpc(settings),
            **_switches(settings),
            "Tags": _tags(settings),
        }
    )


def _switches(settings: Settings) -> Request:
    """Return the members of a job's request that an option alone decides."""
    return {
        "RetryStrategy": _one("MaximumRetryAttempts", settings.max_retry_attempts),
        "EnableManagedSpotTraining": settings.use_spot_instances or None,
        "EnableNetworkIsolation": settings.enable_network_isolation,
        "EnableInterContainerTrafficEncryption": settings.encrypt_inter_container_traffic,
        "RemoteDebugConfig": _one("EnableRemoteDebug", settings.enable_remote_debug),
        "InfraCheckConfig": _one("EnableInfraCheck", settings.enable_infra_check),
        "SessionChainingConfig": _one("EnableSessionTagChaining", settings.enable_session_tag_chaining),
        "TensorBoardOutputConfig": thaw(settings.tensorboard_output_config),
        "DebugHookConfig": thaw(settings.debugger_hook_config),
        "ProfilerConfig": thaw(settings.profiler_config),
        "ExperimentConfig": thaw(settings.experiment_config),
    }


def _algorithm(plan: TrainingPlan, settings: Settings, image: str) -> Request:
    metrics = settings.enable_sagemaker_metrics
    if metrics is None and _version(plan.framework_version) >= _METRICS_SINCE:
        metrics = True
    return _said(
        {
            "TrainingImage": image,
            "TrainingInputMode": _input_mode(plan).value,
            "MetricDefinitions": [{"Name": metric.name, "Regex": metric.regex} for metric in plan.metrics],
            "EnableSageMakerMetricsTimeSeries": metrics,
            "ContainerEntrypoint": list(settings.container_entry_point),
            "ContainerArguments": list(settings.container_arguments),
            "TrainingImageConfig": _repository(settings),
        }
    )


def _repository(settings: Settings) -> Request | None:
    if settings.training_repository_access_mode is None:
        return None
    provider = settings.training_repository_credentials_provider_arn
    return _said(
        {
            "TrainingRepositoryAccessMode": settings.training_repository_access_mode,
            "TrainingRepositoryAuthConfig": _one("TrainingRepositoryCredentialsProviderArn", provider),
        }
    )


def _hyperparameters(
    plan: TrainingPlan, settings: Settings, facts: JobFacts, *, isolated: bool
) -> dict[str, str]:
    """Return the user's and the platform's, each as JSON: AWS's training toolkit decodes them all.

    An image with a script of its own need not have the toolkit, and gets plain texts, as from SDK v2.
    """
    launching = _launching(plan, settings)
    if facts.source is None or plan.source is None:
        plain = {name: _plain(value) for name, value in plan.hyperparameters.items()}
        return plain | {name: json.dumps(thaw(value)) for name, value in launching.items()}
    values = {
        **plan.hyperparameters,
        **launching,
        "sagemaker_submit_directory": SOURCE_IN_CHANNEL if isolated else facts.source,
        "sagemaker_program": plan.source.program,
        "sagemaker_container_log_level": settings.container_log_level,
        "sagemaker_job_name": plan.job_name,
        "sagemaker_region": facts.region,
    }
    return {name: json.dumps(thaw(value)) for name, value in values.items()}


def _plain(value: object) -> str:
    compound = value is None or isinstance(value, (Mapping, tuple, list))
    return json.dumps(thaw(value)) if compound else str(value)


def _launching(plan: TrainingPlan, settings: Settings) -> dict[str, Any]:
    """Return the hyperparameters by which AWS's images know how to launch the script."""
    keys = _launcher(plan, settings)
    # The training toolkit asks for it under this name whatever launches the processes.
    keys |= _said(
        {"sagemaker_mpi_num_of_processes_per_host": plan.launcher.options.get("processes_per_host")}
    )
    if keys and "sagemaker_mpi_enabled" not in keys:
        keys["sagemaker_instance_type"] = plan.resources.instance_type
    if settings.distribution_instance_groups:
        keys["sagemaker_distribution_instance_groups"] = settings.distribution_instance_groups
    return keys


def _launcher(plan: TrainingPlan, settings: Settings) -> dict[str, Any]:
    custom = _words(plan.launcher.options.get("custom_mpi_options"))
    match plan.launcher.name:
        case "process":
            _check(plan.launcher)
            return {}
        case "torchrun":
            _check(plan.launcher, "processes_per_host")
            return {"sagemaker_torch_distributed_enabled": True}
        case "mpirun" if settings.strategy in DATA_PARALLEL:
            _check(plan.launcher, "processes_per_host", "custom_mpi_options")
            return {
                "sagemaker_distributed_dataparallel_enabled": True,
                "sagemaker_distributed_dataparallel_custom_mpi_options": custom,
            }
        case "mpirun":
            _check(plan.launcher, "processes_per_host", "custom_mpi_options")
            return {"sagemaker_mpi_enabled": True, "sagemaker_mpi_custom_mpi_options": custom}
        case other:
            raise InvalidPlanError(
                f"SageMaker's images know no launcher {other!r}: use 'process', 'torchrun' or 'mpirun', or "
                "start it by your own script"
            )


def _check(launcher: ProviderRef, *known: str) -> None:
    """Raise `InvalidPlanError` for an option of the launcher that cannot be told to an image."""
    if others := sorted(set(launcher.options) - set(known)):
        raise InvalidPlanError(
            f"option {others[0]!r} of launcher {launcher.name!r} cannot be told to a job on SageMaker: its "
            f"hyperparameters know {' and '.join(known) or 'no option of it'}; leave it out"
        )


def _words(options: object) -> str:
    if options is None or isinstance(options, str):
        return options or ""
    return shlex.join(options)  # type: ignore[arg-type]


def _input_mode(plan: TrainingPlan) -> InputMode:
    """Return the mode of all channels, or File where they differ."""
    modes = {channel.input_mode for channel in plan.channels}
    return modes.pop() if len(modes) == 1 else InputMode.FILE


def _inputs(plan: TrainingPlan, settings: Settings, facts: JobFacts, *, isolated: bool) -> list[Request]:
    mode = _input_mode(plan)
    channels = plan.channels[1:] if _is_lone(plan) else plan.channels
    inputs = [_channel(channel, facts.channels[channel.name], mode) for channel in channels]
    if settings.model_uri is not None:
        model = Channel(settings.model_channel_name, settings.model_uri, MODEL_CONTENT_TYPE)
        inputs.append({**_channel(model, settings.model_uri, mode), "InputMode": InputMode.FILE.value})
    if isolated and facts.source is not None:
        inputs.append(_channel(Channel(CODE_CHANNEL, facts.source), facts.source, InputMode.FILE))
    names = [channel["ChannelName"] for channel in inputs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidPlanError(f"channel {twice.pop()!r} is needed for the job itself: rename yours")
    return inputs


def _is_lone(plan: TrainingPlan) -> bool:
    """Tell whether a plan's channels are one input by two names, and its script can be told so."""
    names = tuple(channel.name for channel in plan.channels)
    # mpirun hands the ranks of other hosts the variables of AWS's toolkit, and no others.
    if names != LONE_INPUT or plan.launcher.name == "mpirun":
        return False
    first, second = plan.channels
    return attrs.evolve(first, name=second.name) == second


def _data_source(channel: Channel, uri: str) -> Request:
    """Return where a channel's data is: on S3, or on a file system, ``efs://fs-0123/folder?mode=ro``."""
    parts = urlsplit(uri)
    if kind := FILE_SYSTEMS.get(parts.scheme):
        system = {
            "FileSystemId": parts.netloc,
            "FileSystemType": kind,
            "DirectoryPath": unquote(parts.path),
            "FileSystemAccessMode": parts.query.removeprefix("mode=") or "ro",
        }
        return {"FileSystemDataSource": system}
    replication = channel.replication.value
    on_s3 = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": replication}
    return {"S3DataSource": on_s3}


def _channel(channel: Channel, uri: str, mode: InputMode) -> Request:
    return _said(
        {
            "ChannelName": channel.name,
            "DataSource": _data_source(channel, uri),
            "ContentType": channel.content_type,
            "InputMode": None if channel.input_mode is mode else channel.input_mode.value,
            "ShuffleConfig": _one("Seed", channel.shuffle_seed),
        }
    )


def _resources(plan: TrainingPlan, settings: Settings) -> Request:
    hosts: Request = {
        "InstanceType": plan.resources.instance_type,
        "InstanceCount": plan.resources.instance_count,
    }
    if settings.instance_groups:
        hosts = {"InstanceGroups": thaw(settings.instance_groups)}
    return _said(
        {
            **hosts,
            "VolumeSizeInGB": TRAINING_VOLUME if settings.volume_size is None else settings.volume_size,
            "VolumeKmsKeyId": settings.volume_kms_key,
            "KeepAlivePeriodInSeconds": settings.keep_alive_period_in_seconds,
            "TrainingPlanArn": settings.training_plan,
        }
    )


def _stopping(plan: TrainingPlan, settings: Settings) -> Request:
    longest = MAX_RUN if plan.max_run is None else math.ceil(plan.max_run)
    if settings.max_wait is not None and settings.max_wait < longest:
        raise InvalidPlanError(
            f"max_wait is {settings.max_wait} s, less than max_run, {longest} s: it counts from the start of "
            "waiting for an instance to the end of the job"
        )
    return _said({"MaxRuntimeInSeconds": longest, "MaxWaitTimeInSeconds": settings.max_wait})


def _checkpoints(plan: TrainingPlan, settings: Settings) -> Request | None:
    if plan.checkpoint_uri is None:
        return None
    return _said({"S3Uri": plan.checkpoint_uri, "LocalPath": settings.checkpoint_local_path})


# -- endpoints ---------------------------------------------------------------------------------


def create_model(plan: EndpointPlan, settings: Settings, facts: ModelFacts) -> Request:
    """Return the request ``CreateModel``; the model bears the endpoint's name."""
    return _said(
        {
            "ModelName": plan.endpoint_name,
            "ExecutionRoleArn": facts.role,
            "PrimaryContainer": _said(
                {
                    "Image": facts.image,
                    "ImageConfig": thaw(settings.image_config),
                    **_model_data(facts.model),
                    "Environment": _served(plan, settings, facts),
                }
            ),
            "VpcConfig": _vpc(settings),
            "EnableNetworkIsolation": settings.enable_network_isolation,
            "Tags": _tags(settings),
        }
    )


def _model_data(uri: str) -> Request:
    """Return where a model is: an archive, or a folder of its files, whose URI has a slash at its end."""
    if not uri.endswith("/"):
        return {"ModelDataUrl": uri}
    files = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {"ModelDataSource": {"S3DataSource": files}}


def _served(plan: EndpointPlan, settings: Settings, facts: ModelFacts) -> dict[str, str]:
    """Return the variables of the container; the user's win.

    Where there is no script the image is told none: an empty name, which SDK v2 gives, is no module's.
    """
    script = (
        {
            "SAGEMAKER_PROGRAM": plan.source.program,
            "SAGEMAKER_SUBMIT_DIRECTORY": facts.source or SOURCE_IN_MODEL,
        }
        if plan.source
        else {}
    )
    workers = settings.model_server_workers
    return {
        **script,
        "SAGEMAKER_CONTAINER_LOG_LEVEL": str(settings.container_log_level),
        "SAGEMAKER_REGION": facts.region,
        **({} if workers is None else {"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)}),
        **plan.environment,
    }


def create_endpoint_config(plan: EndpointPlan, settings: Settings) -> Request:
    """Return the request ``CreateEndpointConfig``; it bears the endpoint's name, as with SDK v2."""
    capture = thaw(settings.data_capture_config)
    return _said(
        {
            "EndpointConfigName": plan.endpoint_name,
            "ProductionVariants": [_variant(plan, settings)],
            "KmsKeyId": settings.kms_key,
            "DataCaptureConfig": capture,
            "AsyncInferenceConfig": thaw(settings.async_inference_config),
            "ExplainerConfig": thaw(settings.explainer_config),
            "Tags": _tags(settings),
        }
    )


def _variant(plan: EndpointPlan, settings: Settings) -> Request:
    base = {"VariantName": VARIANT, "ModelName": plan.endpoint_name, "InitialVariantWeight": 1}
    if settings.serverless_inference_config is not None:
        return {**base, "ServerlessConfig": thaw(settings.serverless_inference_config)}
    low, high = _HEALTH_CHECK
    patience = settings.container_startup_health_check_timeout
    return _said(
        {
            **base,
            "InitialInstanceCount": plan.resources.instance_count,
            "InstanceType": plan.resources.instance_type,
            "AcceleratorType": plan.resources.accelerator_type,
            "VolumeSizeInGB": settings.volume_size,
            "ModelDataDownloadTimeoutInSeconds": settings.model_data_download_timeout,
            "ContainerStartupHealthCheckTimeoutInSeconds": patience
            or min(max(math.ceil(plan.startup_timeout), low), high),
            "InferenceAmiVersion": settings.inference_ami_version,
            "ManagedInstanceScaling": thaw(settings.managed_instance_scaling),
            "RoutingConfig": thaw(settings.routing_config),
        }
    )


def create_endpoint(plan: EndpointPlan, settings: Settings) -> Request:
    """Return the request ``CreateEndpoint``."""
    return _said(
        {
            "EndpointName": plan.endpoint_name,
            "EndpointConfigName": plan.endpoint_name,
            "Tags": _tags(settings),
        }
    )


_KEPT = ("ProductionVariants", "KmsKeyId", "DataCaptureConfig", "AsyncInferenceConfig", "ExplainerConfig")


def changed_endpoint_config(described: Mapping[str, Any], name: str, **variant: object) -> Request:
    """Return the request for a configuration called `name`: one that exists, with its variant changed."""
    kept = {key: described[key] for key in _KEPT if described.get(key)}
    first, *others = kept["ProductionVariants"]
    return {**kept, "EndpointConfigName": name, "ProductionVariants": [{**first, **_said(variant)}, *others]}


# -- both --------------------------------------------------------------------------------------


def _vpc(settings: Settings) -> Request | None:
    if not settings.subnets:
        return None
    return {"Subnets": list(settings.subnets), "SecurityGroupIds": list(settings.security_group_ids)}


def _tags(settings: Settings) -> list[Request]:
    return [{"Key": key, "Value": value} for key, value in settings.tags]


def _one(name: str, value: object) -> Request | None:
    """Return a structure of one member, None where there is nothing to say."""
    return None if value is None else {name: value}


def _said(request: Mapping[str, Any]) -> Request:
    """Return the members that say something."""
    return {name: value for name, value in request.items() if value is not None and value not in ([], {})}


def _version(version: str | None) -> tuple[int, ...]:
    """Return a version's numbers, none where it has none."""
    parts = (version or "").split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
