"""``modelyard fit``: from options to a plan."""

import pytest

from modelyard.cli import main
from modelyard.core.plans import InputMode, TrainingPlan


@pytest.fixture
def plan_of(plugins, capsys):
    """Return the plan that a command line makes."""

    def plan(*arguments):
        assert main(["fit", *arguments, "--dry-run", "--json"]) == 0
        out, err = capsys.readouterr()
        assert not err
        return TrainingPlan.from_json(out)

    return plan


@pytest.fixture
def refused(plugins, capsys):
    """Return what is said about a command line that cannot be."""

    def refuse(*arguments):
        with pytest.raises(SystemExit) as raised:
            main(["fit", *arguments])
        assert raised.value.code == 2
        return capsys.readouterr().err

    return refuse


def test_a_script_alone_is_enough(plan_of):
    plan = plan_of("train.py")
    assert plan.source.program == "train.py"
    assert plan.job_name.startswith("train-20")
    assert (plan.backend.name, plan.launcher.name) == ("local", "process")
    assert (plan.resources.instance_type, plan.resources.instance_count) == ("local", 1)


def test_what_is_said_is_in_the_plan(plan_of, tmp_path):
    plan = plan_of(
        "train.py",
        *("--source-dir", str(tmp_path), "--dependency", "a.py", "--dependency", "b.py"),
        *("-e", "MODE=fast=1", "--environment", "DEBUG=1"),
        *("--metric", "train:loss=loss: ([0-9.]+)", "--metric", "x=x=(.+)"),
        *("--max-run", "60", "--checkpoints", "s3://bucket/checkpoints", "--output-path", "s3://bucket/out"),
        *("--job-name", "mine", "--instance-count", "2", "--instance-type", "local", "--backend", "local"),
    )
    assert plan.job_name == "mine"
    assert (plan.source.source_dir, plan.source.dependencies) == (str(tmp_path), ("a.py", "b.py"))
    assert dict(plan.environment) == {"MODE": "fast=1", "DEBUG": "1"}
    assert [(m.name, m.regex) for m in plan.metrics] == [("train:loss", "loss: ([0-9.]+)"), ("x", "x=(.+)")]
    assert (plan.max_run, plan.checkpoint_uri) == (60.0, "s3://bucket/checkpoints")
    assert (plan.output_path, plan.resources.instance_count) == ("s3://bucket/out", 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("", ""),
        ("adam", "adam"),
        ("01", "01"),
        ("a=b", "a=b"),
        ('"3"', "3"),
        ("[1, 2]", (1, 2)),
        ('{"a": 1}', {"a": 1}),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("größe", "größe"),
    ],
)
def test_a_hyperparameter_is_json_where_it_can_be_and_else_text(plan_of, text, value):
    found = plan_of("train.py", "-H", f"name={text}").hyperparameters["name"]
    assert found == value
    assert type(found) is type(value) or isinstance(value, dict)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("train=data", {"train": "data"}),
        ("data", {"train": "data", "training": "data"}),
        ("a-b.c_1=data/x=1", {"a-b.c_1": "data/x=1"}),
        ("data/x=1", {"train": "data/x=1", "training": "data/x=1"}),
        ("./x=1", {"train": "x=1", "training": "x=1"}),
    ],
)
def test_an_input_is_a_channel_and_a_place(plan_of, tmp_path, monkeypatch, text, channels):
    monkeypatch.chdir(tmp_path)
    plan = plan_of("train.py", "--input", text)
    assert {c.name: c.uri for c in plan.channels} == {
        name: (tmp_path / place).as_uri() for name, place in channels.items()
    }


def test_an_input_may_be_a_uri(plan_of):
    plan = plan_of("train.py", "--input", "s3://bucket/key=1", "--input", "test=s3://bucket/test")
    assert {c.name: c.uri for c in plan.channels} == {
        "train": "s3://bucket/key=1",
        "training": "s3://bucket/key=1",
        "test": "s3://bucket/test",
    }


@pytest.mark.parametrize("mode", list(InputMode))
def test_every_input_mode_can_be_asked_for(plan_of, mode):
    plan = plan_of("train.py", "--input", "train=data", "--input-mode", mode.value)
    assert [c.input_mode for c in plan.channels] == [mode]


def test_a_distribution_has_options(plan_of):
    plan = plan_of("train.py", "--distribution", "torchrun", "--distribution-option", "processes_per_host=2")
    assert (plan.launcher.name, dict(plan.launcher.options)) == ("torchrun", {"processes_per_host": 2})


def test_a_launcher_has_options(plan_of):
    plan = plan_of("train.py", "--launcher", "process", "--launcher-option", "profile=drivers")
    assert (plan.launcher.name, dict(plan.launcher.options)) == ("process", {"profile": "drivers"})


def test_hardware_has_options(plan_of):
    plan = plan_of("train.py", "--hardware", "trainium", "--hardware-option", "parallel_compile=true")
    assert (plan.hardware.name, dict(plan.hardware.options)) == ("trainium", {"parallel_compile": True})


@pytest.mark.parametrize(
    "arguments", [("-m", "package.train"), ("--module=package.train",), ("-m package.train",)]
)
def test_a_module_in_place_of_a_script(plan_of, tmp_path, arguments):
    plan = plan_of(*arguments, "--source-dir", str(tmp_path))
    assert plan.source.entry_point == "-m package.train"
    assert plan.job_name.startswith("package-train-20")


@pytest.mark.parametrize("script", ["train.py", "src/train.py", "./src/train.py"])
def test_the_script_of_a_source_dir_may_be_given_as_a_shell_completes_it(
    plan_of, tmp_path, monkeypatch, script
):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    assert plan_of(script, "--source-dir", "src").source.program == "train.py"


def test_the_script_inside_the_source_dir_wins_over_one_from_here(plan_of, tmp_path, monkeypatch):
    (tmp_path / "src" / "src").mkdir(parents=True)
    (tmp_path / "src" / "train.py").touch()
    (tmp_path / "src" / "src" / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    assert plan_of("src/train.py", "--source-dir", "src").source.program == "src/train.py"


def test_a_dry_run_is_the_plan_for_people_without_secrets(plugins, capsys, modelyard_home):
    assert main(["fit", "train.py", "--job-name", "dry", "-e", "MY_TOKEN=hunter2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("training plan dry\n  source            entry_point=train.py\n")
    assert "MY_TOKEN" in out
    assert "hunter2" not in out
    assert not modelyard_home.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a training script, or a module with -m"),
        (("train.py", "-m", "train"), "give a training script, or a module with -m"),
        (("train.py", "-H", "epochs"), "-H/--hyperparameter: 'epochs' is not NAME=VALUE"),
        (("train.py", "-H", "=3"), "-H/--hyperparameter: '=3' is not NAME=VALUE"),
        (("train.py", "-H", "a=1", "-H", "a=2"), "-H/--hyperparameter: 'a' is given twice"),
        (("train.py", "--input", "x", "--input", "train=y"), "--input: 'train' is given twice"),
        (("train.py", "--input", "train="), "--input: 'train=' has no path; it is [NAME=]PATH"),
        (("train.py", "--input", ""), "--input: '' has no path"),
        (("train.py", "--launcher-option", "a=1"), "is for a --launcher, as --launcher process"),
        (("train.py", "--hardware-option", "a=1"), "is for a --hardware, as --hardware cuda"),
        (
            ("train.py", "--launcher", "process", "--distribution", "mpi"),
            "--distribution and --launcher say the same",
        ),
        (("train.py", "--max-run", "soon"), "--max-run: invalid float value: 'soon'"),
        (("train.py", "--input-mode", "Fast"), "--input-mode: invalid choice: 'Fast'"),
        (("train.py", "--distribution-option", "a=1"), "is for a --distribution, as --distribution torchrun"),
        (
            ("train.py", "--epochs", "3"),
            "no option --epochs; an argument of the script is given as --hyperparameter epochs=VALUE",
        ),
        (("train.py", "--instance-cnt=3"), "no option --instance-cnt; did you mean --instance-count?"),
    ],
)
def test_wrong_usage_says_what_to_do(refused, arguments, said):
    assert said in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--instance-type", "locl"), "did you mean 'local'?"),
        (("--distribution", "torchrn"), "did you mean 'torchrun'?"),
        (("--launcher", "torchrn"), "did you mean 'torchrun'?"),
        (("--launcher", "process", "--launcher-option", "profil=x"), "did you mean 'profile'?"),
        (("--metric", "loss=loss"), "put the number into a group"),
        (("--max-run", "-1"), "max_run is a number of seconds above 0"),
        (("--job-name", "my job"), "'my job' is not a valid name"),
        (("--backend", "lokal"), "did you mean 'local'?"),
    ],
)
def test_what_the_plan_refuses_is_one_message(plugins, capsys, arguments, said):
    assert main(["fit", "train.py", *arguments, "--dry-run"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("modelyard: ")
    assert said in err
