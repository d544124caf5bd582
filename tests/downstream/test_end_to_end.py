"""What four distributions bring, merely installed, to scripts and a client that know none of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from modelyard import PluginManager, PyTorch
from modelyard.cli import main
from modelyard.core.errors import JobFailedError

pytest_plugins = ["modelyard.testing.fixtures"]

SCRIPTS = Path(__file__).with_name("scripts")
ROWS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], "float32")
HEIGHTS = np.array([[1.5], [-1.5], [3.5], [2.5]], "float32")
MSGPACK, ARROW = "application/msgpack", "application/vnd.apache.arrow.stream"


@pytest.fixture(autouse=True)
def _machine(modelyard_home, monkeypatch):
    monkeypatch.setenv("SIMULATED_DEVICES", "2")


def estimator(**options):
    options = {"instance_type": "local_simulated", "distribution": {"accelerate": {}}, **options}
    hyperparameters = {"backend": "simccl", **options.pop("hyperparameters", {})}
    return PyTorch("train.py", source_dir=SCRIPTS, hyperparameters=hyperparameters, **options)


def test_they_are_found_where_they_are_installed():
    theirs = [status for status in PluginManager.discover().statuses if status.distribution != "modelyard"]
    assert [status.plugin for status in theirs] == ["accelerate", "arrow", "msgpack", "simulated"]
    assert {(status.state, status.error) for status in theirs} == {("active", "")}


def test_a_job_and_an_endpoint_use_all_four(tmp_path, capsys):
    trained = estimator(hyperparameters={"title": "$$ ${local_rank}"})
    plan = trained.plan()
    assert (plan.hardware.name, plan.launcher.name, plan.backend.name) == ("simulated", "accelerate", "local")
    trained.fit(logs=False)
    lines = list(trained.latest_training_job.logs())
    for rank in (0, 1):
        assert f"[rank {rank}] $$ ${{local_rank}}: process {rank} of 2 by simccl, loss 0.0000" in lines
    with trained.deploy(1, "local_simulated", entry_point="inference.py") as predictor:
        answer = predictor.predict(ROWS, content_type=MSGPACK, accept=ARROW)
        listed = predictor.predict(ROWS.tolist(), content_type=MSGPACK, accept=MSGPACK)
        rows = tmp_path / "rows.msgpack"
        rows.write_bytes(PluginManager.discover().codecs.create("msgpack").encode(ROWS))
        capsys.readouterr()  # What became of the job and of the endpoint.
        assert main(["predict", predictor.endpoint_name, str(rows)]) == 0
        said = capsys.readouterr().out
    np.testing.assert_allclose(json.loads(said), HEIGHTS, atol=1e-3)
    assert isinstance(answer, np.ndarray)
    np.testing.assert_allclose(answer, HEIGHTS, atol=1e-3)
    np.testing.assert_allclose(listed, HEIGHTS, atol=1e-3)


def test_hosts_meet():
    trained = estimator(instance_count=2, distribution={"accelerate": {"processes_per_host": 1}})
    trained.fit(logs=False)
    lines = list(trained.latest_training_job.logs())
    for host, rank in (("algo-1", 0), ("algo-2", 1)):
        assert f"[{host} rank {rank}] plane: process {rank} of 2 by simccl, loss 0.0000" in lines


def test_the_rank_that_failed_is_named():
    with pytest.raises(JobFailedError, match="rank 1.*this share of the points is empty"):
        estimator(hyperparameters={"failing-rank": 1}).fit(logs=False)
