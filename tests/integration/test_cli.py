"""The command line as a user types it: real processes, real jobs, nothing but Python."""

import json
import os
import signal
import subprocess
import sys

import pytest
from tests.integration.conftest import is_running, line_with, until

COMMAND = (sys.executable, "-m", "modelyard")
PATIENCE = 60.0


@pytest.fixture
def modelyard(project, modelyard_home):
    """Run a command to its end."""

    def run(*arguments, status=0, **environ):
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=project,
            env=os.environ | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def start(project, modelyard_home):
    """Start a command; what is still running at the end is killed."""
    started = []

    def popen(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_train_and_look_at_it(modelyard, project):
    fitted = modelyard(
        *("fit", "src/train.py", "--source-dir", "src", "--input", "train=data"),
        *("--hyperparameter", "scale=2", "--job-name", "first"),
    )
    assert "total 6.0" in fitted.stdout.splitlines()
    assert "training job first: Completed" in fitted.stdout
    assert not fitted.stderr

    header, row = modelyard("jobs").stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "STARTED", "DURATION", "HOSTS", "ENTRY", "POINT"]
    assert (row.split()[:2], row.split()[-2:]) == (["first", "Completed"], ["1", "train.py"])

    shown = modelyard("jobs", "show", "first").stdout
    assert "hyperparameters   scale = 2" in shown
    assert "model.tar.gz" in shown
    described = json.loads(modelyard("jobs", "show", "first", "--json").stdout)
    assert described["plan"]["hyperparameters"] == {"scale": 2}
    assert described["created"] < described["ended"]
    assert described["metrics"] == []

    assert "total 6.0" in modelyard("logs", "first").stdout.splitlines()
    assert modelyard("stop", "first").stdout == "training job first has ended already: Completed\n"
    again = modelyard("interrupt", "first", status=1)
    assert again.stderr == "modelyard: training job 'first' has ended already: Completed\n"


def test_a_job_that_fails_says_why_once(modelyard, project):
    (project / "bad.py").write_text('raise ValueError("bad batch 17")')
    failed = modelyard("fit", "bad.py", "--job-name", "bad", status=1)
    assert failed.stderr.count("bad batch 17") == 1
    assert failed.stderr.startswith("modelyard: training job 'bad' failed: ")
    assert "Traceback" not in failed.stderr
    assert "Traceback" in failed.stdout
    row, reason = modelyard("jobs").stdout.splitlines()[1:]
    assert row.split()[:2] == ["bad", "Failed"]
    assert "ValueError: bad batch 17" in reason
    taken = modelyard("fit", "bad.py", "--job-name", "bad", status=1)
    assert "a training job called 'bad' exists" in taken.stderr


def test_programs_read_json_and_people_the_log(modelyard, project):
    done = modelyard("fit", "train.py", "--source-dir", "src", "--input", "data", "--json")
    assert json.loads(done.stdout)["status"] == "Completed"
    assert "total 6.0" in done.stderr.splitlines()
    (project / "bad.py").write_text('raise ValueError("bad batch 17")')
    failed = modelyard("fit", "bad.py", "--json", status=1)
    assert "bad batch 17" in json.loads(failed.stdout)["reason"]


def test_a_quiet_job_is_told_in_two_lines(modelyard):
    done = modelyard("fit", "train.py", "--source-dir", "src", "--input", "data", "-q", "--job-name", "calm")
    state, model = done.stdout.splitlines()
    assert state == "training job calm: Completed"
    assert model.startswith("model: file://")


def test_a_job_that_is_not_waited_for_is_followed_and_stopped(modelyard, start):
    started = modelyard("fit", "sleep.py", "--source-dir", "src", "--no-wait", "--job-name", "long")
    assert started.stdout.splitlines() == [
        "training job long started",
        "follow it with: modelyard logs long --follow",
    ]
    follower = start("logs", "long", "--follow")
    pids = [int(pid) for pid in line_with(follower, "sleeping").split()[-2:]]
    assert "InProgress" in modelyard("jobs").stdout
    stopped = modelyard("stop", "long")
    assert stopped.stdout.splitlines() == ["training job long: stopping", "training job long: Stopped"]
    assert follower.wait(PATIENCE) == 0
    assert not any(map(is_running, pids))


def test_ctrl_c_in_fit_stops_the_job_and_says_so(modelyard, start):
    fit = start("fit", "sleep.py", "--source-dir", "src", "--job-name", "long")
    pids = [int(pid) for pid in line_with(fit, "sleeping").split()[-2:]]
    fit.send_signal(signal.SIGINT)
    out, err = fit.communicate(timeout=PATIENCE)
    assert fit.returncode == 130
    assert not err
    assert out.splitlines()[-2:] == ["training job long: stopping", "training job long: Stopped"]
    assert not any(map(is_running, pids))


def test_ctrl_c_in_logs_leaves_the_job_alone(modelyard, start):
    modelyard("fit", "sleep.py", "--source-dir", "src", "--no-wait", "--job-name", "long")
    follower = start("logs", "long", "-f")
    line_with(follower, "sleeping")
    follower.send_signal(signal.SIGINT)
    assert follower.communicate(timeout=PATIENCE)[1] == ""
    assert follower.returncode == 130
    assert json.loads(modelyard("jobs", "show", "long", "--json").stdout)["status"] == "InProgress"


def test_a_reader_that_leaves_ends_the_command_quietly(modelyard, start, project):
    (project / "talk.py").write_text("for i in range(100_000): print('line', i)")
    modelyard("fit", "talk.py", "-q", "--job-name", "talk")
    logs = start("logs", "talk")
    line_with(logs, "line 0")
    logs.stdout.close()
    assert logs.wait(PATIENCE) == 141
    assert logs.stderr.read() == ""


def test_a_reader_that_leaves_a_fit_is_told_that_the_job_goes_on(modelyard, start, project):
    (project / "tick.py").write_text(
        "import itertools, time\n"
        "for i in itertools.count():\n"
        "    print('tick', i, flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    fit = start("fit", "tick.py", "--job-name", "ticking")
    line_with(fit, "tick 0")
    fit.stdout.close()
    assert fit.wait(PATIENCE) == 141
    assert fit.stderr.read().splitlines() == [
        "modelyard: nobody reads the log of ticking any more; it goes on",
        "follow it with: modelyard logs ticking --follow",
    ]
    assert json.loads(modelyard("jobs", "show", "ticking", "--json").stdout)["status"] == "InProgress"
    modelyard("stop", "ticking")


def test_an_interrupted_job_starts_again_with_its_checkpoints(modelyard, project, modelyard_home):
    (project / "spot.py").write_text(
        "import pathlib, time\n"
        "saved = pathlib.Path.cwd().parent / 'checkpoints' / 'saved'\n"
        "if saved.exists(): raise SystemExit(print('resumed'))\n"
        "saved.write_text('1')\n"
        "print('waiting', flush=True)\n"
        "time.sleep(300)\n"
    )
    modelyard("fit", "spot.py", "--no-wait", "--job-name", "spot")
    until(lambda: "waiting" in modelyard("logs", "spot").stdout)
    assert modelyard("interrupt", "spot").stdout.splitlines() == [
        "training job spot: interrupting; it starts again with its checkpoints",
        "follow it with: modelyard logs spot --follow",
    ]
    assert "resumed" in modelyard("logs", "spot", "--follow").stdout
    assert json.loads(modelyard("jobs", "show", "spot", "--json").stdout)["status"] == "Completed"


def test_the_metrics_of_a_job_are_drawn(modelyard, project):
    (project / "measured.py").write_text(
        "import time\nfor i in range(5):\n    print('loss:', 1 / (1 + i), flush=True)\n    time.sleep(0.02)"
    )
    modelyard("fit", "measured.py", "--job-name", "measured", "--metric", "loss=loss: ([0-9.]+)")
    shown = modelyard("jobs", "show", "measured", PYTHONIOENCODING="utf-8").stdout
    assert "loss  last 0.2  min 0.2  max 1  (5 values)\n    1 ┤⠉" in shown
    assert "  0.2 ┤" in shown
    plain = modelyard("jobs", "show", "measured", PYTHONIOENCODING="ascii").stdout
    assert plain.isascii()
    assert "\n    1 +*" in plain
    measured = json.loads(modelyard("jobs", "show", "measured", "--json").stdout)["metrics"]
    assert [metric["value"] for metric in measured] == pytest.approx([1, 0.5, 1 / 3, 0.25, 0.2])


def test_train_is_the_in_job_program(modelyard, tmp_path):
    base = tmp_path / "ml"
    (base / "code").mkdir(parents=True)
    (base / "code" / "train.py").write_text("print('here'); raise SystemExit(3)")
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps({"sagemaker_program": '"train.py"'}))
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    (config / "inputdataconfig.json").write_text("{}")
    done = modelyard("train", SAGEMAKER_BASE_DIR=str(base), status=3)
    assert "here" in done.stdout.splitlines()
    assert "exited with code 3" in (base / "output" / "failure").read_text()


def test_a_log_may_hold_what_the_terminal_cannot_show(modelyard, project):
    (project / "words.py").write_text("print('größe ⠋')")
    modelyard("fit", "words.py", "-q", "--job-name", "words", PYTHONUTF8="1")
    assert "gr??e ?" in modelyard("logs", "words", PYTHONIOENCODING="ascii").stdout.splitlines()
