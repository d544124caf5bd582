"""A project as a user has it, in pure Python, and clients that can be killed."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

TRAIN = """
import argparse, json, os

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    args, _ = parser.parse_known_args()
    with open(os.path.join(args.train, "numbers.txt")) as file:
        total = sum(float(line) for line in file)
    print("total", total)
    with open(os.path.join(args.model_dir, "weights.json"), "w") as file:
        json.dump({"factor": total * args.scale}, file)
"""

INFERENCE = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "weights.json")) as file:
        return json.load(file)["factor"]

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(values, model):
    return [value * model for value in values]

def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
"""

SLEEP = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("sleeping", os.getpid(), child.pid, flush=True)
time.sleep(300)
"""

JSON = {"content_type": "application/json", "accept": "application/json"}


@pytest.fixture
def project(tmp_path):
    """A folder with ``src/{train,inference,sleep}.py`` and ``data/numbers.txt``."""
    source, data = tmp_path / "src", tmp_path / "data"
    source.mkdir()
    data.mkdir()
    for name, text in (("train", TRAIN), ("inference", INFERENCE), ("sleep", SLEEP)):
        (source / f"{name}.py").write_text(text)
    (data / "numbers.txt").write_text("1\n2\n3\n")
    return tmp_path


@pytest.fixture
def client(project, modelyard_home):
    """Start a Python program as a user would; what is still running at the end is killed."""
    started = []

    def start(code, **environ):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=project,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition, seconds=60.0):
    """Return the first true value of `condition()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"{condition} was not true within {seconds} s")


def line_with(process, text):
    """Return the first line of a client's output that holds `text`."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line.strip()
    pytest.fail(f"{text!r} is not in the output:\n{''.join(seen)}")


def is_running(pid):
    """Tell whether a process lives and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # The latter where it goes between open and read.
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
