"""A server against its own OpenAPI document, by schemathesis."""

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

# Not whether a request by the document is accepted: what a model takes is for its script to say.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


def operations(port):
    """Return the operations of the document of the server at `port`."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def breaches(operation, examples):
    """Send `examples` requests of every sort to an operation; return what was wrong, as texts."""
    found = []
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        try:
            strategy = operation.as_strategy(generation_mode=mode)

            @hypothesis.settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            @hypothesis.given(case=strategy)
            def check(case):
                case.call_and_validate(checks=CHECKS, timeout=20)

            check()
        except hypothesis.errors.Unsatisfiable:
            continue  # There is nothing that could be wrong with it.
        except (Exception, BaseExceptionGroup) as failure:  # noqa: BLE001 - whatever schemathesis calls it
            found.append(f"{operation.label}, {mode.name}: {type(failure).__name__}: {failure}")
    return found
