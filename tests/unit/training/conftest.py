import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import count

import pytest

from modelyard.training.supervisor import Outcome
from modelyard.training.tails import Said

PATIENCE = 60.0
"""Seconds that a wait may take before its test fails: for slow machines, never used up on success."""


class Base:
    """A job's base folder, made by hand as SageMaker makes it."""

    def __init__(self, folder):
        self.folder = folder
        self.config = folder / "input" / "config"
        self.code = folder / "code"
        self.output = folder / "output"
        for made in (self.config, self.code):
            made.mkdir(parents=True)

    def configure(self, name, content):
        text = content if isinstance(content, str) else json.dumps(content)
        (self.config / f"{name}.json").write_text(text)

    def hyperparameters(self, **values):
        """Write the values as SDK v2 encodes them: JSON inside of JSON."""
        self.configure("hyperparameters", {key: json.dumps(value) for key, value in values.items()})

    def script(self, source, name="train.py"):
        path = self.code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    @property
    def failure(self):
        return (self.output / "failure").read_text()


@pytest.fixture
def base(tmp_path):
    return Base(tmp_path / "ml")


class Process:
    """A Python program that was started with its output going to files, and is waited for with patience."""

    def __init__(self, argv, folder, **options):
        self.out, self.err = folder / "stdout", folder / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.popen = subprocess.Popen(argv, stdout=out, stderr=err, **options)

    @property
    def stdout(self):
        return self.out.read_text("utf-8", "replace")

    @property
    def stderr(self):
        return self.err.read_text("utf-8", "replace")

    def terminate(self):
        self.popen.send_signal(signal.SIGTERM)

    def wait(self):
        return self.popen.wait(PATIENCE)

    def wait_for(self, text):
        """Wait until whole lines of the program's standard output hold `text`, and return these.

        An unbuffered `print` writes the end of its line apart.
        """
        return eventually(lambda: text in (lines := self._lines) and lines, f"{text!r} in {self.stderr}")

    @property
    def _lines(self):
        before, newline, _ = self.stdout.rpartition("\n")
        return before + newline


def eventually(condition, what):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"never came true: {what}")


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually


@pytest.fixture
def start(tmp_path):
    """Start ``python *arguments`` and end it with the test, whatever becomes of it."""
    started = []

    def make(*arguments, **options):
        folder = tmp_path / f"process-{len(started)}"
        folder.mkdir()
        process = Process([sys.executable, *arguments], folder, **options)
        started.append(process)
        return process

    yield make
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.wait()


@pytest.fixture
def start_job(start, base):
    """Start the in-job program on the base folder."""

    def make(**environ):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SAGEMAKER_", "SM_"))}
        return start(
            "-m", "modelyard.training", env=kept | {"SAGEMAKER_BASE_DIR": str(base.folder)} | environ
        )

    return make


DRIVER = """
import attrs, json, os, sys
from pathlib import Path
from modelyard.core.contracts import Command
from modelyard.core.plans import MetricDefinition
from modelyard.training import supervisor
from modelyard.training.streams import RelaySettings

asked = json.loads(sys.argv[1])
outcome = Path(asked["outcome"])
relay = asked["relay"]
if "metrics" in relay:
    relay["metrics"] = tuple(MetricDefinition(*metric) for metric in relay["metrics"])
    relay["metrics_file"] = Path(relay["metrics_file"])
command = Command(tuple(asked["argv"]), {"FROM": "command"}, outcome.parent, asked["ranks"])
found = supervisor.run(command, os.environ, grace=asked["grace"], relay=RelaySettings(**relay))
outcome.write_text(json.dumps(attrs.asdict(found)))
"""


class Supervised:
    """A supervisor in a process of its own: it takes over signals and reaps children."""

    def __init__(self, process, outcome):
        self.process = process
        self._outcome = outcome

    @property
    def outcome(self):
        assert self.process.wait() == 0, self.process.stderr
        told = json.loads(self._outcome.read_text())
        stderr, ranks = _said(told.pop("stderr")), tuple(map(_said, told.pop("ranks")))
        return Outcome(**told, stderr=stderr, ranks=ranks)


def _said(told):
    return Said(tuple((moment, text) for moment, text in told.pop("pieces")), **told)


@pytest.fixture
def supervise(start, tmp_path):
    """Run Python source (or an argv) under a supervisor; `before` is run in its process first."""
    numbers = count()

    def make(source, *, before="", grace=30.0, ranks=0, relay=None, **options):
        argv = [sys.executable, "-c", source] if isinstance(source, str) else source
        folder = tmp_path / f"supervised-{next(numbers)}"
        folder.mkdir()
        asked = {"argv": argv, "grace": grace, "ranks": ranks, "relay": relay or {}}
        asked["outcome"] = str(folder / "outcome.json")
        process = start("-c", before + "\n" + DRIVER, json.dumps(asked), **options)
        return Supervised(process, folder / "outcome.json")

    return make
