"""What the processes of a job are told so that they find each other, and do not hinder each other."""

import pytest

from modelyard.core.contracts import Host
from modelyard.hardware import detection, process_group

ONE = Host("algo-1", ("algo-1",))
TWO = Host("algo-2", ("algo-1", "algo-2"), "ens5")
AMAZON, MELLANOX = "0x1d0f", "0x15b3"


@pytest.fixture
def adapters(tmp_path):
    """Make a folder like ``/sys/class/infiniband``, with devices of these vendors and kinds."""

    def make(*devices):
        for number, (vendor, kind) in enumerate(devices):
            folder = tmp_path / f"rdmap{number}" / "device"
            folder.mkdir(parents=True)
            for name, text in (("vendor", vendor), ("device", kind)):
                if text is not None:
                    (folder / name).write_bytes(text.encode("latin-1"))
        return tmp_path

    return make


FABRIC = {"FI_PROVIDER": "efa", "FI_EFA_FORK_SAFE": "1"}
REMOTE = {**FABRIC, "FI_EFA_USE_DEVICE_RDMA": "1"}


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ([(AMAZON, "0xefa0\n")], FABRIC),
        ([(AMAZON + "\n", "0xefa1\n")], REMOTE),
        ([(AMAZON, "0xefa2")] * 4, REMOTE),
        ([(AMAZON, "0xefa1"), (AMAZON, "0xefa0")], FABRIC),
        ([(MELLANOX, "0xefa1")], {}),
        ([(MELLANOX, "0x1017"), (AMAZON, "0xefa1")], REMOTE),
        ([(AMAZON, "0xec20")], {}),
        ([(AMAZON, None)], {}),
        ([(None, "0xefa0")], {}),
        ([(AMAZON, "what"), (AMAZON, ""), (AMAZON, "\xff\xfe")], {}),
        ([(AMAZON, None), (AMAZON, "0xefa0")], FABRIC),
        ([], {}),
    ],
    ids=[
        *(
            "the first EFA",
            "one with RDMA",
            "four",
            "a mixture",
            "another vendor",
            "two vendors",
            "a plain adapter",
        ),
        *("its kind has gone", "its vendor has gone", "rubbish", "one is left", "none"),
    ],
)
def test_aws_adapter_is_looked_for(adapters, devices, told):
    assert process_group.fabric(TWO, adapters(*devices)) == told


def test_a_lone_host_needs_no_adapter(adapters):
    assert process_group.fabric(ONE, adapters((AMAZON, "0xefa1"))) == {}


def test_a_machine_without_such_adapters_has_no_folder_of_them(tmp_path):
    assert process_group.fabric(TWO, tmp_path / "nowhere") == {}


def test_each_library_is_told_the_interface_where_there_are_two_hosts():
    assert process_group.interface(TWO, "GLOO", "NCCL") == {
        "GLOO_SOCKET_IFNAME": "ens5",
        "NCCL_SOCKET_IFNAME": "ens5",
    }
    assert process_group.interface(TWO) == {}
    assert process_group.interface(ONE, "GLOO") == {}


@pytest.mark.parametrize(
    ("cores", "processes", "told"),
    [(8, 1, None), (8, 2, "4"), (8, 3, "2"), (8, 8, "1"), (8, 100, "1"), (1, 1, None), (1, 2, "1")],
)
def test_processes_share_the_cpus(monkeypatch, cores, processes, told):
    monkeypatch.setattr(detection, "cores", lambda: cores)
    host = Host("algo-1", ("algo-1",), processes=processes)
    assert process_group.threads(host) == ({} if told is None else {"OMP_NUM_THREADS": told})
