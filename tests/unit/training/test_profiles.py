import json
import os
import string
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidPlanError
from modelyard.training.environment import read
from modelyard.training.profiles import named

PROGRAM = {"SAGEMAKER_PROGRAM": "train.py"}
PROFILES = ("toolkit", "drivers")
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(string.ascii_lowercase + string.digits + "_.", max_size=8).filter(
    lambda name: not name.startswith(("sagemaker_", "_tuning", "default_user"))
)
HYPERPARAMETERS = st.dictionaries(NAMES, VALUES, max_size=5)
# The folder of a test is written anew for each example.
anew = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_with(base, environ=PROGRAM, **hyperparameters):
    base.hyperparameters(**hyperparameters)
    return read(base.folder, environ)


@pytest.mark.parametrize("name", ["toolkits", "", "Drivers"])
def test_an_unknown_profile(name):
    with pytest.raises(InvalidPlanError, match=rf"no profile '{name}'.* Known: drivers, toolkit"):
        named(name)


def test_a_profile_that_is_nearly_one():
    with pytest.raises(InvalidPlanError, match="did you mean 'toolkit'"):
        named("toolkits")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_group_meets_at_the_address_of_the_master(base, profile):
    hosts = ["algo-1", "algo-2"]
    base.configure("resourceconfig", {"current_host": "algo-2", "hosts": hosts})
    addresses = {"MODELYARD_HOST_ADDRESSES": "127.3.7.1,127.3.7.2"}

    def meeting(**environ):
        found = named(profile).variables(read_with(base, PROGRAM | addresses | environ), devices={})
        return found["MASTER_ADDR"], found["MASTER_PORT"]

    assert meeting() == ("127.3.7.1", "7777")
    assert meeting(MASTER_ADDR="10.0.0.1", MASTER_PORT="1234") == ("10.0.0.1", "1234")


LONG = 32 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_hyperparameter_that_no_process_can_be_given_for_its_length_is_named(base, profile):
    given_ = {"prompt": "é" * (LONG // 2)}
    with pytest.raises(InvalidPlanError, match="hyperparameter 'prompt' is longer than the .* in a file"):
        named(profile).arguments(given_)
    with pytest.raises(InvalidPlanError, match="hyperparameter 'prompt' is longer than the .* in a file"):
        named(profile).variables(read_with(base, **given_), devices={})


@pytest.mark.parametrize("profile", PROFILES)
def test_hyperparameters_that_together_are_too_long_are_told_from_one(base, profile):
    env = read_with(base, first="x" * (LONG // 2), second="x" * (LONG // 2))
    named(profile).arguments(env.hyperparameters)
    with pytest.raises(InvalidPlanError, match=r"SM_\w+ is longer than the .* among the hyperparameters"):
        named(profile).variables(env, devices={})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit for one argument")
def test_what_is_as_long_as_can_be_is_taken(base):
    text = "x" * (LONG - 1)
    (_, token) = named("toolkit").arguments({"prompt": text})
    assert subprocess.run(["true", token], check=False).returncode == 0
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["true", f"{token}x"], check=False)


# -- nothing is lost ---------------------------------------------------------------------------


@anew
@given(given_=HYPERPARAMETERS)
def test_toolkit_variables_decode_back(base, given_):
    found = named("toolkit").variables(read_with(base, **given_), devices={})
    assert json.loads(found["SM_HPS"]) == given_
    assert json.loads(found["SM_TRAINING_ENV"])["hyperparameters"] == given_
    for name, value in given_.items():
        text = found[f"SM_HP_{name.upper()}"]
        assert text == ("" if value is None else value) or json.loads(text) == value


@anew
@given(given_=HYPERPARAMETERS)
def test_drivers_variables_decode_back_in_their_order(base, given_):
    found = named("drivers").variables(read_with(base, **given_), devices={})
    assert list(json.loads(found["SM_HPS"]).items()) == list(given_.items())
    assert json.loads(found["SM_TRAINING_ENV"])["hyperparameters"] == given_
    for name, value in given_.items():
        text = found[f"SM_HP_{name.upper()}"]
        assert text == value or json.loads(text) == value


@given(given_=HYPERPARAMETERS)
def test_toolkit_arguments_are_a_flag_and_a_value_for_each_name(given_):
    tokens = named("toolkit").arguments(given_)
    assert [flag.lstrip("-") for flag in tokens[::2]] == sorted(given_)
    for name, token in zip(sorted(given_), tokens[1::2], strict=True):
        if isinstance(value := given_[name], dict):
            assert all(f"{key}={item}" in token for key, item in value.items())
        else:
            assert token == ("" if value is None else str(value))


@given(given_=HYPERPARAMETERS)
def test_drivers_arguments_are_a_flag_and_a_value_for_each_name(given_):
    tokens = named("drivers").arguments(given_)
    assert tokens[::2] == tuple(f"--{name}" for name in given_)
    for value, token in zip(given_.values(), tokens[1::2], strict=True):
        assert token == value or json.loads(token) == value


HARD = {
    "batch-size": 64,
    "a.b": 'it\'s "quoted" $HOME `id` \\ \n\t',
    "ünï": "ünï",
    "empty": "",
    "none": None,
    "list": [1, "a b"],
    "raw": "\udcff",
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_process_gets_what_it_is_told(base, profile):
    env = read_with(base, **HARD)
    arguments = named(profile).arguments(env.hyperparameters)
    variables = named(profile).variables(env, devices={"cuda": 1})
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, *arguments],
        env=variables,
        capture_output=True,
        check=True,
        timeout=60,
    )
    seen_arguments, seen = json.loads(done.stdout)
    assert tuple(seen_arguments) == arguments
    assert {name: seen[name] for name in variables} == variables


# -- what no process can be told ---------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_value_that_no_process_can_be_given(base, profile, value):
    env = read_with(base, lr=0.1, token=value)
    said = "hyperparameter 'token' holds a character .*: leave it out, or encode"
    with pytest.raises(InvalidPlanError, match=said):
        named(profile).variables(env, devices={})
    with pytest.raises(InvalidPlanError, match=said) as raised:
        named(profile).arguments(env.hyperparameters)
    assert value not in str(raised.value)


def test_a_dict_that_the_toolkit_would_write_with_a_nul():
    with pytest.raises(InvalidPlanError, match="hyperparameter 'd'"):
        named("toolkit").arguments({"d": {"x": "\0"}})
    assert named("drivers").arguments({"d": {"x": "\0"}}) == ("--d", '{"x": "\\u0000"}')


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("name", "said"), [("a=b", "'a=b' cannot be a variable: rename it"), ("a\0b", "holds a character")]
)
def test_a_name_that_no_variable_can_have(base, profile, name, said):
    with pytest.raises(InvalidPlanError, match=f"hyperparameter .*{said}"):
        named(profile).variables(read_with(base, **{name: 1}), devices={})


@pytest.mark.parametrize("profile", PROFILES)
def test_a_channel_that_no_variable_can_name(base, profile):
    base.configure("inputdataconfig", {"a=b": {}})
    with pytest.raises(InvalidPlanError, match="channel 'a=b' cannot be a variable"):
        named(profile).variables(read_with(base), devices={})
