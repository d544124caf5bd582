"""The in-job program as the first process of a PID namespace, which is what it is in a container."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PATIENCE = 60.0

NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _refusal():
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    tried = subprocess.run(
        [*NAMESPACE, "true"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return f"no PID namespace can be made here: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture(scope="module")
def _permitted():
    if reason := _refusal():
        pytest.skip(reason)


class Container:
    """A job's folder, and the in-job program on it with pid 1."""

    def __init__(self, base):
        self.base = base
        config = base / "input" / "config"
        config.mkdir(parents=True)
        (base / "code").mkdir()
        settings = {"sagemaker_program": json.dumps("train.py")}
        (config / "hyperparameters.json").write_text(json.dumps(settings))
        hosts = {"current_host": "localhost", "hosts": ["localhost"]}
        (config / "resourceconfig.json").write_text(json.dumps(hosts))
        (config / "inputdataconfig.json").write_text("{}")

    def train(self, source):
        (self.base / "code" / "train.py").write_text(textwrap.dedent(source))
        return subprocess.Popen(
            [*NAMESPACE, sys.executable, "-m", "modelyard.training"],
            env={**os.environ, "SAGEMAKER_BASE_DIR": str(self.base)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def container(_permitted, tmp_path):
    return Container(tmp_path / "ml")


def _first_process(unshare):
    """Return the pid, outside, of the namespace's first process."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_script_which_saves_and_whose_code_counts(container, sig):
    with container.train("""
        import os, signal, sys, time

        def stop(*_):
            with open(os.path.join(os.environ["SM_MODEL_DIR"], "saved"), "w") as file:
                file.write("state")
            sys.exit(7)

        signal.signal(signal.SIGTERM, stop)
        print("ready with parent", os.getppid(), flush=True)
        while True:
            time.sleep(0.1)
        """) as job:
        assert job.stdout.readline() == "ready with parent 1\n"
        os.kill(_first_process(job), sig)
        _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode == 7, errors
    assert (container.base / "model" / "saved").read_text() == "state"


def test_a_program_in_a_shell_script_has_its_time_to_save(container):
    with container.train("""
        import os, signal, subprocess, sys, time

        def save(*_):
            time.sleep(1)
            with open(os.path.join(os.environ["SM_MODEL_DIR"], "saved"), "w") as file:
                file.write("state")
            sys.exit()

        if len(sys.argv) == 1:
            os.execl("/bin/sh", "sh", "-c", '"$0" train.py saver; true', sys.executable)
        signal.signal(signal.SIGTERM, save)
        print("ready", flush=True)
        while True:
            time.sleep(0.1)
        """) as job:
        assert job.stdout.readline() == "ready\n"
        os.kill(_first_process(job), signal.SIGTERM)
        _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode == 143, errors
    assert (container.base / "model" / "saved").read_text() == "state"


def test_orphans_are_reaped(container):
    with container.train("""
        import os, subprocess, sys, time

        def is_zombie(pid):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    return stat.read().rpartition(")")[2].split()[0] == "Z"
            except OSError:  # It has been reaped meanwhile.
                return False

        def zombies():
            return [pid for pid in os.listdir("/proc") if pid.isdigit() and is_zombie(pid)]

        for _ in range(5):
            subprocess.run([sys.executable, "-S", "-c", "import os; os.fork()"])
        deadline = time.monotonic() + 30
        while zombies() and time.monotonic() < deadline:
            time.sleep(0.05)
        print(zombies())
        sys.exit(3)
        """) as job:
        output, errors = job.communicate(timeout=PATIENCE)
    assert output == "[]\n", errors
    assert job.returncode == 3


def test_what_the_script_leaves_behind_is_ended(container):
    with container.train("""
        import subprocess, sys
        sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
        subprocess.Popen(sleep, start_new_session=True)
        """) as job:
        _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, errors
