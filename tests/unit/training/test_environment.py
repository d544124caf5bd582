import json
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidPlanError
from modelyard.core.layout import JobLayout
from modelyard.training.environment import read

PROGRAM = {"SAGEMAKER_PROGRAM": "train.py"}


def read_with(base, environ=PROGRAM, **hyperparameters):
    base.hyperparameters(**hyperparameters)
    return read(base.folder, environ)


# -- hyperparameters ---------------------------------------------------------------------------


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
        ("[" * 100_000, "[" * 100_000),
        (5, 5),
        (None, None),
        ([1], [1]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_hyperparameter_is_decoded_as_json_where_it_is_json(base, raw, decoded):
    base.configure("hyperparameters", {"x": raw})
    found = read(base.folder, PROGRAM).hyperparameters["x"]
    assert found == decoded
    assert type(found) is type(decoded)


def test_nan_is_decoded_as_python_does(base):
    base.configure("hyperparameters", {"x": "NaN"})
    found = read(base.folder, PROGRAM).hyperparameters["x"]
    assert isinstance(found, float)
    assert found != found  # noqa: PLR0124 - NaN is what is not equal to itself


def test_hyperparameters_keep_the_order_of_the_file(base):
    assert list(read_with(base, z=1, a=2, m=3).hyperparameters) == ["z", "a", "m"]


RESERVED = {
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


def test_sagemakers_own_hyperparameters_are_not_the_users(base):
    framework = {"sagemaker_mpi_enabled": True, "sagemaker_anything": {"a": 1}}
    found = read_with(base, {}, **RESERVED, **framework, lr=0.1, sagemaker="mine")
    assert found.hyperparameters == {"lr": 0.1, "sagemaker": "mine"}
    assert found.settings == RESERVED | framework
    assert found.framework_parameters == framework
    assert found.log_level == 10


def test_the_log_level_is_that_of_info_where_nobody_says(base):
    assert read_with(base, {**PROGRAM, "SAGEMAKER_CONTAINER_LOG_LEVEL": "10"}).log_level == 20


# -- the process environment -------------------------------------------------------------------


def test_the_environments_program_wins(base):
    assert read_with(base, sagemaker_program="other.py").program == "train.py"
    assert read_with(base, {}, sagemaker_program="other.py").program == "other.py"
    assert read_with(base, {"SAGEMAKER_PROGRAM": ""}, sagemaker_program="other.py").program == "other.py"


def test_a_program_that_looks_like_a_number_is_a_name(base):
    assert read_with(base, {}, sagemaker_program=7).program == "7"


def test_no_program_is_an_error_that_names_both_places(base):
    with pytest.raises(
        InvalidPlanError, match=r"sagemaker_program in .*hyperparameters.json, or .* SAGEMAKER_PROGRAM"
    ):
        read_with(base, {})


def test_the_environments_submit_directory_wins(base):
    told = {**PROGRAM, "SAGEMAKER_SUBMIT_DIRECTORY": "s3://b/x.tar.gz"}
    given = {"sagemaker_submit_directory": "s3://b/y.tar.gz"}
    assert read_with(base, told, **given).submit_directory == "s3://b/x.tar.gz"
    assert read_with(base, **given).submit_directory == "s3://b/y.tar.gz"
    assert read_with(base).submit_directory == str(base.code)


@pytest.mark.parametrize(
    ("environ", "setting", "region"),
    [
        ({}, {}, ""),
        ({"AWS_DEFAULT_REGION": "c"}, {}, "c"),
        ({"AWS_DEFAULT_REGION": "c", "AWS_REGION": "b"}, {}, "b"),
        ({"AWS_REGION": "b", "SAGEMAKER_REGION": "a"}, {}, "a"),
        ({"AWS_REGION": "b", "SAGEMAKER_REGION": ""}, {}, "b"),
        ({"AWS_REGION": "b", "SAGEMAKER_REGION": "a"}, {"sagemaker_region": "told"}, "told"),
    ],
)
def test_the_region_is_the_clients_else_that_of_the_process(base, environ, setting, region):
    assert read_with(base, PROGRAM | environ, **setting).region == region


def test_what_only_the_process_says(base):
    silent = read_with(base)
    assert (silent.job_name, silent.framework_module, silent.mp_parameters) == (None, None, None)
    told = read_with(
        base,
        PROGRAM
        | {
            "TRAINING_JOB_NAME": "a",
            "SAGEMAKER_TRAINING_MODULE": "frame.work:main",
            "SM_HP_MP_PARAMETERS": "{}",
        },
    )
    assert (told.job_name, told.framework_module, told.mp_parameters) == ("a", "frame.work:main", "{}")


def test_sagemakers_launch_tools_are_found_on_the_path_if_they_can_be_run(base, tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
    (full / "smddprun").touch(mode=0o755)
    (full / "smddpmprun").touch(mode=0o644)
    assert read_with(base, PROGRAM | {"PATH": f"{empty}::{full}"}).launch_tools == {"smddprun"}
    assert read_with(base, PROGRAM | {"PATH": str(empty)}).launch_tools == set()
    assert read_with(base).launch_tools == set()


def test_an_empty_entry_of_the_path_is_not_the_working_directory(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smddprun").touch(mode=0o755)
    assert read_with(base, PROGRAM | {"PATH": ":"}).launch_tools == set()


# -- the files ---------------------------------------------------------------------------------


def test_defaults_where_there_are_no_files(tmp_path):
    found = read(tmp_path / "nowhere", PROGRAM)
    assert found.hyperparameters == found.channels == found.settings == found.distribution == {}
    assert (found.host.name, found.host.names, found.host.rank) == ("algo-1", ("algo-1",), 0)
    assert found.instance_type == "local"
    assert found.submit_directory == str(tmp_path / "nowhere" / "code")


def test_reading_changes_nothing(base):
    base.hyperparameters(lr=0.1)
    before = sorted(base.folder.rglob("*"))
    read(base.folder, PROGRAM)
    assert sorted(base.folder.rglob("*")) == before


def test_a_relative_base_is_made_absolute_because_the_script_runs_elsewhere(base, monkeypatch):
    monkeypatch.chdir(base.folder.parent)
    assert read(Path(base.folder.name), PROGRAM).layout == JobLayout(base.folder)


def test_the_distribution_that_sdk_v3_sends_along(base):
    folder = base.folder / "input" / "data" / "sm_drivers"
    folder.mkdir(parents=True)
    (folder / "distributed.json").write_text(json.dumps({"process_count_per_node": 2}))
    assert read_with(base).distribution == {"process_count_per_node": 2}


@pytest.mark.parametrize("name", ["hyperparameters", "resourceconfig", "inputdataconfig"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON: .*write a JSON object, or remove it"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "must hold a JSON object, not a list; {} is one"),
        ("null", "a JSON object, not a NoneType"),
        ("\xff", "is not JSON"),
    ],
    ids=lambda value: value[:12],
)
def test_a_broken_file_is_named(base, name, content, said):
    (base.config / f"{name}.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidPlanError, match=rf"{name}.json.*{said}"):
        read(base.folder, PROGRAM)
