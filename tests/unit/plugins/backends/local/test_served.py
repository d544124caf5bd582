"""What the server of a local endpoint is told."""

import pytest

from modelyard.core.plans import EndpointPlan, ModelSource, ProviderRef
from modelyard.plugins.backends.local.backend import _served

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


def plan(**environment):
    return EndpointPlan(
        "served",
        ModelSource("file:///model"),
        ProviderRef("local"),
        ProviderRef("cpu"),
        ProviderRef("tarball"),
        environment=environment,
    )


def test_an_endpoint_of_this_machine_has_one_worker():
    assert _served(plan())[WORKERS] == "1"
    assert _served(plan(MODELYARD_SERVE_BATCH_SIZE="4"))[WORKERS] == "1"


@pytest.mark.parametrize(
    "name", [WORKERS, "MODELYARD_SERVE_WORKERS", "SAGEMAKER_TS_MAX_WORKERS", "SAGEMAKER_TS_MIN_WORKERS"]
)
def test_it_has_as_many_as_the_user_says(name):
    told = _served(plan(**{name: "3"}))
    assert told[name] == "3"
    assert told.get(WORKERS, "3") == "3"
