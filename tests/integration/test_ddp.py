"""A DDP model trained through `fit`, by every launcher, on one host and on two, and what ends it."""

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from tests.integration.conftest import until

from modelyard import PyTorch
from modelyard.core.errors import JobFailedError
from modelyard.testing.fixtures import processes_of

pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]

SCRIPT = Path(__file__).with_name("scripts") / "ddp.py"
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")

WAYS = {
    "process": None,
    "torchrun": {"torch_distributed": {"enabled": True}},
    "mpirun": {"pytorchddp": {"enabled": True}},
}


def distribution(way, processes):
    if way == "mpirun" and MPIRUN is None:
        pytest.skip("no mpirun is installed")
    if way == "process":
        return None
    ((strategy, options),) = WAYS[way].items()
    return {strategy: {**options, "processes_per_host": processes}}


@pytest.fixture
def job(modelyard_home, monkeypatch):
    """Make an estimator of the DDP script."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def make(way, *, hosts, processes, **hyperparameters):
        return PyTorch(
            SCRIPT,
            instance_count=hosts,
            distribution=distribution(way, processes),
            hyperparameters=hyperparameters,
        )

    return make


def log_of(estimator):
    return "\n".join(estimator.latest_training_job.logs())


def reason_of(estimator):
    with pytest.raises(JobFailedError) as failed:
        estimator.fit(logs=False)
    return failed.value.reason


@pytest.mark.parametrize(
    ("way", "hosts", "processes"),
    [("process", 2, 1), ("torchrun", 1, 2), ("torchrun", 2, 1), ("mpirun", 1, 2), ("mpirun", 2, 1)],
)
def test_all_ranks_end_with_the_same_parameters_and_other_than_at_the_start(job, way, hosts, processes):
    estimator = job(way, hosts=hosts, processes=processes)
    estimator.fit(logs=False)
    with tarfile.open(estimator.model_data.removeprefix("file://")) as archive:
        ranks = [json.load(archive.extractfile(f"rank-{rank}.json")) for rank in (0, 1)]
    assert [(found["rank"], found["world"]) for found in ranks] == [(0, 2), (1, 2)]
    assert ranks[0]["before"] == ranks[1]["before"]
    assert ranks[0]["after"] == ranks[1]["after"]
    assert ranks[0]["after"] != ranks[0]["before"]
    # Each rank's lines are told apart, and are whole.
    whose = "algo-2" if way == "process" else "algo-2 rank 1" if hosts == 2 else "rank 1"
    assert re.search(rf"^\[{whose}\] rank 1 step 3 loss [0-9.]+$", log_of(estimator), re.MULTILINE)


@pytest.mark.parametrize(
    ("way", "hosts", "processes"),
    [("process", 2, 1), ("torchrun", 1, 2), ("torchrun", 2, 1), ("mpirun", 2, 1)],
)
def test_the_first_rank_that_raises_gives_the_reason(job, way, hosts, processes):
    reason = reason_of(job(way, hosts=hosts, processes=processes, **{"fail-rank": 1}))
    assert "ValueError: bad batch 17" in reason
    assert re.search(r"\(ddp\.py, line \d+, in fail\)", reason), reason
    assert ("algo-2" if hosts == 2 else "rank 1 of ddp.py") in reason


@pytest.mark.parametrize(
    ("way", "hosts", "processes"), [("torchrun", 1, 2), ("mpirun", 1, 2), ("mpirun", 2, 1)]
)
def test_a_rank_that_is_killed_is_named_and_takes_all_along(job, modelyard_home, way, hosts, processes):
    estimator = job(way, hosts=hosts, processes=processes, sleep=0.1, steps=100, **{"kill-rank": 1})
    reason = reason_of(estimator)
    assert "rank 1 of ddp.py" in reason
    assert "was killed by SIGKILL (often: out of memory)" in reason
    until(lambda: processes_of(modelyard_home) == [])


def test_training_goes_on_after_a_restart(job, tmp_path, monkeypatch):
    estimator = PyTorch(
        SCRIPT,
        distribution={"torch_distributed": {"processes_per_host": 2, "max_restarts": 1}},
        hyperparameters={"kill-rank": 1, "steps": 6, "fail-step": 3, "checkpoint-dir": str(tmp_path)},
    )
    estimator.fit(logs=False)
    said = log_of(estimator)
    starts = [int(step) for step in re.findall(r"rank 0 of 2 starts at step (\d+)", said)]
    assert starts[0] == 0
    assert len(starts) == 2
    assert starts[1] >= 2, "the restarted ranks go on where the last checkpoint was"
    assert "rank 1 step 5" in said
