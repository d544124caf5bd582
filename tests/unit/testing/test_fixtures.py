"""The fixtures do what they promise, also where a test leaves something behind."""

import os
import subprocess
import sys
import time

import pytest

from modelyard.core.errors import EndpointNotFoundError
from modelyard.core.manager import PluginManager
from modelyard.estimator import PyTorch
from modelyard.model import Model
from modelyard.testing import fixtures


def start(home, code="import time; print(1, flush=True); time.sleep(300)"):
    environ = {**os.environ, "MODELYARD_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_plugins_are_the_built_in_ones_also_where_others_are_installed(plugins, tmp_path, monkeypatch):
    (tmp_path / "third_party.py").write_text("raise SystemExit('it was imported')")
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelyard]\nthird = third_party\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {status.distribution for status in plugins.statuses} == {"modelyard"}
    assert "third" not in {status.plugin for status in PluginManager.discover().statuses}
    program = (
        "from modelyard import PluginManager as P; print({s.distribution for s in P.discover().statuses})"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'modelyard'}\n"


def test_the_home_is_given_to_processes_and_to_backends(modelyard_home, plugins):
    assert os.environ["MODELYARD_HOME"] == str(modelyard_home)
    assert plugins.backends.create("local").home == str(modelyard_home)
    assert not modelyard_home.exists()


def test_processes_of_a_home_are_found_and_those_of_another_are_not(tmp_path, modelyard_home):
    mine, other = start(tmp_path / "mine"), start(tmp_path / "other")
    try:
        assert [process.pid for process in fixtures.processes_of(tmp_path / "mine")] == [mine.pid]
    finally:
        for process in (mine, other):
            process.kill()
            process.communicate()
    assert fixtures.processes_of(tmp_path / "mine") == []


def test_the_process_that_runs_the_tests_is_never_one_of_them(modelyard_home):
    assert os.getpid() not in [process.pid for process in fixtures.processes_of(modelyard_home)]


def test_a_process_that_ends_in_time_is_no_survivor(tmp_path):
    process = start(tmp_path / "mine", "import time; print(1, flush=True); time.sleep(0.3)")
    assert fixtures._survivors(tmp_path / "mine") == []
    process.communicate()


def test_a_process_that_does_not_end_is_a_survivor(tmp_path, monkeypatch):
    monkeypatch.setattr(fixtures, "_SURVIVAL_SECONDS", 0.1)
    process = start(tmp_path / "mine")
    try:
        (survivor,) = fixtures._survivors(tmp_path / "mine")
        assert fixtures._described(survivor).startswith(f"{process.pid} {sys.executable} -c import time")
    finally:
        process.kill()
        process.communicate()


def test_what_still_lives_in_a_home_is_ended(modelyard_home, plugins, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("import time; time.sleep(300)")
    (source / "inference.py").write_text("def model_fn(d): pass\ndef transform_fn(m, b, c, a): return b")
    estimator = PyTorch("train.py", source_dir=source, plugins=plugins)
    estimator.fit(wait=False, job_name="a-job")
    (tmp_path / "model").mkdir()
    model = Model(tmp_path / "model", entry_point="inference.py", source_dir=source, plugins=plugins)
    model.deploy(endpoint_name="an-endpoint", wait=False)
    assert fixtures.processes_of(modelyard_home)
    fixtures._end_all(modelyard_home)
    assert estimator.latest_training_job.describe().status == "Stopped"
    with pytest.raises(EndpointNotFoundError):
        plugins.backends.create("local").endpoint("an-endpoint")
    deadline = time.monotonic() + 30
    while fixtures.processes_of(modelyard_home):
        assert time.monotonic() < deadline
        time.sleep(0.05)
