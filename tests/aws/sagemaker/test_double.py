"""The double is as strict as the service: it is what the other tests lean on."""

import pytest
from tests.aws.sagemaker.double.players import comes_into_service

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


@pytest.fixture
def client(double, role):
    import boto3

    return boto3.client("sagemaker")


def job(**changes):
    return {
        "TrainingJobName": "a-job",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"TrainingJobName": "no_underscores"}, "TrainingJobName does not match"),
        ({"TrainingJobName": "x" * 64}, "TrainingJobName is more than 63"),
        ({"ResourceConfig": {"InstanceType": "ml.no.such"}}, "InstanceType is none of"),
        ({"HyperParameters": {"a": "x" * 2501}}, "is more than 2500"),
        ({"Tags": [{"Key": "k", "Value": "v"}] * 51}, "Tags is more than 50"),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/Nobody"}, "Could not assume role"),
    ],
)
def test_a_request_that_the_service_refuses_is_refused(client, double, changes, said):
    with pytest.raises(client.exceptions.ClientError, match=said) as it:
        client.create_training_job(**job(**changes))
    assert it.value.response["Error"]["Code"] == "ValidationException"
    assert double.jobs == {}


def test_a_member_that_does_not_exist_is_refused(double):
    from tests.aws.sagemaker.double.service import ServiceError

    with pytest.raises(ServiceError, match=r"\.Enviroment is unknown"):
        double.carry_out("SageMaker", "CreateTrainingJob", job(Enviroment={}))


def test_a_name_is_used_once(client):
    client.create_training_job(**job())
    with pytest.raises(client.exceptions.ResourceInUse):
        client.create_training_job(**job())


def test_a_job_goes_through_its_states(client, double):
    client.create_training_job(**job(OutputDataConfig={"S3OutputPath": "s3://bucket"}))
    described = client.describe_training_job(TrainingJobName="a-job")
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("InProgress", "Starting")
    assert "ModelArtifacts" not in described
    client.stop_training_job(TrainingJobName="a-job")
    assert client.describe_training_job(TrainingJobName="a-job")["TrainingJobStatus"] == "Stopping"
    double.jobs["a-job"].stopped()
    with pytest.raises(client.exceptions.ClientError, match="in status Stopped"):
        client.stop_training_job(TrainingJobName="a-job")
    with pytest.raises(client.exceptions.ClientError, match="Requested resource not found"):
        client.describe_training_job(TrainingJobName="another")


def test_an_endpoint_needs_its_parts(client, double):
    double.serves = comes_into_service
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    with pytest.raises(client.exceptions.ClientError, match="Could not find model"):
        client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    client.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "image"})
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    with pytest.raises(client.exceptions.ClientError, match="Could not find endpoint configuration"):
        client.create_endpoint(EndpointName="e", EndpointConfigName="another")
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    client.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1})
    for again in (
        lambda: client.create_model(
            ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "image"}
        ),
        lambda: client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant]),
        lambda: client.create_endpoint(EndpointName="e", EndpointConfigName="c"),
    ):
        with pytest.raises(client.exceptions.ClientError, match="Cannot create already existing"):
            again()


def test_log_events_come_in_pages_in_both_directions(double):
    import boto3

    logs = boto3.client("logs")
    double.streams.write("g", "s", *(str(number) for number in range(250)))
    pages, token = [], None
    while True:
        more = {"nextToken": token} if token else {}
        page = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=True, **more)
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
        pages.append([event["message"] for event in page["events"]])
    assert [len(page) for page in pages] == [100, 100, 50]
    last = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=False, limit=2)
    assert [event["message"] for event in last["events"]] == ["248", "249"]
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.get_log_events(logGroupName="no", logStreamName="s")
