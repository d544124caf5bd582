"""Endpoints of the backend against the service double and moto's S3, IAM and STS."""

import io
import json
import tarfile
import threading
from functools import partial

import attrs
import pytest
from tests.aws.sagemaker.conftest import made
from tests.aws.sagemaker.double.players import comes_into_service, does_not_answer

from modelyard.core.errors import (
    EndpointError,
    EndpointExistsError,
    EndpointFailedError,
    EndpointNotFoundError,
    InvalidPlanError,
    InvocationError,
    PackagingError,
)
from modelyard.core.plans import EndpointStatus, ModelSource, SourceCode

JSON = "application/json"


@pytest.fixture
def live(double, deploy, endpoint_plan):
    """Return the handle of an endpoint in service, which echoes."""
    double.serves = comes_into_service
    handle = deploy(endpoint_plan())
    while handle.describe().status is EndpointStatus.CREATING:
        pass
    return handle


def names_in(s3, bucket, key):
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return tar.getnames()


def asked(handle, body=b"[1]"):
    return handle.invoke(body, content_type=JSON, accept=JSON)


def test_an_endpoint_answers(live, double):
    answer = asked(live)
    assert (answer.body, answer.content_type) == (b"[1]", JSON)
    assert list(live.logs()) == ["the model is loaded"]
    assert double.asked("InvokeEndpoint")[0]["Accept"] == JSON


def test_an_answer_can_be_a_stream(live, double):
    double.endpoints[live.name].answer = lambda body, kind, accept: (200, b"0123456789" * 2, accept)
    pieces = list(live.invoke_stream(b"[1]", content_type=JSON, accept="text/plain"))
    assert (b"".join(pieces), len(pieces)) == (b"0123456789" * 2, 3)


def test_an_endpoint_that_is_being_created_is_waited_for(double, deploy, endpoint_plan):
    handle = deploy(endpoint_plan())
    double.after_next("DescribeEndpoint", lambda: double.endpoints[handle.name].to("InService"))
    assert asked(handle).body == b"[1]"
    assert double.counts["InvokeEndpoint"] == 2


def test_a_model_that_raises_is_an_invocation_error(live, double):
    double.endpoints[live.name].answer = lambda *_: (500, b'{"error": "no such column"}', JSON)
    with pytest.raises(
        InvocationError, match=f"no such column.*\nSee /aws/sagemaker/Endpoints/{live.name}"
    ) as it:
        asked(live)
    assert it.value.status == 500
    assert double.counts["InvokeEndpoint"] == 1


def test_a_model_that_takes_too_long_is_an_invocation_error(live, double, backend):
    came, ended = threading.Event(), threading.Event()

    def waits(*_):
        came.set()
        ended.wait(30)
        return 200, b"", JSON

    double.endpoints[live.name].answer = waits
    with pytest.raises(InvocationError, match="no answer within 0.2 s") as it:
        asked(made(invoke_timeout=0.2).endpoint(live.name))
    assert came.wait(30)  # It may be taken up after it was given up.
    ended.set()
    assert it.value.status == 504
    assert double.counts["InvokeEndpoint"] == 1


def test_a_model_that_raises_at_once_is_an_invocation_error(double, deploy, endpoint_plan):
    handle = deploy(endpoint_plan())
    endpoint = double.endpoints[handle.name]
    endpoint.answer = lambda *_: (400, b"no such column", JSON)
    double.after_next("DescribeEndpoint", lambda: endpoint.to("InService"))
    with pytest.raises(InvocationError, match="answered 400: no such column"):
        asked(handle)


def test_an_endpoint_that_comes_into_service_meanwhile_is_asked_again(live, double):
    double.fail_next("InvokeEndpoint", "ValidationError", f"Endpoint {live.name} of account 1 not found.")
    assert asked(live).body == b"[1]"


def test_a_request_that_is_refused_is_not_sent_again(live, double):
    before = double.counts["DescribeEndpoint"]
    double.fail_next("InvokeEndpoint", "ValidationError", "the body is too long")
    with pytest.raises(InvocationError, match="the body is too long"):
        asked(live)
    assert double.counts["InvokeEndpoint"] == 1
    assert double.counts["DescribeEndpoint"] == before


def test_what_an_endpoint_says_at_its_end_is_in_its_log(live, double):
    lines = live.logs(follow=True)
    assert next(lines) == "the model is loaded"

    def ends():
        double.endpoints[live.name].log("one last word")
        del double.endpoints[live.name]

    double.after_next("GetLogEvents", ends)
    assert list(lines) == ["one last word"]


def test_a_log_that_cannot_be_read_is_an_endpoint_error(live, double):
    double.fail_next("DescribeLogStreams", "AccessDeniedException", "not for you")
    with pytest.raises(EndpointError, match="cannot read the log /aws/sagemaker/Endpoints.*not for you"):
        list(live.logs())


def test_a_request_that_the_service_refuses_is_an_invocation_error(live, double):
    double.fail_next("InvokeEndpoint", "ExpiredTokenException", "it is too old", 403)
    with pytest.raises(InvocationError, match=r"answered 403: .*it is too old.*credentials have expired"):
        asked(live)


def test_the_model_is_packed_with_its_code(live, double, s3):
    [model] = double.asked("CreateModel")
    bucket, _, key = model["PrimaryContainer"]["ModelDataUrl"].removeprefix("s3://").partition("/")
    assert {"code/inference.py", "weights.txt"} <= set(names_in(s3, bucket, key))


def test_a_model_on_s3_without_new_code_stays_where_it_is(double, deploy, endpoint_plan):
    deploy(endpoint_plan(source=None, model=ModelSource("s3://models/model.tar.gz")))
    [model] = double.asked("CreateModel")
    assert model["PrimaryContainer"]["ModelDataUrl"] == "s3://models/model.tar.gz"


def test_a_model_in_files_on_s3_stays_where_it_is(double, deploy, endpoint_plan):
    deploy(endpoint_plan(source=None, model=ModelSource("s3://models/one/")))
    [model] = double.asked("CreateModel")
    assert "ModelDataUrl" not in model["PrimaryContainer"]
    assert model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": "s3://models/one/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }


def test_a_model_can_be_served_without_an_archive(double, deploy, endpoint_plan, s3, bucket, tmp_path):
    (tmp_path / "model" / "empty" / "deeper").mkdir(parents=True)
    backend = made(compress_model=False, code_location=f"s3://{bucket}")
    for _ in range(2):
        plan = endpoint_plan()
        deploy(plan, backend)
    first, second = double.asked("CreateModel")
    uri = first["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    assert second["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"] == uri
    prefix = uri.removeprefix(f"s3://{bucket}/")
    found = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert found == [f"{prefix}code/inference.py", f"{prefix}weights.txt"]
    assert backend.endpoint(plan.endpoint_name).describe().plan.model.uri == uri


def test_the_oldest_images_serve_archives_alone(double, deploy, endpoint_plan):
    with pytest.raises(InvalidPlanError, match=r"PyTorch 1\.1\.0 serves archives alone: compress_model=True"):
        deploy(endpoint_plan(framework_version="1.1.0"), made(compress_model=False))
    assert double.models == {}


def test_the_oldest_images_get_the_code_beside_the_model(double, deploy, endpoint_plan, s3):
    deploy(endpoint_plan(framework_version="1.1.0"))
    [model] = double.asked("CreateModel")
    container = model["PrimaryContainer"]
    uri = container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    assert "./inference.py" in names_in(s3, bucket, key)
    assert container["Image"].endswith("/sagemaker-pytorch:1.1.0-cpu-py3")
    deploy(endpoint_plan(framework_version="1.1.0"))
    again = double.asked("CreateModel")[1]["PrimaryContainer"]
    assert again["ModelDataUrl"] == container["ModelDataUrl"]
    assert again["Environment"] == container["Environment"]


# -- names, failures ---------------------------------------------------------------------------


def test_a_live_name_is_taken(live, deploy, endpoint_plan, double):
    with pytest.raises(EndpointExistsError, match=f"InService.*delete-endpoint --endpoint-name {live.name}"):
        deploy(endpoint_plan(endpoint_name=live.name))
    assert asked(live).body == b"[1]"


def test_a_failed_endpoint_makes_way(double, deploy, endpoint_plan):
    double.serves = does_not_answer
    handle = deploy(endpoint_plan())
    while handle.describe().status is EndpointStatus.CREATING:
        pass
    description = handle.describe()
    assert description.status is EndpointStatus.FAILED
    assert "did not pass the ping" in description.reason
    with pytest.raises(EndpointFailedError, match="did not pass the ping"):
        asked(handle)
    with pytest.raises(EndpointNotFoundError, match=rf"has failed.*delete-endpoint .*{handle.name}"):
        made().endpoint(handle.name)
    double.serves = comes_into_service
    assert asked(deploy(endpoint_plan(endpoint_name=handle.name))).body == b"[1]"


def test_a_failed_endpoint_is_there_until_there_is_something_else(double, deploy, endpoint_plan, tmp_path):
    double.serves = does_not_answer
    plan = endpoint_plan()
    handle = deploy(plan)
    while handle.describe().status is EndpointStatus.CREATING:
        pass
    with pytest.raises(PackagingError):
        deploy(
            endpoint_plan(endpoint_name=handle.name, source=SourceCode("inference.py", str(tmp_path / "x")))
        )
    assert handle.describe().status is EndpointStatus.FAILED


@pytest.mark.parametrize("status", ["UpdateRollbackFailed", "OutOfService"])
def test_an_endpoint_that_has_answered_does_not_make_way(live, deploy, endpoint_plan, double, status):
    double.endpoints[live.name].to(status)
    with pytest.raises(EndpointExistsError, match=status):
        deploy(endpoint_plan(endpoint_name=live.name))
    assert list(double.endpoints) == [live.name]


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_what_cannot_be_finished_is_undone(double, deploy, endpoint_plan, operation):
    double.fail_next(operation, "ResourceLimitExceeded", "0 instances of ml.m5.xlarge")
    with pytest.raises(EndpointError, match=r"0 instances of ml\.m5\.xlarge.*higher quota"):
        deploy(endpoint_plan())
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_answer_that_was_lost_does_no_harm(double, deploy, endpoint_plan, operation, times):
    for _ in range(times):
        double.lose_next_answer(operation)
    handle = deploy(endpoint_plan())
    assert [list(kept) for kept in (double.models, double.configs, double.endpoints)] == [[handle.name]] * 3


@pytest.mark.parametrize(
    ("operation", "look", "kept"),
    [
        ("CreateModel", "DescribeModel", (1, 0, 0)),
        ("CreateEndpointConfig", "DescribeEndpointConfig", (0, 1, 0)),
        ("CreateEndpoint", "DescribeEndpoint", (1, 1, 1)),
    ],
)
def test_what_nobody_can_tell_of_is_named(double, deploy, endpoint_plan, operation, look, kept):
    for _ in range(3):
        double.lose_next_answer(operation)
    double.after_next(operation, lambda: double.fail_next(look, "AccessDeniedException", "not now"))
    with pytest.raises(EndpointError, match=r"was made is not known.*not now.*undo it with: aws sagemaker d"):
        deploy(endpoint_plan())
    assert tuple(map(len, (double.models, double.configs, double.endpoints))) == kept


def test_an_interruption_leaves_nothing(double, deploy, endpoint_plan, monkeypatch):
    from modelyard.plugins.backends.sagemaker.service import Service

    call = Service._call

    def interrupted(self, verb, kind):
        found = call(self, verb, kind)
        if (verb, kind) != ("create", "endpoint-config"):
            return found

        def made(**request):
            found(**request)
            raise KeyboardInterrupt

        return made

    monkeypatch.setattr(Service, "_call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy(endpoint_plan())
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_a_model_of_another_user_is_not_taken_for_ones_own(double, deploy, endpoint_plan):
    plan = endpoint_plan()
    request = {
        "ModelName": plan.endpoint_name,
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/service-role/SageMakerRole",
        "PrimaryContainer": {"Image": "theirs"},
    }
    double.carry_out("SageMaker", "CreateModel", request)
    double.fail_next("CreateModel", "InternalFailure", status=500)
    with pytest.raises(EndpointExistsError, match="another model called"):
        deploy(plan)
    assert list(double.models) == [plan.endpoint_name]


def test_a_model_that_is_in_the_way_is_named(double, deploy, endpoint_plan):
    plan = endpoint_plan()
    handle = deploy(plan)
    double.endpoints.clear()
    with pytest.raises(
        EndpointExistsError, match=f"another model called.*delete-model --model-name {handle.name}"
    ):
        deploy(plan)


def test_deleting_leaves_nothing(live, double, backend):
    live.delete()
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})
    with pytest.raises(EndpointNotFoundError, match="on SageMaker in us-east-1"):
        live.describe()
    with pytest.raises(EndpointNotFoundError):
        backend.endpoint(live.name)
    live.delete()


@pytest.mark.parametrize("operation", ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"])
def test_an_answer_to_a_deletion_that_was_lost_does_no_harm(live, double, operation):
    double.lose_next_answer(operation)
    live.delete()
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_an_endpoint_that_somebody_else_deletes_is_waited_for(live, double):
    endpoint = double.endpoints[live.name]
    endpoint.to("Deleting")
    waits = iter(range(3))

    def goes():
        if next(waits, None) is None:
            double.endpoints.pop(live.name, None)
        else:
            double.after_next("DescribeEndpoint", goes)

    double.after_next("DescribeEndpoint", goes)
    live.delete()
    assert double.counts["DeleteEndpoint"] == 0
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_a_model_can_be_deleted_before_its_endpoint(live, double):
    live.delete_model()
    assert double.models == {}
    assert asked(live).body == b"[1]"
    live.delete()
    assert (double.configs, double.endpoints) == ({}, {})


def test_an_endpoint_that_is_being_created_is_deleted_once_it_can_be(double, deploy, endpoint_plan):
    handle = deploy(endpoint_plan())
    double.after_next("DescribeEndpoint", lambda: double.endpoints[handle.name].to("InService"))
    handle.delete()
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_a_model_of_another_name_outlives_its_endpoint(double, backend, deploy, endpoint_plan):
    deploy(endpoint_plan())
    [model] = double.models
    config = {**double.asked("CreateEndpointConfig")[0], "EndpointConfigName": "theirs"}
    double.carry_out("SageMaker", "CreateEndpointConfig", config)
    double.carry_out(
        "SageMaker", "CreateEndpoint", {"EndpointName": "theirs", "EndpointConfigName": "theirs"}
    )
    double.endpoints["theirs"].to("InService")
    assert asked(backend.endpoint("theirs")).body == b"[1]"
    backend.endpoint("theirs").delete()
    assert list(double.models) == [model]
    assert "theirs" not in double.configs


def test_an_endpoint_comes_back_as_it_was_asked_for(double, backend, deploy, endpoint_plan):
    double.serves = comes_into_service
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": "s3://c/x",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    plan = endpoint_plan(environment={"MODE": "fast", "API_TOKEN": "hunter2"}, startup_timeout=300.0)
    deploy(plan, made(model_server_workers=2, data_capture_config=capture, volume_size=20))
    found = backend.endpoint(plan.endpoint_name).describe().plan
    for field in ("hardware", "packager", "resources", "framework_version", "startup_timeout"):
        assert getattr(found, field) == getattr(plan, field), field
    assert dict(found.environment) == {"MODE": "fast", "API_TOKEN": "********"}
    assert found.source.program == "inference.py"
    options = found.backend.options
    assert (options["model_server_workers"], options["volume_size"]) == (2, 20)
    assert "image_uri" not in options
    assert json.dumps(attrs.asdict(made(**options))["data_capture_config"], default=dict)


def test_endpoints_are_listed_the_oldest_first(double, backend, deploy, endpoint_plan):
    names = [deploy(endpoint_plan()).name for _ in range(2)]
    assert [endpoint.name for endpoint in backend.endpoints()] == names


def test_an_endpoint_whose_configuration_was_deleted_still_answers(live, double, backend):
    double.configs.clear()
    double.models.clear()
    found = backend.endpoint(live.name)
    assert asked(found).body == b"[1]"
    with pytest.raises(EndpointError, match="configuration of endpoint .* is gone"):
        found.update(InitialInstanceCount=2)
    found.delete()
    assert double.endpoints == {}


# -- changes -----------------------------------------------------------------------------------


def test_an_endpoint_is_updated_and_keeps_one_configuration(live, double):
    live.update(InitialInstanceCount=3)
    [config] = double.configs.values()
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 3
    assert double.endpoints[live.name].config == config["EndpointConfigName"]
    live.delete()
    assert (double.models, double.configs) == ({}, {})


def test_an_update_that_is_rolled_back_says_why(live, double):
    def rolls_back(endpoint):
        endpoint.wanted = endpoint.config
        endpoint.to("InService", "no capacity")

    double.serves = rolls_back
    with pytest.raises(EndpointError, match="keeps what it was: no capacity"):
        live.update(InstanceType="ml.p3.2xlarge")
    assert list(double.configs) == [live.name]


@pytest.mark.parametrize("operation", ["CreateEndpointConfig", "UpdateEndpoint"])
def test_an_answer_to_an_update_that_was_lost_does_no_harm(live, double, operation):
    endpoint, double.serves = double.endpoints[live.name], None
    double.lose_next_answer(operation)
    comes = partial(double.after_next, "DescribeEndpoint", lambda: endpoint.to("InService"))
    double.after_next("UpdateEndpoint", comes)
    live.update(InitialInstanceCount=3)
    [config] = double.configs.values()
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 3
    assert double.endpoints[live.name].config == config["EndpointConfigName"]


def test_an_update_that_half_failed_deletes_no_configuration(live, double):
    def rolls_back(endpoint):
        endpoint.to("UpdateRollbackFailed", "no capacity")

    double.serves = rolls_back
    with pytest.raises(EndpointError, match="is UpdateRollbackFailed after the change: no capacity"):
        live.update(InitialInstanceCount=3)
    assert len(double.configs) == 2


def test_an_endpoint_that_is_changing_is_not_changed(live, double):
    double.endpoints[live.name].to("Updating")
    with pytest.raises(EndpointError, match="is Updating: change it once it is InService"):
        live.reload()
    assert double.counts["CreateEndpointConfig"] == 1


def test_an_endpoint_that_another_process_reloads_is_deleted_whole(live, double, backend):
    double.serves, mine = None, backend.endpoint(live.name)
    live.reload()
    endpoint = double.endpoints[live.name]

    def is_through():
        endpoint.to("InService")
        double.configs.pop(live.name)  # By the other process.

    double.after_next("DescribeEndpoint", is_through)
    mine.delete()
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_a_reload_makes_new_containers_of_the_same_model(live, double):
    first = double.configs[live.name]
    double.serves = None
    live.reload()
    endpoint = double.endpoints[live.name]
    assert asked(live).body == b"[1]"
    assert endpoint.wanted != live.name
    assert double.configs[endpoint.wanted]["ProductionVariants"] == first["ProductionVariants"]
    endpoint.to("InService")
    live.reload()
    assert sorted(double.configs) == sorted({endpoint.config, endpoint.wanted})
    endpoint.to("InService")
    live.delete()
    assert (double.models, double.configs, double.endpoints) == ({}, {}, {})


def test_an_update_that_is_refused_leaves_no_configuration(live, double):
    double.fail_next("UpdateEndpoint", "ValidationException", "not now")
    with pytest.raises(InvalidPlanError, match="not now"):
        live.update(InitialInstanceCount=3)
    assert list(double.configs) == [live.name]
