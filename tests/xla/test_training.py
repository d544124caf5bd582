"""Training jobs on XLA's CPU runtime, through `fit`; and what Neuron's runtime would be told."""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from modelyard import PluginManager, PyTorch
from modelyard.core.errors import JobFailedError

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]

LOADS_AND_STEPS = """
import torch, torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.distributed.parallel_loader as pl

torch.manual_seed(0)
device = torch_xla.device()
model = torch.nn.Linear(3, 1).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batches = torch.utils.data.DataLoader(torch.randn(960, 3), batch_size=16)
for x in pl.MpDeviceLoader(batches, device):
    optimizer.zero_grad()
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    xm.optimizer_step(optimizer)
print(f"loss {loss.item():.6f} on {x.device}")
"""

SPMD = """
import numpy as np
import torch, torch_xla
import torch_xla.distributed.spmd as xs
import torch_xla.runtime as xr

xr.use_spmd()
devices = xr.global_runtime_device_count()
mesh = xs.Mesh(np.arange(devices), (devices,), ("data",))
torch.manual_seed(0)
model = torch.nn.Linear(3, 1).to(torch_xla.device())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(60):
    x = torch.randn(16, 3).to(torch_xla.device())
    xs.mark_sharding(x, mesh, ("data", None))
    optimizer.zero_grad()
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
    torch_xla.sync()
print(f"{devices} devices, sharding {torch_xla._XLAC._get_xla_sharding_spec(x)}, loss {loss.item():.6f}")
"""

NEURON = """
import json, os
from pathlib import Path

from torch_xla._internal import neuron

before = set(os.environ.items())
neuron.configure_pjrt_environment()
told = {name: value for name, value in os.environ.items() if (name, value) not in before}
told["PJRT_DEVICE"] = os.environ["PJRT_DEVICE"]
told["MASTER_ADDR"] = os.environ["MASTER_ADDR"]
Path(os.environ["SM_MODEL_DIR"], f"{os.environ['RANK']}.json").write_text(json.dumps(told))
"""


@pytest.fixture
def job(modelyard_home, tmp_path):
    """Make an estimator of a script."""

    def make(script, **keywords):
        (tmp_path / "train.py").write_text(script)
        return PyTorch(tmp_path / "train.py", hardware="trainium", **keywords)

    return make


def log_of(estimator):
    return "\n".join(estimator.latest_training_job.logs())


# -- one process -------------------------------------------------------------------------------


def test_the_digits_are_trained_by_torchrun_and_served(modelyard_home):
    done = subprocess.run(
        [sys.executable, ROOT / "examples/digits/run.py", "--hardware", "trainium"],
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert float(re.match(r"quickstart: accuracy (\d\.\d\d) on 360 held-out digits", last)[1]) >= 0.95
    (trained,) = PluginManager.builtin().backends.create("local").jobs()
    assert (trained.plan.hardware.name, trained.plan.launcher.name) == ("trainium", "torchrun")
    # The script itself compares the group's size with torchrun's.
    assert "rank 0 of 1 trains on xla:0" in done.stdout


def test_a_script_loads_and_steps_by_torch_xla(job):
    estimator = job(LOADS_AND_STEPS)
    estimator.fit(logs=False)
    (loss,) = re.findall(r"loss (\S+) on xla:0", log_of(estimator))
    assert float(loss) < 0.01


def test_one_process_trains_on_several_devices(job):
    estimator = job(SPMD, environment={"CPU_NUM_DEVICES": "4"})
    estimator.fit(logs=False)
    found = re.search(r"4 devices, sharding \{devices=\[4,1\]0,1,2,3\}, loss (\S+)", log_of(estimator))
    assert found, log_of(estimator)
    assert float(found[1]) < 0.01


# -- several processes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "distribution"),
    [(1, {"torchrun": {"processes_per_host": 2}}), (2, {"torchrun": {}}), (2, None)],
)
def test_several_processes_are_refused_since_each_would_be_a_world_of_its_own(job, hosts, distribution):
    estimator = job("print('the script runs')", instance_count=hosts, distribution=distribution)
    with pytest.raises(JobFailedError, match="2 processes would train 2 models"):
        estimator.fit(logs=False)
    assert "CPU_NUM_DEVICES with SPMD" in log_of(estimator)
    assert "the script runs" not in log_of(estimator)


def test_the_digits_script_sees_by_itself_that_it_is_in_a_world_of_its_own(tmp_path):
    digits = ROOT / "examples/digits"
    told = {
        "SM_NUM_NEURONS": "2",
        "SM_MODEL_DIR": str(tmp_path),
        "SM_CHANNEL_TRAIN": str(digits / "data/train"),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, digits / "src/train.py"],
        env={**os.environ, **told, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "RuntimeError: 2 processes are a world of 1" in done.stderr
    assert not (tmp_path / "model.pth").exists()


def test_neurons_runtime_is_told_what_torchrun_says(job, monkeypatch):
    # Without a Neuron driver here this is as far as it goes: torch_xla's own mapping, in real ranks.
    monkeypatch.delenv("PJRT_DEVICE")
    estimator = job(NEURON, instance_count=2, distribution={"torchrun": {"processes_per_host": 2}})
    estimator.fit(logs=False)
    with tarfile.open(estimator.model_data.removeprefix("file://")) as archive:
        ranks = [json.load(archive.extractfile(f"{rank}.json")) for rank in range(4)]
    for rank, told in enumerate(ranks):
        assert told == {
            "PJRT_DEVICE": "NEURON",
            "MASTER_ADDR": ranks[0]["MASTER_ADDR"],
            "NEURON_RT_ROOT_COMM_ID": f"{ranks[0]['MASTER_ADDR']}:62182",
            "NEURON_PJRT_WORLD_SIZE": "4",
            "NEURON_PJRT_PROCESS_INDEX": str(rank),
            "NEURON_RT_VISIBLE_CORES": str(rank % 2),
            "PJRT_LOCAL_PROCESS_COUNT": "2",
            "PJRT_LOCAL_PROCESS_RANK": str(rank % 2),
        }
