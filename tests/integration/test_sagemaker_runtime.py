"""boto3's own client of SageMaker's runtime, against the model server."""

import json

import pytest

boto3 = pytest.importorskip("boto3", reason="the client is boto3's")

SCRIPT = """
import json

class NoSuchCity(ValueError):
    status_code = 422

def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen")
    if body == b"refuse":
        raise NoSuchCity("no such city")
    if body == b"stream":
        return words()
    if body == b"break":
        return breaking()
    names = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes",
             "x-amzn-sagemaker-target-variant")
    return json.dumps([context.get_request_header(0, name) for name in names]), "application/json"

def words():
    yield "one "
    yield b"two "
    yield {"n": 3}

def breaking():
    yield "one"
    raise OSError("secret")
"""


@pytest.fixture
def client(serve, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = serve(SCRIPT).ready()
    client = boto3.client("sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{server.port}")
    yield client
    client.close()


def test_invoke_endpoint(client):
    answer = client.invoke_endpoint(
        EndpointName="my-model",
        ContentType="text/plain",
        Accept="application/json",
        CustomAttributes="trace=1",
        TargetVariant="blue",
        Body=b"hello",
    )
    assert json.load(answer["Body"]) == ["text/plain", "application/json", "trace=1", "blue"]
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "seen"


def test_an_error_of_the_model(client):
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="my-model", ContentType="text/plain", Body=b"refuse")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 422
    assert response["Error"]["Message"] == "no such city"
    assert response["OriginalStatusCode"] == 422
    assert json.loads(response["OriginalMessage"])["code"] == "refused"


def test_invoke_endpoint_with_response_stream(client):
    answer = client.invoke_endpoint_with_response_stream(
        EndpointName="my-model", ContentType="text/plain", Accept="text/plain", Body=b"stream"
    )
    assert answer["ContentType"] == "text/plain"
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert parts == [b"one ", b"two ", b'{"n":3}']


def test_an_answer_that_is_no_stream_is_one_part(client):
    answer = client.invoke_endpoint_with_response_stream(
        EndpointName="my-model", ContentType="text/plain", Body=b"x"
    )
    (event,) = answer["Body"]
    assert json.loads(event["PayloadPart"]["Bytes"])[0] == "text/plain"


def test_a_stream_that_breaks_says_so(client):
    answer = client.invoke_endpoint_with_response_stream(
        EndpointName="my-model", ContentType="text/plain", Accept="text/plain", Body=b"break"
    )
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"one"
    with pytest.raises(client.exceptions.ClientError, match="ModelStreamError") as caught:
        next(events)
    answer["Body"].close()
    assert "secret" not in str(caught.value)
