import json
from collections.abc import Iterator

import pytest

from modelyard.serving.pages.openapi import EndpointFacts, document

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
ERRORS = {"400", "406", "408", "411", "413", "415", "422", "429", "431", "500", "503", "504", "507"}
INVOCATIONS = "/invocations"
BY_NAME = "/endpoints/{EndpointName}/invocations"
STREAM = "/endpoints/{EndpointName}/invocations-response-stream"


def facts(**others):
    said = {"name": "digits", "version": "1.2", "reads": [JSON, CSV, NPY], "writes": [JSON, NPY]}
    return EndpointFacts(**said | others)


VARIANTS = [
    facts(),
    facts(streams=False),
    facts(reads=["*/*"], writes=["*/*"]),
    facts(
        reads=["application/vnd.x+json", "Text/CSV; charset=utf-8", "audio/wav", "no media type"], writes=[]
    ),
    facts(name='a "name" / ü', reads=["text/html", "application/x-ndjson"], writes=["text/event-stream"]),
]


def operations(said) -> Iterator[tuple[str, dict]]:
    for path, item in said["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield f"{method.upper()} {path}", operation


@pytest.mark.parametrize("given", VARIANTS)
def test_the_document_is_openapi(given):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document(given), cls=validator.OpenAPIV31SpecValidator)


@pytest.mark.parametrize("given", VARIANTS)
def test_the_document_is_complete_json(given):
    said = json.loads(json.dumps(document(given), allow_nan=False))
    assert said == document(given)
    assert said["openapi"].startswith("3.1.")
    references = list(_values_of("$ref", said))
    assert references
    for reference in references:
        target = said
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    names = [operation["operationId"] for _, operation in operations(said)]
    assert len(set(names)) == len(names) == 8
    for _, operation in operations(said):
        assert operation["summary"]
        assert all(response["description"] for response in operation["responses"].values())


def _values_of(key, node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values_of(key, value)
    elif isinstance(node, list):
        for value in node:
            yield from _values_of(key, value)


def test_the_operations():
    assert {name for name, _ in operations(document(facts()))} == {
        "POST /invocations",
        f"POST {BY_NAME}",
        f"POST {STREAM}",
        "GET /ping",
        "GET /execution-parameters",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
    }


@pytest.mark.parametrize("path", [INVOCATIONS, BY_NAME, STREAM])
def test_every_status_that_an_invocation_may_have(path):
    responses = document(facts())["paths"][path]["post"]["responses"]
    assert set(responses) == ERRORS | {"200"} | ({"404"} if path != INVOCATIONS else set())
    assert "424" not in responses
    assert "Retry-After" in responses["429"]["headers"]
    for status in ERRORS:
        answer = responses[status]["content"][JSON]
        assert answer["schema"] == {"$ref": "#/components/schemas/Error"}
        assert set(answer["example"]) == {"error", "code", "request_id"}


def test_what_is_read_and_written_is_that_of_the_endpoint():
    operation = document(facts())["paths"][INVOCATIONS]["post"]
    assert list(operation["requestBody"]["content"]) == [JSON, CSV, NPY]
    assert list(operation["responses"]["200"]["content"]) == [JSON, NPY, "text/event-stream"]
    unbroken = document(facts(streams=False))["paths"][INVOCATIONS]["post"]
    assert list(unbroken["responses"]["200"]["content"]) == [JSON, NPY]


@pytest.mark.parametrize(
    ("media_type", "schema", "has_example"),
    [
        (JSON, {}, True),
        ("application/vnd.x+json", {}, False),
        ("Text/CSV; charset=utf-8", {"type": "string"}, True),
        ("application/x-ndjson", {"type": "string"}, True),
        ("text/html", {"type": "string"}, False),
        (NPY, {"type": "string", "format": "binary"}, False),
        ("*/*", {"type": "string", "format": "binary"}, False),
        ("no media type", {"type": "string", "format": "binary"}, False),
    ],
)
def test_the_schema_of_a_media_type(media_type, schema, has_example):
    content = document(facts(reads=[media_type]))["paths"][INVOCATIONS]["post"]["requestBody"]["content"]
    assert content[media_type]["schema"] == schema
    assert ("example" in content[media_type]) == has_example


def test_the_facts_are_in_the_document_as_they_are():
    said = document(facts(max_body=5, default_accept=NPY))
    assert said["x-modelyard-endpoint"] == {
        "name": "digits",
        "version": "1.2",
        "reads": [JSON, CSV, NPY],
        "writes": [JSON, NPY],
        "default_accept": NPY,
        "max_body": 5,
        "streams": True,
    }
    assert "at most 5 bytes" in said["info"]["description"]


def test_one_document_shares_nothing_with_the_next():
    first = document(facts())
    first["paths"][INVOCATIONS]["post"]["requestBody"]["content"][JSON]["schema"]["type"] = "object"
    first["paths"][INVOCATIONS]["post"]["requestBody"]["content"][JSON]["example"].append(1)
    assert document(facts()) != first


# -- as clients see it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "path"),
    [("InvokeEndpoint", BY_NAME), ("InvokeEndpointWithResponseStream", STREAM)],
)
def test_paths_and_headers_are_those_of_boto3(operation, path):
    loaders = pytest.importorskip("botocore.loaders")
    model = loaders.Loader().load_service_model("sagemaker-runtime", "service-2")
    shapes, asked = model["shapes"], model["operations"][operation]
    assert (asked["http"]["method"], asked["http"]["requestUri"]) == ("POST", path)
    said = document(facts())["paths"][path]
    # OpenAPI has Content-Type and Accept elsewhere: as the media types of the bodies.
    elsewhere = {"Content-Type", "Accept"}
    sent = _headers(shapes[asked["input"]["shape"]]) - elsewhere
    described = {parameter["name"] for parameter in said["post"]["parameters"]}
    assert described - {"X-Request-Id"} == sent
    received = _headers(shapes[asked["output"]["shape"]]) - elsewhere
    assert set(said["post"]["responses"]["200"]["headers"]) - {"X-Request-Id"} == received


def _headers(shape):
    return {
        member["locationName"] for member in shape["members"].values() if member.get("location") == "header"
    }


@pytest.mark.parametrize("given", VARIANTS[:3])
def test_schemathesis_makes_requests_from_it(given):
    schemathesis = pytest.importorskip("schemathesis")
    hypothesis = pytest.importorskip("hypothesis")
    schema = schemathesis.openapi.from_dict(document(given))
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=3, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        def makes(case):
            seen.add((case.method, case.path))
            assert case.formatted_path.startswith("/")

        makes()
    assert len(seen) == 8
