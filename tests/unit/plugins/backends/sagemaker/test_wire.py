"""The requests, word for word as SDK v2 sends them, and each one as botocore's service model has it."""

import json

import attrs
import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.plans import (
    Channel,
    EndpointPlan,
    InputMode,
    MetricDefinition,
    ModelSource,
    ProviderRef,
    Replication,
    Resources,
    SourceCode,
    TrainingPlan,
)
from modelyard.plugins.backends.sagemaker import wire
from modelyard.plugins.backends.sagemaker.settings import Settings

pytest.importorskip("botocore")

from botocore.validate import ParamValidator
from tests.aws.sagemaker.double.shapes import faults, service

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"
IMAGE = "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch-training:2.5.1-gpu-py311"
SOURCE = "s3://bucket/source/0123/sourcedir.tar.gz"
PLAN = TrainingPlan(
    job_name="a-job",
    source=SourceCode("train.py", "src"),
    backend=ProviderRef("sagemaker"),
    hardware=ProviderRef("cuda"),
    launcher=ProviderRef("process"),
    packager=ProviderRef("tarball"),
    resources=Resources("ml.g5.xlarge", 2),
    framework_version="2.5.1",
)
ENDPOINT = EndpointPlan(
    endpoint_name="an-endpoint",
    model=ModelSource("s3://bucket/model.tar.gz"),
    backend=ProviderRef("sagemaker"),
    hardware=ProviderRef("cuda"),
    packager=ProviderRef("tarball"),
    source=SourceCode("inference.py", "src"),
    resources=Resources("ml.g5.xlarge", 2),
)
FACTS = wire.ModelFacts(IMAGE, ROLE, "us-west-2", "s3://bucket/model/0123/model.tar.gz")


def valid(operation, request):
    """Return the request, once the client's and the service's rules have nothing against it."""
    shape = service("sagemaker").operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert not list(faults(shape, request))
    return request


def job(settings=None, **changes):
    plan = attrs.evolve(PLAN, **changes)
    channels = {channel.name: channel.uri for channel in plan.channels}
    facts = wire.JobFacts(IMAGE, ROLE, "us-west-2", SOURCE, "s3://bucket/", channels)
    return valid("CreateTrainingJob", wire.create_training_job(plan, settings or Settings(), facts))


def decoded(request):
    return {name: json.loads(value) for name, value in request["HyperParameters"].items()}


def model(settings=None, facts=FACTS, **changes):
    request = wire.create_model(attrs.evolve(ENDPOINT, **changes), settings or Settings(), facts)
    return valid("CreateModel", request)


def config(settings=None, **changes):
    request = wire.create_endpoint_config(attrs.evolve(ENDPOINT, **changes), settings or Settings())
    return valid("CreateEndpointConfig", request)


# -- jobs --------------------------------------------------------------------------------------


def test_the_smallest_job():
    assert job() == {
        "TrainingJobName": "a-job",
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "RoleArn": ROLE,
        "HyperParameters": {
            "sagemaker_submit_directory": f'"{SOURCE}"',
            "sagemaker_program": '"train.py"',
            "sagemaker_container_log_level": "20",
            "sagemaker_job_name": '"a-job"',
            "sagemaker_region": '"us-west-2"',
        },
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    }


def test_a_job_with_everything():
    settings = Settings(
        volume_size=50,
        volume_kms_key="volume-key",
        output_kms_key="output-key",
        subnets=["subnet-1"],
        security_group_ids=["sg-1", "sg-2"],
        tags=[{"Key": "team", "Value": "vision"}],
        use_spot_instances=True,
        max_wait=7200,
        max_retry_attempts=3,
        keep_alive_period_in_seconds=600,
        encrypt_inter_container_traffic=True,
        enable_sagemaker_metrics=False,
        checkpoint_local_path="/opt/ml/checkpoints",
        container_log_level=10,
        disable_output_compression=True,
        enable_remote_debug=True,
        enable_infra_check=True,
        enable_session_tag_chaining=True,
        training_repository_access_mode="Vpc",
        training_repository_credentials_provider_arn="arn:aws:lambda:us-west-2:123456789012:function:x",
        container_entry_point=["/bin/sh"],
        container_arguments=["-c", "train"],
        tensorboard_output_config={"S3OutputPath": "s3://bucket/tensorboard", "LocalPath": "/opt/tb"},
        debugger_hook_config={"S3OutputPath": "s3://bucket/debug"},
        profiler_config={"S3OutputPath": "s3://bucket/profile"},
        experiment_config={"ExperimentName": "first"},
    )
    request = job(
        settings,
        output_path="s3://out/here",
        checkpoint_uri="s3://out/checkpoints",
        max_run=3600.5,
        environment={"MODE": "fast"},
        metrics=[MetricDefinition("loss", "loss=([0-9.]+)")],
    )
    del request["HyperParameters"]
    assert request == {
        "TrainingJobName": "a-job",
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
            "EnableSageMakerMetricsTimeSeries": False,
            "ContainerEntrypoint": ["/bin/sh"],
            "ContainerArguments": ["-c", "train"],
            "TrainingImageConfig": {
                "TrainingRepositoryAccessMode": "Vpc",
                "TrainingRepositoryAuthConfig": {
                    "TrainingRepositoryCredentialsProviderArn": (
                        "arn:aws:lambda:us-west-2:123456789012:function:x"
                    )
                },
            },
        },
        "RoleArn": ROLE,
        "Environment": {"MODE": "fast"},
        "OutputDataConfig": {
            "S3OutputPath": "s3://out/here",
            "KmsKeyId": "output-key",
            "CompressionType": "NONE",
        },
        "ResourceConfig": {
            "InstanceType": "ml.g5.xlarge",
            "InstanceCount": 2,
            "VolumeSizeInGB": 50,
            "VolumeKmsKeyId": "volume-key",
            "KeepAlivePeriodInSeconds": 600,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3601, "MaxWaitTimeInSeconds": 7200},
        "CheckpointConfig": {"S3Uri": "s3://out/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "RetryStrategy": {"MaximumRetryAttempts": 3},
        "EnableManagedSpotTraining": True,
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]},
        "RemoteDebugConfig": {"EnableRemoteDebug": True},
        "InfraCheckConfig": {"EnableInfraCheck": True},
        "SessionChainingConfig": {"EnableSessionTagChaining": True},
        "TensorBoardOutputConfig": {"S3OutputPath": "s3://bucket/tensorboard", "LocalPath": "/opt/tb"},
        "DebugHookConfig": {"S3OutputPath": "s3://bucket/debug"},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/profile"},
        "ExperimentConfig": {"ExperimentName": "first"},
        "Tags": [{"Key": "team", "Value": "vision"}],
    }


def test_an_image_with_its_own_script_gets_plain_texts():
    given = {"epochs": 20, "rate": 0.1, "on": True, "name": "adam", "layers": [1, "a"], "none": None}
    plan = attrs.evolve(PLAN, hyperparameters=given)
    facts = wire.JobFacts(IMAGE, ROLE, "us-west-2", None, "s3://bucket/", {})
    request = wire.create_training_job(plan, Settings(enable_network_isolation=True), facts)
    assert valid("CreateTrainingJob", request)["HyperParameters"] == {
        "epochs": "20",
        "rate": "0.1",
        "on": "True",
        "name": "adam",
        "layers": '[1, "a"]',
        "none": "null",
    }
    assert "InputDataConfig" not in request


def test_hyperparameters_are_json():
    given = {"epochs": 20, "rate": 0.1, "on": True, "name": "adam", "layers": [1, 2], "none": None}
    told = job(hyperparameters=given)["HyperParameters"]
    assert {name: told[name] for name in given} == {
        "epochs": "20",
        "rate": "0.1",
        "on": "true",
        "name": '"adam"',
        "layers": "[1, 2]",
        "none": "null",
    }


@pytest.mark.parametrize(
    ("launcher", "strategy", "keys"),
    [
        (ProviderRef("process"), None, {}),
        (
            ProviderRef("torchrun"),
            None,
            {"sagemaker_torch_distributed_enabled": True, "sagemaker_instance_type": "ml.g5.xlarge"},
        ),
        (
            ProviderRef("torchrun", {"processes_per_host": 4}),
            None,
            {
                "sagemaker_torch_distributed_enabled": True,
                "sagemaker_instance_type": "ml.g5.xlarge",
                "sagemaker_mpi_num_of_processes_per_host": 4,
            },
        ),
        (
            ProviderRef("mpirun", {"processes_per_host": 8, "custom_mpi_options": "--NCCL_DEBUG INFO"}),
            "mpi",
            {
                "sagemaker_mpi_enabled": True,
                "sagemaker_mpi_num_of_processes_per_host": 8,
                "sagemaker_mpi_custom_mpi_options": "--NCCL_DEBUG INFO",
            },
        ),
        (
            ProviderRef("mpirun"),
            "pytorchddp",
            {
                "sagemaker_distributed_dataparallel_enabled": True,
                "sagemaker_distributed_dataparallel_custom_mpi_options": "",
                "sagemaker_instance_type": "ml.g5.xlarge",
            },
        ),
        (
            ProviderRef("mpirun", {"custom_mpi_options": ["-x", "A=b c"]}),
            None,
            {"sagemaker_mpi_enabled": True, "sagemaker_mpi_custom_mpi_options": "-x 'A=b c'"},
        ),
    ],
)
def test_the_launcher_is_told_as_sdk_v2_does(launcher, strategy, keys):
    told = decoded(job(Settings(strategy=strategy), launcher=launcher))
    assert {name: value for name, value in told.items() if name not in decoded(job())} == keys


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        (ProviderRef("torchrun", {"max_restarts": 3}), "option 'max_restarts' of launcher 'torchrun'"),
        (ProviderRef("process", {"profile": "drivers"}), "option 'profile' of launcher 'process'"),
        (ProviderRef("mpirun", {"agent": "ssh"}), "option 'agent'"),
        (ProviderRef("slurm"), "know no launcher 'slurm'"),
    ],
)
def test_what_cannot_be_told_to_an_image_is_refused(launcher, said):
    with pytest.raises(InvalidPlanError, match=said):
        job(launcher=launcher)


def test_instance_groups_stand_for_the_instance_type():
    groups = [
        {"InstanceGroupName": "gpus", "InstanceType": "ml.g5.xlarge", "InstanceCount": 2},
        {"InstanceGroupName": "cpus", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
    ]
    settings = Settings(instance_groups=groups, distribution_instance_groups=["gpus"])
    request = job(settings, launcher=ProviderRef("torchrun"))
    assert request["ResourceConfig"] == {"InstanceGroups": groups, "VolumeSizeInGB": 30}
    assert decoded(request)["sagemaker_distribution_instance_groups"] == ["gpus"]


def test_channels():
    request = job(
        channels=[
            Channel("train", "s3://data/train", "text/csv", InputMode.PIPE, Replication.SHARDED, 7),
            Channel("test", "s3://data/test"),
        ]
    )
    assert request["AlgorithmSpecification"]["TrainingInputMode"] == "File"
    assert request["InputDataConfig"] == [
        {
            "ChannelName": "train",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": "s3://data/train",
                    "S3DataDistributionType": "ShardedByS3Key",
                }
            },
            "ContentType": "text/csv",
            "InputMode": "Pipe",
            "ShuffleConfig": {"Seed": 7},
        },
        {
            "ChannelName": "test",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": "s3://data/test",
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        },
    ]


def test_a_mode_of_all_channels_is_said_once():
    request = job(channels=[Channel("train", "s3://data/train", input_mode=InputMode.FAST_FILE)])
    assert request["AlgorithmSpecification"]["TrainingInputMode"] == "FastFile"
    assert "InputMode" not in request["InputDataConfig"][0]


def test_without_a_network_the_code_is_a_channel():
    request = job(Settings(enable_network_isolation=True))
    assert request["EnableNetworkIsolation"] is True
    assert decoded(request)["sagemaker_submit_directory"] == "/opt/ml/input/data/code/sourcedir.tar.gz"
    [channel] = request["InputDataConfig"]
    assert channel["ChannelName"] == "code"
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == SOURCE


def test_a_channel_of_the_jobs_own_name_is_refused():
    with pytest.raises(InvalidPlanError, match="channel 'code' is needed"):
        job(Settings(enable_network_isolation=True), channels=[Channel("code", "s3://data/code")])


def test_a_model_to_begin_with_is_a_channel():
    [channel] = job(Settings(model_uri="s3://models/model.tar.gz"))["InputDataConfig"]
    assert (channel["ChannelName"], channel["InputMode"]) == ("model", "File")
    assert channel["ContentType"] == "application/x-sagemaker-model"


def test_a_spot_job_waits_at_least_as_long_as_it_runs():
    with pytest.raises(InvalidPlanError, match="max_wait is 60 s, less than max_run, 3600 s"):
        job(Settings(use_spot_instances=True, max_wait=60), max_run=3600)


@pytest.mark.parametrize(
    ("version", "told"), [("1.2.0", None), ("1.3.1", True), (None, None), ("nightly", None)]
)
def test_metrics_are_on_where_the_image_has_them(version, told):
    algorithm = job(framework_version=version)["AlgorithmSpecification"]
    assert algorithm.get("EnableSageMakerMetricsTimeSeries") is told


# -- endpoints ---------------------------------------------------------------------------------


def test_the_model_of_a_script():
    assert model(environment={"MODE": "fast"}) == {
        "ModelName": "an-endpoint",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": IMAGE,
            "ModelDataUrl": "s3://bucket/model/0123/model.tar.gz",
            "Environment": {
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
                "SAGEMAKER_REGION": "us-west-2",
                "MODE": "fast",
            },
        },
    }


def test_a_model_with_everything():
    settings = Settings(
        model_server_workers=2,
        subnets=["subnet-1"],
        security_group_ids=["sg-1"],
        enable_network_isolation=True,
        image_config={"RepositoryAccessMode": "Platform"},
        tags={"team": "vision"},
    )
    request = model(settings, attrs.evolve(FACTS, source=SOURCE))
    container = request["PrimaryContainer"]
    assert container["ImageConfig"] == {"RepositoryAccessMode": "Platform"}
    assert container["Environment"]["SAGEMAKER_MODEL_SERVER_WORKERS"] == "2"
    assert container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"] == SOURCE
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["EnableNetworkIsolation"] is True
    assert request["Tags"] == [{"Key": "team", "Value": "vision"}]


def test_a_model_without_a_script_names_none():
    environment = model(source=None)["PrimaryContainer"]["Environment"]
    assert environment == {"SAGEMAKER_CONTAINER_LOG_LEVEL": "20", "SAGEMAKER_REGION": "us-west-2"}


def test_the_configuration_of_an_endpoint():
    assert config() == {
        "EndpointConfigName": "an-endpoint",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "an-endpoint",
                "InitialVariantWeight": 1,
                "InitialInstanceCount": 2,
                "InstanceType": "ml.g5.xlarge",
                "ContainerStartupHealthCheckTimeoutInSeconds": 480,
            }
        ],
    }


def test_a_configuration_with_everything():
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": "s3://c/x",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    settings = Settings(
        kms_key="endpoint-key",
        data_capture_config=capture,
        async_inference_config={"OutputConfig": {"S3OutputPath": "s3://o/x"}},
        volume_size=20,
        model_data_download_timeout=600,
        container_startup_health_check_timeout=900,
        inference_ami_version="al2-ami-sagemaker-inference-gpu-2",
        managed_instance_scaling={"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
        routing_config={"RoutingStrategy": "RANDOM"},
        tags={"team": "vision"},
    )
    request = config(settings, resources=Resources("ml.m5.xlarge", 1, "ml.eia2.medium"))
    assert request["KmsKeyId"] == "endpoint-key"
    assert request["DataCaptureConfig"] == capture
    assert request["AsyncInferenceConfig"] == {"OutputConfig": {"S3OutputPath": "s3://o/x"}}
    assert request["Tags"] == [{"Key": "team", "Value": "vision"}]
    assert request["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": "an-endpoint",
            "InitialVariantWeight": 1,
            "InitialInstanceCount": 1,
            "InstanceType": "ml.m5.xlarge",
            "AcceleratorType": "ml.eia2.medium",
            "VolumeSizeInGB": 20,
            "ModelDataDownloadTimeoutInSeconds": 600,
            "ContainerStartupHealthCheckTimeoutInSeconds": 900,
            "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2",
            "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
            "RoutingConfig": {"RoutingStrategy": "RANDOM"},
        }
    ]


@pytest.mark.parametrize(("asked", "told"), [(1.0, 60), (90.5, 91), (1e6, 3600)])
def test_the_patience_with_a_model_is_within_the_services_limits(asked, told):
    [variant] = config(startup_timeout=asked)["ProductionVariants"]
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == told


def test_a_serverless_endpoint_has_no_instances():
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    [variant] = config(Settings(serverless_inference_config=serverless))["ProductionVariants"]
    assert variant == {
        "VariantName": "AllTraffic",
        "ModelName": "an-endpoint",
        "InitialVariantWeight": 1,
        "ServerlessConfig": serverless,
    }


def test_the_endpoint():
    request = valid("CreateEndpoint", wire.create_endpoint(ENDPOINT, Settings(tags={"team": "vision"})))
    assert request == {
        "EndpointName": "an-endpoint",
        "EndpointConfigName": "an-endpoint",
        "Tags": [{"Key": "team", "Value": "vision"}],
    }
