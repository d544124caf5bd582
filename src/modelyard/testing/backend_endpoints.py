"""What every backend promises about endpoints, as tests."""

import time
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from modelyard.core.contracts import (
    Backend,
    EndpointHandle,
    EndpointListingBackend,
    ReloadableEndpoint,
)
from modelyard.core.errors import (
    EndpointExistsError,
    EndpointNotFoundError,
    InvocationError,
    PackagingError,
)
from modelyard.core.plans import EndpointPlan, EndpointStatus, unique_name
from modelyard.testing.backend_setup import BackendSetup
from modelyard.testing.saying import refused

SERVE = """
import os

print("model_fn was called", flush=True)

def model_fn(model_dir):
    with open(os.path.join(model_dir, "weights.txt")) as file:
        return file.read()

def transform_fn(model, body, content_type, accept):
    if body == b"fail":
        raise ValueError("the model does not like this")
    return model.encode() + b" " + content_type.encode() + b" " + body, accept
"""
FAIL_TO_LOAD = """
def model_fn(model_dir):
    raise ValueError("the weights are of another model")

def transform_fn(model, body, content_type, accept):
    return body, accept
"""


class EndpointPromises(BackendSetup):
    """The part of `BackendContract` that is about endpoints."""

    def test_endpoint_answers(self, backend: Backend, tmp_path: Path) -> None:
        """An endpoint comes into service, answers with the model, and has a log."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        with self._deployed(backend, plan, tmp_path) as handle:
            assert handle.name == plan.endpoint_name, f"the handle is called {handle.name!r}"
            description = self._in_service(handle)
            name = description.name
            assert name == plan.endpoint_name, f"the endpoint {plan.endpoint_name} is described as {name!r}"
            body = bytes(range(256))
            answer = self._invoke(handle, body)
            expected = b"trained application/x-data " + body
            assert answer.body == expected, f"the endpoint answered {answer.body!r}, not {expected!r}"
            said = answer.content_type
            assert said == "application/x-answer", f"the answer's content type is {said!r}"
            lines = self._within("logs()", lambda: list(handle.logs()))
            assert "model_fn was called" in lines, f"the log lacks the script's line: {lines}"

    def test_endpoint_is_found_by_name(self, backend: Backend, tmp_path: Path) -> None:
        """Another backend object finds the endpoint and can ask it."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        with self._deployed(backend, plan, tmp_path) as handle:
            self._in_service(handle)
            found = self.backend_class().endpoint(plan.endpoint_name)
            answer = self._invoke(found, b"again")
        assert answer.body.endswith(b"again"), f"the endpoint that was found answered {answer.body!r}"

    def test_failing_request_is_an_invocation_error(self, backend: Backend, tmp_path: Path) -> None:
        """A model that raises gives an `InvocationError`, and the next request is answered."""
        with self._deployed(backend, self._endpoint_plan(tmp_path, SERVE), tmp_path) as handle:
            self._in_service(handle)
            error = refused(
                lambda: self._invoke(handle, b"fail"), InvocationError, "invoke() of a request that fails"
            )
            status = cast(InvocationError, error).status
            assert status >= 400, f"the status of a request that failed is {status}"
            answer = self._invoke(handle, b"next")
        assert answer.body.endswith(b"next"), f"after a request that failed comes {answer.body!r}"

    def test_deleted_endpoint_is_gone(self, backend: Backend, tmp_path: Path) -> None:
        """`delete` ends the endpoint: nobody finds it, and its name can be used again."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        with self._deployed(backend, plan, tmp_path) as handle:
            self._in_service(handle)
            self._within("delete()", handle.delete)
            refused(handle.describe, EndpointNotFoundError, "describe() of a deleted endpoint")
            name = plan.endpoint_name
            refused(lambda: backend.endpoint(name), EndpointNotFoundError, "endpoint() of a deleted name")
        self._can_be_deployed(backend, plan, tmp_path, "after delete()")

    def test_unknown_endpoint_is_not_found(self, backend: Backend) -> None:
        """A name that no endpoint has is an `EndpointNotFoundError` that says it."""
        if not self.can_serve:
            pytest.skip(f"{backend.name} cannot serve here")
        name = unique_name("no-such-endpoint")
        what = "endpoint() of an unknown name"
        error = refused(lambda: backend.endpoint(name), EndpointNotFoundError, what)
        assert name in str(error), f"the error does not name the endpoint that was asked for: {error}"

    def test_live_endpoint_keeps_its_name(self, backend: Backend, tmp_path: Path) -> None:
        """A second endpoint of a live name is an `EndpointExistsError`, and the first one answers."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        with self._deployed(backend, plan, tmp_path) as handle:
            self._in_service(handle)
            again = self._endpoint_carrier(plan, tmp_path)
            refused(lambda: backend.deploy(plan, again), EndpointExistsError, "deploy() of a live name")
            answer = self._invoke(handle, b"first")
        assert answer.body.endswith(b"first"), f"the first endpoint now answers {answer.body!r}"

    def test_model_that_does_not_load_fails_the_endpoint(self, backend: Backend, tmp_path: Path) -> None:
        """An endpoint whose ``model_fn`` raises is Failed for that reason, and its name is free."""
        plan = self._endpoint_plan(tmp_path, FAIL_TO_LOAD)
        with self._deployed(backend, plan, tmp_path) as handle:
            description = self._settled(handle)
            status, reason = description.status, description.reason
            assert status is EndpointStatus.FAILED, f"an endpoint without a model is {status}"
            assert "the weights are of another model" in reason, f"the reason is not the model's: {reason!r}"
        plan = self._endpoint_plan(tmp_path, SERVE, plan.endpoint_name)
        self._can_be_deployed(backend, plan, tmp_path, "after the endpoint failed")

    def test_bad_plan_leaves_no_endpoint(self, backend: Backend, tmp_path: Path) -> None:
        """What packing raises is raised by `deploy`, and the name is free as before."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        bad = self._endpoint_carrier(plan, tmp_path, failing=True)
        refused(lambda: backend.deploy(plan, bad), PackagingError, "deploy() of what cannot be packed")
        assert bad.packed == 1, f"deploy must pack the model with its carrier; it packed {bad.packed} times"
        what = "after a deploy() that failed, endpoint()"
        refused(lambda: backend.endpoint(plan.endpoint_name), EndpointNotFoundError, what)
        self._can_be_deployed(backend, plan, tmp_path, "after a deploy() that failed")

    def test_endpoints_are_listed(self, backend: Backend, tmp_path: Path) -> None:
        """A backend that knows its endpoints names one that lives, and none that was deleted as live."""
        plan = self._endpoint_plan(tmp_path, SERVE)
        if not isinstance(backend, EndpointListingBackend):
            pytest.skip(f"{backend.name} does not list its endpoints")

        def live() -> list[str]:
            return [one.name for one in backend.endpoints() if not one.status.is_terminal]

        with self._deployed(backend, plan, tmp_path) as handle:
            self._in_service(handle)
            known = Counter(self._within("endpoints()", live))[plan.endpoint_name]
            assert known == 1, f"a live endpoint is listed {known} times"
            self._within("delete()", handle.delete)
            known = Counter(self._within("endpoints()", live))[plan.endpoint_name]
            assert known == 0, "a deleted endpoint is listed as a live one"

    def test_reload_fails_no_request(self, backend: Backend, tmp_path: Path) -> None:
        """An endpoint that is told to loads its model anew, and answers all the while."""
        with self._deployed(backend, self._endpoint_plan(tmp_path, SERVE), tmp_path) as handle:
            self._in_service(handle)
            if not isinstance(handle, ReloadableEndpoint):
                pytest.skip(f"{backend.name} does not load models anew")
            before = self._loaded(handle)
            self._within("reload()", handle.reload)
            deadline = time.monotonic() + self.patience
            while self._loaded(handle) <= before:
                assert time.monotonic() < deadline, "reload() did not have the model loaded again"
                self._invoke(handle, b"meanwhile")
            answer = self._invoke(handle, b"after")
        assert answer.body.endswith(b"after"), f"after reload() the endpoint answers {answer.body!r}"

    def _loaded(self, handle: EndpointHandle) -> int:
        lines = self._within("logs()", lambda: list(handle.logs()))
        return lines.count("model_fn was called")

    def _can_be_deployed(self, backend: Backend, plan: EndpointPlan, tmp_path: Path, when: str) -> None:
        try:
            with self._deployed(backend, plan, tmp_path):
                pass
        except EndpointExistsError as error:
            raise AssertionError(f"{when}, the name is taken: {error}") from error
