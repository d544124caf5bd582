"""What the drivers of SageMaker's Python SDK v3 pass to a script, byte for byte."""

import json
import os

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.training.environment import read
from modelyard.training.profiles import named

DRIVERS = named("drivers")
PROGRAM = {"SAGEMAKER_PROGRAM": "train.py"}


def variables_of(base, environ=PROGRAM, *, devices=None, **hyperparameters):
    base.hyperparameters(**hyperparameters)
    return DRIVERS.variables(read(base.folder, environ), devices=devices or {})


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (5, "5"),
        (1e-05, "1e-05"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ("", ""),
        ("1.10", "1.10"),
        ("a b 'c' \"d\" $e", "a b 'c' \"d\" $e"),
        ([1, "a b"], '[1, "a b"]'),
        ({"y": [1, 2], "x": None}, '{"y": [1, 2], "x": null}'),
        ({}, "{}"),
        ("ü", "ü"),
        (["ü"], '["\\u00fc"]'),
    ],
)
def test_a_hyperparameter_is_one_token_after_its_flag(value, token):
    assert DRIVERS.arguments({"name": value}) == ("--name", token)


def test_arguments_are_in_the_order_given_and_have_two_dashes():
    assert DRIVERS.arguments({"z": 1, "batch-size": 2, "a.b": 3, "": 4}) == (
        *("--z", "1"),
        *("--batch-size", "2"),
        *("--a.b", "3"),
        *("--", "4"),
    )


def test_no_hyperparameters_are_no_arguments():
    assert DRIVERS.arguments({}) == ()


# -- variables ---------------------------------------------------------------------------------

RESOURCES = {
    "current_host": "algo-2",
    "current_instance_type": "ml.g5.xlarge",
    "hosts": ["algo-1", "algo-2"],
    "network_interface_name": "eth1",
}


@pytest.fixture
def rich(base):
    """Every variable of a job of two hosts that SDK v3 started with a distribution."""
    base.configure("resourceconfig", RESOURCES)
    base.configure("inputdataconfig", {"train": {"TrainingInputMode": "File"}, "a-b": {}})
    sent = base.folder / "input" / "data" / "sm_drivers"
    sent.mkdir(parents=True)
    (sent / "distributed.json").write_text('{"process_count_per_node": 2, "smp": null}')
    given = {"z": 1, "batch-size": 64, "flag": True, "none": None, "text": "it's", "list": [1, {"a": 2.5}]}
    hidden = {"sagemaker_job_name": "digits-1", "sagemaker_region": "eu-west-1"}
    environ = PROGRAM | {"TRAINING_JOB_NAME": "digits-1"}
    return variables_of(base, environ, devices={"cuda": 4, "xla": 2, "cpu": 1}, **given, **hidden)


def test_every_variable_byte_for_byte(base, rich):
    folder = base.folder
    del rich["SM_TRAINING_ENV"]
    assert rich == {
        "SM_MODEL_DIR": f"{folder}/model",
        "SM_INPUT_DIR": f"{folder}/input",
        "SM_INPUT_DATA_DIR": f"{folder}/input/data",
        "SM_INPUT_CONFIG_DIR": f"{folder}/input/config",
        "SM_OUTPUT_DIR": f"{folder}/output",
        "SM_OUTPUT_FAILURE": f"{folder}/output/failure",
        "SM_OUTPUT_DATA_DIR": f"{folder}/output/data",
        "SM_LOG_LEVEL": "20",
        "SM_MASTER_ADDR": "algo-1",
        "SM_MASTER_PORT": "7777",
        "SM_SOURCE_DIR": f"{folder}/code",
        "SM_ENTRY_SCRIPT": "train.py",
        "SM_DISTRIBUTED_DRIVER_DIR": f"{folder}/input/data/sm_drivers/distributed_drivers",
        "SM_DISTRIBUTED_CONFIG": '{"process_count_per_node": 2, "smp": null}',
        "SM_CHANNEL_TRAIN": f"{folder}/input/data/train",
        "SM_CHANNEL_A-B": f"{folder}/input/data/a-b",
        "SM_CHANNELS": '["train", "a-b"]',
        "SM_HP_Z": "1",
        "SM_HP_BATCH_SIZE": "64",
        "SM_HP_FLAG": "true",
        "SM_HP_NONE": "null",
        "SM_HP_TEXT": "it's",
        "SM_HP_LIST": '[1, {"a": 2.5}]',
        "SM_HPS": '{"z": 1, "batch-size": 64, "flag": true, "none": null, "text": "it\'s", '
        '"list": [1, {"a": 2.5}]}',
        "SM_CURRENT_HOST": "algo-2",
        "SM_CURRENT_INSTANCE_TYPE": "ml.g5.xlarge",
        "SM_HOSTS": '["algo-1", "algo-2"]',
        "SM_NETWORK_INTERFACE_NAME": "eth1",
        "SM_HOST_COUNT": "2",
        "SM_CURRENT_HOST_RANK": "1",
        "SM_NUM_CPUS": str(os.cpu_count()),
        "SM_NUM_GPUS": "4",
        "SM_NUM_NEURONS": "2",
        "SM_RESOURCE_CONFIG": '{"current_host": "algo-2", "current_instance_type": "ml.g5.xlarge", '
        '"hosts": ["algo-1", "algo-2"], "network_interface_name": "eth1"}',
        "SM_INPUT_DATA_CONFIG": '{"train": {"TrainingInputMode": "File"}, "a-b": {}}',
        "CURRENT_HOST": "algo-2",
        "SAGEMAKER_JOB_NAME": "digits-1",
        "SAGEMAKER_REGION": "eu-west-1",
        "MASTER_ADDR": "algo-1",
        "MASTER_PORT": "7777",
    }


def test_every_property_of_the_training_env_in_their_order(base, rich):
    folder = base.folder
    expected = {
        "channel_input_dirs": {"train": f"{folder}/input/data/train", "a-b": f"{folder}/input/data/a-b"},
        "current_host": "algo-2",
        "current_instance_type": "ml.g5.xlarge",
        "hosts": ["algo-1", "algo-2"],
        "master_addr": "algo-1",
        "master_port": 7777,
        "hyperparameters": {
            "z": 1,
            "batch-size": 64,
            "flag": True,
            "none": None,
            "text": "it's",
            "list": [1, {"a": 2.5}],
        },
        "input_data_config": {"train": {"TrainingInputMode": "File"}, "a-b": {}},
        "input_config_dir": f"{folder}/input/config",
        "input_data_dir": f"{folder}/input/data",
        "input_dir": f"{folder}/input",
        "job_name": "digits-1",
        "log_level": 20,
        "model_dir": f"{folder}/model",
        "network_interface_name": "eth1",
        "num_cpus": os.cpu_count(),
        "num_gpus": 4,
        "num_neurons": 2,
        "output_data_dir": f"{folder}/output/data",
        "resource_config": RESOURCES,
    }
    assert rich["SM_TRAINING_ENV"] == json.dumps(expected)


def test_hosts_are_sorted_and_ranked_by_name(base):
    names = ["algo-2", "algo-10", "algo-1"]
    base.configure("resourceconfig", {"current_host": "algo-10", "hosts": names})
    found = variables_of(base)
    assert found["SM_HOSTS"] == '["algo-1", "algo-10", "algo-2"]'
    assert (found["SM_HOST_COUNT"], found["SM_CURRENT_HOST_RANK"]) == ("3", "1")


def test_the_master_is_where_the_environment_says(base):
    environ = PROGRAM | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1234"}
    found = variables_of(base, environ)
    assert (found["SM_MASTER_ADDR"], found["SM_MASTER_PORT"]) == ("127.0.0.1", "1234")
    told = json.loads(found["SM_TRAINING_ENV"])
    assert (told["master_addr"], told["master_port"]) == ("127.0.0.1", 1234)


def test_without_a_distribution_there_is_no_word_of_one(base):
    assert not [name for name in variables_of(base) if "DISTRIBUTED" in name]


def test_names_that_become_one_variable_are_an_error(base):
    with pytest.raises(InvalidPlanError, match="'batch-size' and 'batch_size' are both SM_HP_BATCH_SIZE"):
        variables_of(base, **{"batch-size": 1, "lr": 2, "batch_size": 3})


def test_of_two_names_that_differ_in_case_the_later_one_has_the_variable(base):
    found = variables_of(base, T=1, t=2)
    assert (found["SM_HP_T"], found["SM_HPS"]) == ("2", '{"T": 1, "t": 2}')
