"""What the SageMaker training toolkit 5.1.4 passes to a script, byte for byte."""

import json
import os

import pytest

from modelyard.training.environment import read
from modelyard.training.profiles import named

TOOLKIT = named("toolkit")
PROGRAM = {"SAGEMAKER_PROGRAM": "train.py"}


def variables_of(base, environ=PROGRAM, *, devices=None, **hyperparameters):
    base.hyperparameters(**hyperparameters)
    return TOOLKIT.variables(read(base.folder, environ), devices=devices or {})


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (5, "5"),
        (1e-05, "1e-05"),
        (True, "True"),
        (False, "False"),
        (None, ""),
        ("", ""),
        ("a b 'c' \"d\" $e", "a b 'c' \"d\" $e"),
        ([1, "a b"], "[1, 'a b']"),
        ([], "[]"),
        ({"x": 1, "y": [1, 2]}, "x=1,y=[1, 2]"),
        ({"b": 1, "a": None}, "a=None,b=1"),
        ({}, ""),
        ("ünïcode", "ünïcode"),
    ],
)
def test_a_hyperparameter_is_one_token_after_its_flag(value, token):
    assert TOOLKIT.arguments({"name": value}) == ("--name", token)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("lr", "--lr"), ("n", "-n"), ("batch-size", "--batch-size"), ("a.b", "--a.b"), ("", ""), ("-", "--")],
)
def test_flags(name, flag):
    assert TOOLKIT.arguments({name: 1}) == (flag, "1")


def test_arguments_are_sorted_by_name_and_never_by_value():
    given = {
        "epochs": 5,
        "b": True,
        "batch-size": 64,
        "d": {"x": 1, "y": [1, 2]},
        "e": "",
        "l": [1, "a b"],
        "n": None,
    }
    # fmt: off
    assert TOOLKIT.arguments(given) == (
        "-b", "True",
        "--batch-size", "64",
        "-d", "x=1,y=[1, 2]",
        "-e", "",
        "--epochs", "5",
        "-l", "[1, 'a b']",
        "-n", "",
    )
    # fmt: on


def test_no_hyperparameters_are_no_arguments():
    assert TOOLKIT.arguments({}) == ()


# -- variables ---------------------------------------------------------------------------------

HYPERPARAMETERS = {
    "batch-size": 64,
    "a.b": "x y",
    "b": True,
    "n": None,
    "lr": 1e-05,
    "layers": [1, "a b"],
    "nested": {"x": 1},
    "sagemaker_job_name": "digits-1",
    "sagemaker_region": "eu-west-1",
    "sagemaker_container_log_level": 10,
    "sagemaker_submit_directory": "s3://bucket/sourcedir.tar.gz",
    "sagemaker_mpi_enabled": True,
}
RESOURCES = {
    "current_host": "algo-2",
    "hosts": ["algo-1", "algo-2"],
    "current_instance_type": "ml.p4d.24xlarge",
    "current_group_name": "gpu",
    "instance_groups": [
        {"instance_group_name": "gpu", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-2"]},
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
    ],
    "network_interface_name": "ethwe",
    "topology": [{"hostName": "algo-1", "capacityUnitId": "u-1"}],
}
GROUPS_TEXT = (
    '{"cpu":{"hosts":["algo-1"],"instance_group_name":"cpu","instance_type":"ml.c5.xlarge"},'
    '"gpu":{"hosts":["algo-2"],"instance_group_name":"gpu","instance_type":"ml.p4d.24xlarge"}}'
)
RESOURCES_TEXT = (
    '{"current_group_name":"gpu","current_host":"algo-2","current_instance_type":"ml.p4d.24xlarge",'
    '"hosts":["algo-1","algo-2"],"instance_groups":'
    '[{"hosts":["algo-2"],"instance_group_name":"gpu","instance_type":"ml.p4d.24xlarge"},'
    '{"hosts":["algo-1"],"instance_group_name":"cpu","instance_type":"ml.c5.xlarge"}],'
    '"network_interface_name":"ethwe","topology":[{"capacityUnitId":"u-1","hostName":"algo-1"}]}'
)


@pytest.fixture
def rich(base):
    """Every variable of a job that says all that can be said, on the GPU host of a mixed cluster."""
    base.configure("resourceconfig", RESOURCES)
    base.configure("inputdataconfig", {"train": {"TrainingInputMode": "File"}, "a-b": {}})
    environ = {
        "SAGEMAKER_PROGRAM": "sub/train.py",
        "SAGEMAKER_TRAINING_MODULE": "frame.work:main",
        "TRAINING_JOB_NAME": "digits-1-tuned",
        "SM_HP_MP_PARAMETERS": '{"partitions":2}',
    }
    return variables_of(base, environ, devices={"cuda": 8, "xla": 2, "cpu": 1}, **HYPERPARAMETERS)


def test_every_variable_byte_for_byte(base, rich):
    folder = base.folder
    del rich["SM_TRAINING_ENV"]
    assert rich == {
        "SM_HOSTS": '["algo-1","algo-2"]',
        "SM_CURRENT_HOST": "algo-2",
        "SM_NETWORK_INTERFACE_NAME": "ethwe",
        "SM_HPS": '{"a.b":"x y","b":true,"batch-size":64,"layers":[1,"a b"],"lr":1e-05,'
        '"n":null,"nested":{"x":1}}',
        "SM_HP_BATCH-SIZE": "64",
        "SM_HP_A.B": "x y",
        "SM_HP_B": "true",
        "SM_HP_N": "",
        "SM_HP_LR": "1e-05",
        "SM_HP_LAYERS": '[1,"a b"]',
        "SM_HP_NESTED": '{"x":1}',
        "SM_USER_ENTRY_POINT": "sub/train.py",
        "SM_MODULE_NAME": "sub/train",
        "SM_MODULE_DIR": "s3://bucket/sourcedir.tar.gz",
        "SM_FRAMEWORK_MODULE": "frame.work:main",
        "SM_FRAMEWORK_PARAMS": '{"sagemaker_mpi_enabled":true}',
        "SM_RESOURCE_CONFIG": RESOURCES_TEXT,
        "SM_INPUT_DATA_CONFIG": '{"a-b":{},"train":{"TrainingInputMode":"File"}}',
        "SM_CHANNELS": '["a-b","train"]',
        "SM_CHANNEL_TRAIN": f"{folder}/input/data/train",
        "SM_CHANNEL_A-B": f"{folder}/input/data/a-b",
        "SM_INPUT_DIR": f"{folder}/input",
        "SM_INPUT_CONFIG_DIR": f"{folder}/input/config",
        "SM_OUTPUT_DIR": f"{folder}/output",
        "SM_OUTPUT_DATA_DIR": f"{folder}/output/data",
        "SM_OUTPUT_INTERMEDIATE_DIR": f"{folder}/output/intermediate",
        "SM_MODEL_DIR": f"{folder}/model",
        "SM_LOG_LEVEL": "10",
        "SM_NUM_CPUS": str(os.cpu_count()),
        "SM_NUM_GPUS": "8",
        "SM_NUM_NEURONS": "2",
        "SM_CURRENT_INSTANCE_TYPE": "ml.p4d.24xlarge",
        "SM_CURRENT_INSTANCE_GROUP": "gpu",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": '["algo-2"]',
        "SM_INSTANCE_GROUPS": '["gpu","cpu"]',
        "SM_INSTANCE_GROUPS_DICT": GROUPS_TEXT,
        "SM_DISTRIBUTION_INSTANCE_GROUPS": '["gpu"]',
        "SM_IS_HETERO": "true",
        "SM_TOPOLOGY": '[{"capacityUnitId":"u-1","hostName":"algo-1"}]',
        "SM_USER_ARGS": '["--a.b","x y","-b","True","--batch-size","64","--layers","[1, \'a b\']",'
        '"--lr","1e-05","-n","","--nested","x=1"]',
        "CURRENT_HOST": "algo-2",
        "SAGEMAKER_JOB_NAME": "digits-1",
        "SAGEMAKER_REGION": "eu-west-1",
        "MASTER_ADDR": "algo-2",
        "MASTER_PORT": "7777",
    }


def test_every_property_of_the_training_env(base, rich):
    folder = base.folder
    text = rich["SM_TRAINING_ENV"]
    expected = {
        "additional_framework_parameters": {"sagemaker_mpi_enabled": True},
        "channel_input_dirs": {"train": f"{folder}/input/data/train", "a-b": f"{folder}/input/data/a-b"},
        "current_host": "algo-2",
        "current_instance_group": "gpu",
        "current_instance_group_hosts": ["algo-2"],
        "current_instance_type": "ml.p4d.24xlarge",
        "distribution_hosts": ["algo-2"],
        "distribution_instance_groups": ["gpu"],
        "framework_module": "frame.work:main",
        "hosts": ["algo-1", "algo-2"],
        "hyperparameters": {k: v for k, v in HYPERPARAMETERS.items() if not k.startswith("sagemaker_")},
        "input_config_dir": f"{folder}/input/config",
        "input_data_config": {"train": {"TrainingInputMode": "File"}, "a-b": {}},
        "input_dir": f"{folder}/input",
        "instance_groups": ["gpu", "cpu"],
        "instance_groups_dict": {g["instance_group_name"]: g for g in RESOURCES["instance_groups"]},
        "is_hetero": True,
        "is_master": True,
        "is_modelparallel_enabled": True,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": "digits-1-tuned",
        "log_level": 10,
        "master_hostname": "algo-2",
        "model_dir": f"{folder}/model",
        "module_dir": "s3://bucket/sourcedir.tar.gz",
        "module_name": "sub/train",
        "network_interface_name": "ethwe",
        "num_cpus": os.cpu_count(),
        "num_gpus": 8,
        "num_neurons": 2,
        "output_data_dir": f"{folder}/output/data",
        "output_dir": f"{folder}/output",
        "output_intermediate_dir": f"{folder}/output/intermediate",
        "resource_config": RESOURCES,
        "topology": RESOURCES["topology"],
        "user_entry_point": "sub/train.py",
    }
    assert text == json.dumps(expected, sort_keys=True, separators=(",", ":"))


def test_a_job_that_says_next_to_nothing(base):
    found = variables_of(base)
    told = json.loads(found["SM_TRAINING_ENV"])
    assert "SM_TOPOLOGY" not in found
    assert {name: found[name] for name in found if not name.endswith(("_DIR", "_CPUS", "_ENV"))} == {
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_HPS": "{}",
        "SM_USER_ENTRY_POINT": "train.py",
        "SM_MODULE_NAME": "train",
        "SM_FRAMEWORK_MODULE": "",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_RESOURCE_CONFIG": '{"current_host":"algo-1","hosts":["algo-1"]}',
        "SM_INPUT_DATA_CONFIG": "{}",
        "SM_CHANNELS": "[]",
        "SM_LOG_LEVEL": "20",
        "SM_NUM_GPUS": "0",
        "SM_NUM_NEURONS": "0",
        "SM_CURRENT_INSTANCE_TYPE": "local",
        "SM_CURRENT_INSTANCE_GROUP": "homogeneousCluster",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": "[]",
        "SM_INSTANCE_GROUPS": "[]",
        "SM_INSTANCE_GROUPS_DICT": "{}",
        "SM_DISTRIBUTION_INSTANCE_GROUPS": "[]",
        "SM_IS_HETERO": "false",
        "SM_USER_ARGS": "[]",
        "CURRENT_HOST": "algo-1",
        "SAGEMAKER_JOB_NAME": "",
        "SAGEMAKER_REGION": "",
        "MASTER_ADDR": "algo-1",
        "MASTER_PORT": "7777",
    }
    silent = ("framework_module", "is_modelparallel_enabled", "job_name")
    assert [told[name] for name in silent] == [None, None, None]
    assert (told["topology"], told["distribution_hosts"], told["is_master"]) == ([], ["algo-1"], True)
    assert found["SM_MODULE_DIR"] == str(base.code)


@pytest.mark.parametrize(("told", "enabled"), [('{"a":1}', True), ("{}", False), ("", "")])
def test_model_parallel_is_what_its_parameters_say(base, told, enabled):
    found = variables_of(base, PROGRAM | {"SM_HP_MP_PARAMETERS": told})
    assert json.loads(found["SM_TRAINING_ENV"])["is_modelparallel_enabled"] == enabled


@pytest.mark.parametrize("tool", ["smddprun", "smddpmprun"])
def test_a_launch_tool_of_sagemaker_that_is_installed(base, tmp_path, tool):
    (tmp_path / tool).touch(mode=0o755)
    told = json.loads(variables_of(base, PROGRAM | {"PATH": str(tmp_path)})["SM_TRAINING_ENV"])
    installed = {name for name in ("smddprun", "smddpmprun") if told[f"is_{name}_installed"]}
    assert installed == {tool}


@pytest.mark.parametrize(
    ("program", "module"),
    [("train.py", "train"), ("a/b.py", "a/b"), ("train.sh", "train.sh"), ("pkg.mod", "pkg.mod")],
)
def test_the_modules_name_is_the_programs_without_py(base, program, module):
    assert variables_of(base, {"SAGEMAKER_PROGRAM": program})["SM_MODULE_NAME"] == module


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (5, "5"),
        (1e-05, "1e-05"),
        ([1, "a b"], '[1,"a b"]'),
        ({"y": 1, "x": None}, '{"x":null,"y":1}'),
        (None, ""),
        ("a b", "a b"),
        ("ü", "ü"),
        (["ü"], '["\\u00fc"]'),
    ],
)
def test_the_text_of_a_variable(base, value, text):
    assert variables_of(base, x=value)["SM_HP_X"] == text


@pytest.mark.parametrize(
    ("name", "variable"), [("batch-size", "SM_HP_BATCH-SIZE"), ("a.b", "SM_HP_A.B"), ("", "SM_HP_")]
)
def test_the_name_of_a_variable_is_upper_cased_and_nothing_else(base, name, variable):
    assert variables_of(base, **{name: 1})[variable] == "1"


def test_of_two_names_that_differ_in_case_the_later_one_has_the_variable_and_both_are_arguments(base):
    found = variables_of(base, T=1, t=2)
    assert found["SM_HP_T"] == "2"
    assert json.loads(found["SM_HPS"]) == {"T": 1, "t": 2}
    assert json.loads(found["SM_USER_ARGS"]) == ["-T", "1", "-t", "2"]
