"""What an endpoint says of itself: its OpenAPI 3.1 document, ``GET /openapi.json``.

The paths are those of SageMaker's container contract and those at which boto3's ``sagemaker-runtime``
client finds an endpoint. No request header has a rule of its own here: the server passes them on.
"""

import copy
from collections.abc import Iterable
from typing import Any

import attrs

from modelyard.core.media_types import parse_media_type

Json = dict[str, Any]

EVENT_STREAM = "application/vnd.amazon.eventstream"
_ANY = "*/*"
_NAME = "^[A-Za-z0-9](-?[A-Za-z0-9])*$"

_STATUSES = {
    400: ("malformed_body", "The body is not of its Content-Type, or the request is not HTTP."),
    404: ("not_found", "There is no endpoint of that name here."),
    406: ("not_acceptable", "Nothing that the Accept header names can be written."),
    408: ("request_timeout", "The request did not arrive in time."),
    411: ("length_required", "The length of the body is not given in a way that the server takes."),
    413: ("body_too_large", "The body is larger than the server takes."),
    415: ("unsupported_media_type", "Nothing reads this Content-Type."),
    422: ("refused", "The inference script refused the input."),
    429: ("queue_full", "The queue is full; Retry-After says when to come again."),
    431: ("headers_too_large", "The headers are larger than the server takes."),
    500: (
        "model_error",
        "The inference script, or a plugin, failed; the endpoint's log has why, under the request's id.",
    ),
    503: ("unavailable", "The model is not loaded, or the server is being stopped."),
    504: ("timeout", "The model took longer than the server allows."),
    507: ("out_of_memory", "The model ran out of memory."),
}

_REQUEST_HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": (
        "Anything for the inference script, up to 1024 characters.",
        "c=1",
    ),
    "X-Amzn-SageMaker-Inference-Id": ("The client's name for this request.", "request-1"),
    "X-Amzn-SageMaker-Session-Id": ("The session, or `NEW_SESSION` to ask for one.", "NEW_SESSION"),
    "X-Amzn-SageMaker-Target-Model": ("The model of a multi-model endpoint.", "model.tar.gz"),
    "X-Amzn-SageMaker-Target-Variant": ("The variant that is to answer.", "AllTraffic"),
    "X-Amzn-SageMaker-Target-Container-Hostname": ("The container that is to answer.", "container-1"),
    "X-Amzn-SageMaker-Inference-Component": ("The inference component that is to answer.", "component-1"),
    "X-Amzn-SageMaker-Enable-Explanations": ("Which records are to be explained.", "`true`"),
    "X-Amzn-SageMaker-Prefix-Aware-Id": ("Requests of one id share a prefix.", "prefix-1"),
    "X-Request-Id": ("The id by which log and answer name this request; made where absent.", "4f1d2c"),
}
_STREAM_REQUEST_HEADERS = {
    "X-Amzn-SageMaker-Accept": ("What the answer may be, as Accept says it.", "application/json"),
} | {
    name: header
    for name, header in _REQUEST_HEADERS.items()
    if name
    not in {
        "X-Amzn-SageMaker-Target-Model",
        "X-Amzn-SageMaker-Enable-Explanations",
    }
}
_RESPONSE_HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": "What the inference script set for the client.",
    "X-Amzn-SageMaker-New-Session-Id": "The session that the script opened, and when it ends.",
    "X-Amzn-SageMaker-Closed-Session-Id": "The session that the script closed.",
    "x-Amzn-Invoked-Production-Variant": "The variant that answered.",
}

_TEXT = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_FORMATS: dict[str, tuple[Json, object]] = {
    # media type: schema, example (of a body that a person can type)
    "application/json": ({}, [[0.1, 0.2, 0.3, 0.4]]),
    "text/csv": (_TEXT, "0.1,0.2,0.3,0.4\n"),
    "application/jsonlines": (_TEXT, "[0.1, 0.2, 0.3, 0.4]\n[0.5, 0.6, 0.7, 0.8]\n"),
    "text/plain": (_TEXT, "some text"),
    "text/event-stream": (_TEXT, "data: [0.1, 0.9]\n\n"),
}
_ALIASES = {
    "application/x-jsonlines": "application/jsonlines",
    "application/jsonl": "application/jsonlines",
    "application/x-ndjson": "application/jsonlines",
    "application/csv": "text/csv",
}


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class EndpointFacts:
    """What there is to say of one endpoint.

    ``name``: the endpoint's; ``version``: of the server; ``reads`` and ``writes``: media types, the
    usual one first; ``default_accept``: what a client gets that does not say; ``max_body``: bytes of a
    request's body; ``streams``: whether an answer may come in parts, as it is made.
    """

    name: str
    version: str
    reads: tuple[str, ...] = attrs.field(converter=_names)
    writes: tuple[str, ...] = attrs.field(converter=_names)
    default_accept: str = "application/json"
    max_body: int = 100 * 1024 * 1024
    streams: bool = True


def document(facts: EndpointFacts) -> Json:
    """Return the OpenAPI 3.1 document of an endpoint.

    Its ``x-modelyard-endpoint`` holds the facts themselves, for a program that wants no more.
    """
    said = {
        "openapi": "3.1.0",
        "info": {
            "title": facts.name,
            "version": facts.version,
            "summary": "A PyTorch model behind SageMaker's serving contract.",
            "description": _description(facts),
        },
        "tags": [
            {"name": "model", "description": "What asks the model."},
            {"name": "server", "description": "What asks the server about itself."},
        ],
        "paths": _model_paths(facts) | _server_paths(),
        "components": {
            "schemas": {"Error": _error_schema()},
            "headers": {
                "RequestId": {
                    "description": "The request's id, the client's or the server's; the log names it too.",
                    "schema": _TEXT,
                },
                "RetryAfter": {
                    "description": "Seconds after which to come again.",
                    "schema": {"type": "integer", "minimum": 0},
                },
            },
        },
        "x-modelyard-endpoint": attrs.asdict(facts, value_serializer=_plain),
    }
    return copy.deepcopy(said)  # the schemas and examples of this module stay as they are


def _plain(_owner: object, _field: object, value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _description(facts: EndpointFacts) -> str:
    return (
        f"Reads {_listed(facts.reads)}; writes {_listed(facts.writes)}; answers with "
        f"`{facts.default_accept}` where Accept does not say. A body has at most {facts.max_body} bytes. "
        "The inference script may set other statuses and headers than those listed here."
    )


def _listed(media_types: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" if name != _ANY else "any media type" for name in media_types) or "nothing"


# -- paths of the model ------------------------------------------------------------------------


def _model_paths(facts: EndpointFacts) -> Json:
    by_name = {
        "name": "EndpointName",
        "in": "path",
        "required": True,
        "description": "The endpoint's name, any where it has none.",
        "schema": {"type": "string", "pattern": _NAME, "maxLength": 63},
        "example": facts.name,
    }
    answer = _answer(facts)
    stream = _event_stream()
    plain, streaming = _headers_in(_REQUEST_HEADERS), _headers_in(_STREAM_REQUEST_HEADERS)
    said = "Send the body, get what the model makes of it. " + (
        "An answer that is made in parts is sent in parts, as server-sent events where Accept asks for them."
        if facts.streams
        else ""
    )
    named = "The same, as boto3's `sagemaker-runtime` client asks: `invoke_endpoint`."
    streamed = (
        "The same, as boto3's `invoke_endpoint_with_response_stream` asks: the answer is a stream of "
        "AWS events, `PayloadPart` with a part of the body each."
    )
    invocations = _post(facts, ("invoke", "Ask the model", said), plain, answer)
    endpoint = _post(facts, ("invokeEndpoint", "Ask the model as boto3 does", named), plain, answer)
    parts = ("invokeEndpointWithResponseStream", "Ask for the answer in parts", streamed)
    return {
        "/invocations": {"post": invocations},
        "/endpoints/{EndpointName}/invocations": {"parameters": [by_name], "post": endpoint},
        "/endpoints/{EndpointName}/invocations-response-stream": {
            "parameters": [by_name],
            "post": _post(facts, parts, streaming, stream),
        },
    }


def _post(facts: EndpointFacts, named: tuple[str, str, str], headers: list[Json], answer: Json) -> Json:
    operation, summary, description = named
    left_out = {404} if operation == "invoke" else set[int]()
    errors = {str(status): _error(status) for status in _STATUSES if status not in left_out}
    return {
        "operationId": operation,
        "tags": ["model"],
        "summary": summary,
        "description": description.strip(),
        "parameters": headers,
        "requestBody": {"required": True, "content": _content(facts.reads)},
        "responses": {"200": answer} | errors,
    }


def _headers_in(headers: dict[str, tuple[str, str]]) -> list[Json]:
    return [
        {"name": name, "in": "header", "description": said, "schema": _TEXT, "example": example.strip("`")}
        for name, (said, example) in headers.items()
    ]


def _answer(facts: EndpointFacts) -> Json:
    """Return the model's answer: the script's own headers may be there or not."""
    writes = facts.writes
    if facts.streams and "text/event-stream" not in writes and _ANY not in writes:
        writes = (*writes, "text/event-stream")
    return {
        "description": "What the model made of it.",
        "headers": _headers_out(),
        "content": _content(writes),
    }


def _event_stream() -> Json:
    content_type = {
        "description": "The Content-Type of what the parts hold together.",
        "schema": _TEXT,
    }
    return {
        "description": "What the model made of it, in parts.",
        "headers": {
            name: header for name, header in _headers_out().items() if not name.endswith("-Session-Id")
        }
        | {"X-Amzn-SageMaker-Content-Type": content_type},
        "content": {EVENT_STREAM: {"schema": _BINARY}},
    }


def _headers_out() -> Json:
    own = {name: {"description": said, "schema": _TEXT} for name, said in _RESPONSE_HEADERS.items()}
    return {"X-Request-Id": _header("RequestId")} | own


def _content(media_types: tuple[str, ...]) -> Json:
    return {media_type: _format(media_type) for media_type in media_types}


def _format(media_type: str) -> Json:
    """Return what OpenAPI says of a body of this media type; what is not known is bytes."""
    parsed = parse_media_type(media_type)
    essence = parsed.essence if parsed else media_type
    essence = _ALIASES.get(essence, essence)
    if essence in _FORMATS:
        schema, example = _FORMATS[essence]
        return {"schema": schema, "example": example}
    if essence.endswith("+json"):
        return {"schema": {}}
    return {"schema": _TEXT if essence.startswith("text/") else _BINARY}


# -- errors ------------------------------------------------------------------------------------


def _error(status: int) -> Json:
    code, said = _STATUSES[status]
    headers = {"X-Request-Id": _header("RequestId")}
    if status in {429, 503}:
        headers["Retry-After"] = _header("RetryAfter")
    schema = {"$ref": "#/components/schemas/Error"}
    example = {"error": said, "code": code, "request_id": "4f1d2c"}
    return {
        "description": said,
        "headers": headers,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def _error_schema() -> Json:
    return {
        "type": "object",
        "description": "Why there is no answer; never a traceback or a path.",
        "required": ["error", "code", "request_id"],
        "properties": {
            "error": {"type": "string", "description": "For people: what is wrong, and the way out."},
            "code": {"type": "string", "description": "For programs: one word for each kind of error."},
            "request_id": {"type": "string", "description": "The id under which the log has more."},
        },
    }


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


# -- paths of the server -----------------------------------------------------------------------


def _server_paths() -> Json:
    ready = {"200": {"description": "The model is loaded and answers."}, "503": _error(503)}
    itself = {"application/json": {"type": "object"}}
    parameters = {
        "type": "object",
        "required": ["MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"],
        "properties": {
            "MaxConcurrentTransforms": {"type": "integer", "minimum": 1},
            "BatchStrategy": {"enum": ["MULTI_RECORD", "SINGLE_RECORD"]},
            "MaxPayloadInMB": {"type": "integer", "minimum": 1},
        },
    }
    samples = {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}
    return {
        "/ping": {"get": _get("ping", "Is the model loaded?", ready)},
        "/execution-parameters": {
            "get": _get(
                "executionParameters", "How batch transform may ask", {"application/json": parameters}
            )
        },
        "/metrics": {"get": _get("metrics", "Counts and times, for Prometheus", samples)},
        "/openapi.json": {"get": _get("openapi", "This document", itself, {"503": _error(503)})},
        "/docs": {"get": _get("docs", "A page to try the model", {"text/html": _TEXT})},
    }


def _get(operation: str, summary: str, said: Json, errors: Json | None = None) -> Json:
    """Return a GET; `said`: its responses by status, or the schema of its one answer by media type."""
    if "200" not in said:
        content = {media_type: {"schema": schema} for media_type, schema in said.items()}
        said = {"200": {"description": summary, "content": content}}
    responses = said | (errors or {})
    return {"operationId": operation, "tags": ["server"], "summary": summary, "responses": responses}
