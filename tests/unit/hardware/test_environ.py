"""Every variable that each kind of hardware sets, and where."""

import pytest

from modelyard.core.contracts import Host
from modelyard.core.manager import PluginManager
from modelyard.hardware import detection, process_group

GLOO = {"GLOO_SOCKET_IFNAME": "ens5"}
NCCL = {"NCCL_SOCKET_IFNAME": "ens5"}
EFA = {"FI_PROVIDER": "efa", "FI_EFA_FORK_SAFE": "1", "FI_EFA_USE_DEVICE_RDMA": "1"}

# On every host, on each of several, and on these where AWS's adapter is.
SETS = {
    "cpu": ({}, GLOO, {}),
    "cuda": ({"NCCL_DEBUG": "WARN"}, {**GLOO, **NCCL}, EFA),
    "elastic_inference": ({}, GLOO, {}),
    "trainium": ({"PJRT_DEVICE": "NEURON"}, GLOO, EFA),
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.cuda if name == "cuda" else ()) for name in SETS]
)


@pytest.fixture
def cls(name):
    return PluginManager.builtin().hardware.get(name).cls


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    """Have 8 CPUs, and no adapter of AWS."""
    monkeypatch.setattr(detection, "cores", lambda: 8)
    monkeypatch.setattr(process_group, "_adapters", lambda devices: iter(()))


def hosts(number, processes=1):
    names = tuple(f"algo-{index + 1}" for index in range(number))
    return Host(names[-1], names, "ens5", processes=processes)


@EACH
@pytest.mark.parametrize("processes", [1, 4])
def test_on_one_host(cls, name, processes):
    threads = {"OMP_NUM_THREADS": "2"} if processes == 4 else {}
    assert cls().environ(hosts(1, processes)) == {**SETS[name][0], **threads}


@EACH
@pytest.mark.parametrize("processes", [1, 4])
def test_on_each_of_two_hosts(cls, name, processes):
    threads = {"OMP_NUM_THREADS": "2"} if processes == 4 else {}
    always, several, _ = SETS[name]
    assert cls().environ(hosts(2, processes)) == {**always, **several, **threads}


@EACH
def test_where_awss_adapter_is(cls, name, monkeypatch):
    monkeypatch.setattr(process_group, "_adapters", lambda devices: iter([0xEFA1]))
    always, several, adapter = SETS[name]
    assert cls().environ(hosts(2)) == {**always, **several, **adapter}
    assert cls().environ(hosts(1)) == always


WORKERS = {
    "elastic_inference": {"SAGEMAKER_INFERENCE_ACCELERATOR_PRESENT": "true"},
    "trainium": {"PJRT_DEVICE": "NEURON", "NEURON_RT_VISIBLE_CORES": "1"},
}


@EACH
def test_in_the_workers_of_an_endpoint(cls, name, monkeypatch):
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    monkeypatch.setattr(detection, "core_numbers", lambda: (0, 1))
    assert getattr(cls(), "worker_environ", lambda index: {})(1) == WORKERS.get(name, {})
