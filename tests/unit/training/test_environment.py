import json
import os
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.layout import JobLayout
from modelyard.training.environment import arguments, read, variables

PROGRAM = {"SAGEMAKER_PROGRAM": "train.py"}


def read_with(base, environ=PROGRAM, **hyperparameters):
    base.hyperparameters(**hyperparameters)
    return read(base.folder, environ)


def variables_of(base, environ=PROGRAM, *, accelerators=None, **hyperparameters):
    return variables(read_with(base, environ, **hyperparameters), accelerators=accelerators or {"cpu": 1})


# What sagemaker-training 5.1.4 passes for these hyperparameters.
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
    assert arguments({"name": value}) == ("--name", token)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("lr", "--lr"), ("n", "-n"), ("batch-size", "--batch-size"), ("a.b", "--a.b"), ("", ""), ("-", "--")],
)
def test_flags(name, flag):
    assert arguments({name: 1}) == (flag, "1")


def test_arguments_are_sorted_by_name_and_never_by_value():
    mixed = {
        "epochs": 5,
        "b": True,
        "batch-size": 64,
        "d": {"x": 1, "y": [1, 2]},
        "e": "",
        "l": [1, "a b"],
        "n": None,
    }
    assert " ".join(f"'{token}'" if " " in token or not token else token for token in arguments(mixed)) == (
        "-b True --batch-size 64 -d 'x=1,y=[1, 2]' -e '' --epochs 5 -l '[1, 'a b']' -n ''"
    )


def test_no_hyperparameters_are_no_arguments():
    assert arguments({}) == ()


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("1.10", 1.1),
        ("1e3", 1000.0),
        ("null", None),
        ("true", True),
        ('"x y"', "x y"),
        ("007", "007"),
        ("True", "True"),
        ("", ""),
        (" 5 ", 5),
        ("[1, 2", "[1, 2"),
        ('{"a": 1}', {"a": 1}),
        ("1234567890123456789.0", 1.2345678901234568e18),
        ("12345678901234567890", 12345678901234567890),
        ("9" * 5000, "9" * 5000),
        (5, 5),
        (None, None),
        ([1], [1]),
    ],
)
def test_a_hyperparameter_is_decoded_as_json_where_it_is_json(base, raw, decoded):
    base.configure("hyperparameters", {"x": raw})
    found = read(base.folder, PROGRAM).hyperparameters["x"]
    assert found == decoded
    assert type(found) is type(decoded)


def test_nan_is_decoded_as_python_does(base):
    base.configure("hyperparameters", {"x": "NaN"})
    assert read(base.folder, PROGRAM).hyperparameters["x"] != read(base.folder, PROGRAM).hyperparameters["x"]


def test_sagemakers_own_hyperparameters_are_not_the_users(base):
    reserved = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://bucket/sourcedir.tar.gz",
        "sagemaker_enable_cloudwatch_metrics": True,
        "sagemaker_region": "eu-west-1",
        "sagemaker_container_log_level": 10,
        "sagemaker_job_name": "a-job",
        "default_user_module_name": "x",
        "_tuning_objective_metric": "accuracy",
        "sagemaker_s3_output": "s3://bucket",
    }
    framework = {"sagemaker_mpi_enabled": True, "sagemaker_anything": {"a": 1}}
    found = variables_of(base, {}, **reserved, **framework, lr=0.1, sagemaker="mine")
    assert json.loads(found["SM_HPS"]) == {"lr": 0.1, "sagemaker": "mine"}
    assert json.loads(found["SM_FRAMEWORK_PARAMS"]) == framework
    assert json.loads(found["SM_USER_ARGS"]) == ["--lr", "0.1", "--sagemaker", "mine"]
    assert {name for name in found if name.startswith("SM_HP_")} == {"SM_HP_LR", "SM_HP_SAGEMAKER"}
    assert found["SM_LOG_LEVEL"] == "10"
    assert found["SAGEMAKER_JOB_NAME"] == "a-job"
    assert found["SM_MODULE_DIR"] == "s3://bucket/sourcedir.tar.gz"


def test_every_variable_of_the_toolkit(base):
    base.configure("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    base.configure("inputdataconfig", {"train": {"TrainingInputMode": "File"}, "a-b": {}})
    found = variables_of(base, {"SAGEMAKER_PROGRAM": "sub/train.py"}, lr=0.1, accelerators={"cuda": 2})
    training_env = json.loads(found.pop("SM_TRAINING_ENV"))
    folder = str(base.folder)
    assert found == {
        "SM_HOSTS": '["algo-1","algo-2"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_HPS": '{"lr":0.1}',
        "SM_HP_LR": "0.1",
        "SM_USER_ENTRY_POINT": "sub/train.py",
        "SM_MODULE_NAME": "sub/train",
        "SM_MODULE_DIR": f"{folder}/code",
        "SM_FRAMEWORK_MODULE": "",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_RESOURCE_CONFIG": '{"current_host":"algo-1","hosts":["algo-1","algo-2"]}',
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
        "SM_LOG_LEVEL": "20",
        "SM_NUM_CPUS": str(os.cpu_count()),
        "SM_NUM_GPUS": "2",
        "SM_NUM_NEURONS": "0",
        "SM_CURRENT_INSTANCE_TYPE": "local",
        "SM_CURRENT_INSTANCE_GROUP": "homogeneousCluster",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": '["algo-1","algo-2"]',
        "SM_INSTANCE_GROUPS": "[]",
        "SM_INSTANCE_GROUPS_DICT": "{}",
        "SM_DISTRIBUTION_INSTANCE_GROUPS": "[]",
        "SM_IS_HETERO": "false",
        "SM_USER_ARGS": '["--lr","0.1"]',
        "CURRENT_HOST": "algo-1",
        "SAGEMAKER_JOB_NAME": "",
        "MASTER_ADDR": "algo-1",
        "MASTER_PORT": "7777",
    }
    assert training_env["hyperparameters"] == {"lr": 0.1}
    assert training_env["channel_input_dirs"] == {
        "train": f"{folder}/input/data/train",
        "a-b": f"{folder}/input/data/a-b",
    }


PROPERTIES = """
    additional_framework_parameters channel_input_dirs current_host current_instance_group
    current_instance_group_hosts current_instance_type distribution_hosts distribution_instance_groups
    framework_module hosts hyperparameters input_config_dir input_data_config input_dir instance_groups
    instance_groups_dict is_hetero is_master job_name log_level master_hostname model_dir module_dir
    module_name network_interface_name num_cpus num_gpus num_neurons output_data_dir output_dir
    output_intermediate_dir resource_config user_entry_point
"""


def test_the_training_env_has_the_toolkits_properties(base):
    training_env = json.loads(variables_of(base)["SM_TRAINING_ENV"])
    assert sorted(training_env) == PROPERTIES.split()
    assert training_env["is_master"] is True


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


def test_instance_groups(base):
    groups = [
        {"instance_group_name": "gpu", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-2"]},
        {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
    ]
    resources = {
        "current_host": "algo-2",
        "hosts": ["algo-1", "algo-2"],
        "current_instance_type": "ml.p4d.24xlarge",
        "current_group_name": "gpu",
        "instance_groups": groups,
        "network_interface_name": "ethwe",
    }
    base.configure("resourceconfig", resources)
    found = variables_of(base, sagemaker_distribution_instance_groups=["gpu"])
    assert found["SM_CURRENT_INSTANCE_GROUP_HOSTS"] == '["algo-2"]'
    assert found["SM_INSTANCE_GROUPS"] == '["cpu","gpu"]'
    assert json.loads(found["SM_INSTANCE_GROUPS_DICT"]) == {g["instance_group_name"]: g for g in groups}
    assert found["SM_DISTRIBUTION_INSTANCE_GROUPS"] == '["gpu"]'
    assert found["SM_IS_HETERO"] == "true"
    assert found["SM_CURRENT_INSTANCE_TYPE"] == "ml.p4d.24xlarge"
    assert found["SM_NETWORK_INTERFACE_NAME"] == "ethwe"
    training_env = json.loads(found["SM_TRAINING_ENV"])
    assert (training_env["is_master"], training_env["master_hostname"]) == (False, "algo-1")


def test_the_environments_program_wins(base):
    assert read_with(base, sagemaker_program="other.py").program == "train.py"
    assert read_with(base, {}, sagemaker_program="other.py").program == "other.py"
    assert read_with(base, {"SAGEMAKER_PROGRAM": ""}, sagemaker_program="other.py").program == "other.py"


def test_a_program_that_looks_like_a_number_is_a_name(base):
    assert read_with(base, {}, sagemaker_program=7).program == "7"


def test_the_environments_submit_directory_wins(base):
    told = {**PROGRAM, "SAGEMAKER_SUBMIT_DIRECTORY": "s3://b/x.tar.gz"}
    assert (
        read_with(base, told, sagemaker_submit_directory="s3://b/y.tar.gz").submit_directory
        == "s3://b/x.tar.gz"
    )
    assert read_with(base, sagemaker_submit_directory="s3://b/y.tar.gz").submit_directory == "s3://b/y.tar.gz"


def test_the_jobs_name(base):
    assert read_with(base, {**PROGRAM, "TRAINING_JOB_NAME": "a"}).job_name == "a"
    assert read_with(base, {**PROGRAM, "TRAINING_JOB_NAME": "a"}, sagemaker_job_name="b").job_name == "b"


def test_defaults_where_there_are_no_files(tmp_path):
    found = read(tmp_path / "nowhere", PROGRAM)
    assert found.hyperparameters == found.channels == found.settings == {}
    assert (found.host.name, found.host.names, found.host.rank) == ("algo-1", ("algo-1",), 0)
    assert found.instance_type == "local"
    assert found.submit_directory == str(tmp_path / "nowhere" / "code")


def test_a_relative_base_is_made_absolute_because_the_script_runs_elsewhere(base, monkeypatch):
    monkeypatch.chdir(base.folder.parent)
    assert read(Path(base.folder.name), PROGRAM).layout == JobLayout(base.folder)


@pytest.mark.parametrize("name", ["hyperparameters", "resourceconfig", "inputdataconfig"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[1]", "a JSON object, not a list"),
        ("\xff", "is not JSON"),
    ],
)
def test_a_broken_file_is_named(base, name, content, said):
    (base.config / f"{name}.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidPlanError, match=rf"{name}.json.*{said}"):
        read(base.folder, PROGRAM)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"hosts": []},
        {"hosts": ["algo-1"]},
        {"current_host": "algo-9", "hosts": ["algo-1"]},
        {"hosts": "algo-1", "current_host": "algo-1"},
    ],
)
def test_hosts_that_make_no_sense_are_an_error(base, content):
    base.configure("resourceconfig", content)
    with pytest.raises(InvalidPlanError, match=r"resourceconfig.json must name the hosts"):
        read(base.folder, PROGRAM)


def test_no_program_is_an_error_that_names_both_places(base):
    with pytest.raises(
        InvalidPlanError, match=r"sagemaker_program in .*hyperparameters.json, or .* SAGEMAKER_PROGRAM"
    ):
        read_with(base, {})
