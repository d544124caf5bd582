import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.serving.pages.execution_parameters import execution_parameters
from modelyard.serving.settings import Limits, ServerSettings

MIB = 1024 * 1024


def parameters(workers=1, *, batch_size=1, max_body=100 * MIB, **environ):
    settings = ServerSettings(batch_size=batch_size, limits=Limits(max_body=max_body))
    return execution_parameters(settings, workers, environ)


def test_what_is_said_where_nothing_is_set():
    said = {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}
    assert parameters() == said


def test_as_many_requests_as_fill_a_batch_of_each_worker():
    assert parameters(4, batch_size=2)["MaxConcurrentTransforms"] == 8


def test_the_variables_win():
    environ = {
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": " 3 ",
        "SAGEMAKER_BATCH_STRATEGY": "single_record",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20",
    }
    said = {"MaxConcurrentTransforms": 3, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 20}
    assert parameters(8, **environ) == said


@pytest.mark.parametrize(("max_body", "payload"), [(4 * MIB, 4), (5 * MIB - 1, 4), (10, 1)])
def test_no_payload_is_larger_than_the_server_takes_and_none_is_unlimited(max_body, payload):
    assert parameters(max_body=max_body)["MaxPayloadInMB"] == payload


@pytest.mark.parametrize("workers", [1, 7, 20, 51, 100, 192])
def test_all_payloads_under_way_are_within_what_sagemaker_allows(workers):
    said = parameters(workers, SAGEMAKER_MAX_PAYLOAD_IN_MB="50")
    assert 1 <= said["MaxConcurrentTransforms"] * said["MaxPayloadInMB"] <= 100


def test_empty_and_zero_are_not_said():
    environ = {"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "0", "SAGEMAKER_BATCH_STRATEGY": " "}
    assert parameters(2, **environ) == parameters(2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "many"),
        ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "-1"),
        ("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "²"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6.5"),
        ("SAGEMAKER_BATCH_STRATEGY", "ALL_RECORDS"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_the_name_of_its_variable(variable, value):
    with pytest.raises(InvalidPlanError, match=f"{variable} must be .*, not {value!r}"):
        parameters(**{variable: value})
