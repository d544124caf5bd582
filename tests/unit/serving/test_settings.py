"""What an endpoint may be told by variables."""

import math

import attrs
import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.serving.settings import Limits, ServerSettings

FIELDS = {field.name: field for cls in (ServerSettings, Limits) for field in attrs.fields(cls)}
del FIELDS["limits"]

OWN = {
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "workers": ("3", 3),
    "batch_size": ("16", 16),
    "max_batch_delay": ("0.005", 0.005),
    "request_timeout": ("2.5", 2.5),
    "startup_timeout": ("1e3", 1000.0),
    "drain_timeout": (" 7 ", 7.0),
    "max_queue": ("5", 5),
    "worker_memory": ("1073741824", 1 << 30),
    "program": ("serve.py", "serve.py"),
    "default_accept": ("text/csv; header=present", "text/csv; header=present"),
    "strict": ("2.0.25", "2.0.25"),
    "trust_pickle": ("TRUE", True),
    "hardware": ("cuda", "cuda"),
    "hardware_options": ('{"autocast": "bfloat16"}', '{"autocast": "bfloat16"}'),
    "max_body": ("1024", 1024),
    "max_header": ("2048", 2048),
    "first_byte_timeout": ("1", 1.0),
    "header_timeout": ("2", 2.0),
    "body_timeout": ("3", 3.0),
    "idle_timeout": ("4", 4.0),
    "send_timeout": ("5", 5.0),
    "max_pipelined": ("6", 6),
    "max_buffered": ("2147483648", 2 << 30),
}

JSON_OPTIONS = 'options as JSON, as {"autocast": "bfloat16"}'

SAGEMAKER = {
    "SAGEMAKER_BIND_TO_PORT": ("port", "9000", 9000),
    "SAGEMAKER_MODEL_SERVER_WORKERS": ("workers", "4", 4),
    "SAGEMAKER_TS_MIN_WORKERS": ("workers", "2", 2),
    "SAGEMAKER_TS_MAX_WORKERS": ("workers", "3", 3),
    "SAGEMAKER_TS_BATCH_SIZE": ("batch_size", "8", 8),
    "SAGEMAKER_TS_MAX_BATCH_DELAY": ("max_batch_delay", "100", 0.1),
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": ("request_timeout", "30", 30.0),
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": ("request_timeout", "31", 31.0),
    "SAGEMAKER_TS_RESPONSE_TIMEOUT": ("request_timeout", "32", 32.0),
    "SAGEMAKER_STARTUP_TIMEOUT": ("startup_timeout", "90", 90.0),
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": ("max_body", "6", 6 << 20),
    "SAGEMAKER_PROGRAM": ("program", "a.py", "a.py"),
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": ("default_accept", "text/csv", "text/csv"),
}


def told(**environ):
    """Return every setting by its name."""
    settings = attrs.asdict(ServerSettings.from_environ(environ))
    return settings | settings.pop("limits")


def own(name):
    return f"MODELYARD_SERVE_{name.upper()}"


def test_nothing_said_is_the_defaults():
    assert ServerSettings.from_environ({}) == ServerSettings()
    assert ServerSettings.from_environ({own("batch_size"): " ", "SAGEMAKER_PROGRAM": ""}) == ServerSettings()


def test_the_tables_have_every_setting_with_another_value_than_its_default():
    assert set(OWN) == set(FIELDS)
    assert [name for name, (_, value) in OWN.items() if value == FIELDS[name].default] == []


@pytest.mark.parametrize("name", OWN)
def test_each_setting_has_a_variable_of_ours(name):
    text, value = OWN[name]
    assert told(**{own(name): text}) == told() | {name: value}
    assert type(told(**{own(name): text})[name]) is FIELDS[name].type


@pytest.mark.parametrize("variable", SAGEMAKER)
def test_variables_of_sagemakers(variable):
    name, text, value = SAGEMAKER[variable]
    assert told(**{variable: text}) == told() | {name: pytest.approx(value)}


@pytest.mark.parametrize("variable", SAGEMAKER)
def test_ours_win_over_sagemakers(variable):
    name, text, _ = SAGEMAKER[variable]
    ours, value = OWN[name]
    assert told(**{variable: text, own(name): ours})[name] == value


@pytest.mark.parametrize(
    ("loses", "wins"),
    [
        ("SAGEMAKER_TS_MIN_WORKERS", "SAGEMAKER_TS_MAX_WORKERS"),
        ("SAGEMAKER_TS_MAX_WORKERS", "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "SAGEMAKER_TS_RESPONSE_TIMEOUT"),
    ],
)
def test_which_of_sagemakers_wins(loses, wins):
    name, text, value = SAGEMAKER[wins]
    assert told(**{loses: SAGEMAKER[loses][1], wins: text})[name] == value


def test_what_is_overruled_may_be_anything():
    assert told(SAGEMAKER_MODEL_SERVER_TIMEOUT="soon", MODELYARD_SERVE_REQUEST_TIMEOUT="5") == told() | {
        "request_timeout": 5.0
    }


# -- what makes no sense -----------------------------------------------------------------------

NUMBERS = {name for name, field in FIELDS.items() if field.type in (int, float)}
ZERO_IS_FINE = {"port", "workers", "max_batch_delay", "worker_memory"}


def refused(variable, text):
    with pytest.raises(InvalidPlanError) as raised:
        ServerSettings.from_environ({variable: text})
    said = str(raised.value)
    assert said.startswith(f"{variable} must be ")
    assert said.endswith(f", not {text!r}")
    return said.removeprefix(f"{variable} must be ").rpartition(", not ")[0]


@pytest.mark.parametrize("text", ["many", "1,5", "0x10", "-"])
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_what_is_no_number(name, text):
    kind = "a whole number" if FIELDS[name].type is int else "a number"
    assert refused(own(name), text) == kind


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_below_0(name):
    expected = {"port": "from 0, for any free port, to 65535"}
    fallback = "0 or more" if name in ZERO_IS_FINE else "above 0"
    assert refused(own(name), "-1") == expected.get(name, fallback)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_zero(name):
    if name in ZERO_IS_FINE:
        assert told(**{own(name): "0"})[name] == 0
    else:
        assert refused(own(name), "0") == "above 0"


@pytest.mark.parametrize("name", sorted(name for name in NUMBERS if FIELDS[name].type is float))
def test_times_are_finite(name):
    assert refused(own(name), "inf") == "at most 1000000000"
    assert refused(own(name), "1e10") == "at most 1000000000"
    assert refused(own(name), "nan") in ("above 0", "0 or more")
    assert math.isfinite(told(**{own(name): "1e9"})[name])


@pytest.mark.parametrize("name", sorted(name for name in NUMBERS - {"port"} if FIELDS[name].type is int))
def test_numbers_are_those_of_the_machine(name):
    assert refused(own(name), "1.5") == "a whole number"
    assert refused(own(name), str(2**63)) == f"at most {2**63 - 1}"
    assert refused(own(name), "9" * 5000) == "a whole number"


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("MODELYARD_SERVE_PORT", "65536", "from 0, for any free port, to 65535"),
        ("MODELYARD_SERVE_STRICT", "9", "2.0.25, or nothing"),
        ("MODELYARD_SERVE_DEFAULT_ACCEPT", "json", "a media type, as application/json"),
        ("MODELYARD_SERVE_TRUST_PICKLE", "yes", "true or false or 1 or 0"),
        ("MODELYARD_SERVE_HARDWARE_OPTIONS", "autocast=bfloat16", JSON_OPTIONS),
        ("MODELYARD_SERVE_HARDWARE_OPTIONS", "[1]", JSON_OPTIONS),
        ("SAGEMAKER_BIND_TO_PORT", "http", "a whole number"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "0", "above 0"),
        ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "inf", "at most 1000000000"),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "-100", "0 or more"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "0", "above 0"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "1.5", "a whole number"),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/", "a media type, as application/json"),
    ],
)
def test_a_bad_value_is_told_by_the_variable(variable, text, said):
    assert refused(variable, text) == said


def test_a_bad_value_is_told_by_the_name_that_the_user_knows():
    names = {"MODELYARD_SERVE_BATCH_SIZE": "--batch-size"}
    with pytest.raises(InvalidPlanError, match=r"^--batch-size must be above 0, not '0'$"):
        ServerSettings.from_environ({"MODELYARD_SERVE_BATCH_SIZE": "0"}, names)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size must be above 0, not 0"),
        ({"drain_timeout": math.inf}, "drain_timeout must be at most 1000000000, not inf"),
        ({"strict": "9"}, "strict must be 2.0.25, or nothing, not '9'"),
        ({"default_accept": "json"}, "default_accept must be a media type, as application/json, not 'json'"),
    ],
)
def test_settings_made_in_python_are_checked_too(settings, said):
    with pytest.raises(InvalidPlanError) as raised:
        ServerSettings(**settings)
    assert str(raised.value) == said
