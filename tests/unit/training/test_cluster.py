import pytest

from modelyard.core.contracts import Host
from modelyard.core.errors import InvalidPlanError
from modelyard.training.cluster import described

TWO = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
GPU = {"instance_group_name": "gpu", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-2", "algo-3"]}
CPU = {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]}
MIXED = {"hosts": ["algo-1", "algo-2", "algo-3"], "instance_groups": [GPU, CPU]}
ON_GPU = MIXED | {"current_host": "algo-3", "current_group_name": "gpu"}
ON_CPU = MIXED | {"current_host": "algo-1", "current_group_name": "cpu"}
CHOSEN = {"sagemaker_distribution_instance_groups": ["gpu"]}


def cluster_of(resources, settings=(), **environ):
    return described(resources, "/the/resourceconfig.json", dict(settings), environ)


# -- one group, or none ------------------------------------------------------------------------


def test_the_hosts_of_a_job_without_groups():
    found = cluster_of(TWO)
    assert found.host == Host("algo-2", ("algo-1", "algo-2"), "eth0", (), 7777)
    assert (found.master, found.master_address) == ("algo-1", "algo-1")
    assert (found.groups, found.group, found.distribution_groups) == ({}, "homogeneousCluster", ())
    assert found.distribution_hosts == ("algo-1", "algo-2")
    assert (found.instance_type, found.topology) == ("local", [])


def test_what_the_file_says_of_the_machine():
    more = {
        "network_interface_name": "ethwe",
        "current_instance_type": "ml.m5.large",
        "topology": [{"hostName": "algo-1", "capacityUnitId": "u-1"}],
    }
    found = cluster_of(TWO | more)
    assert (found.host.network_interface, found.instance_type) == ("ethwe", "ml.m5.large")
    assert found.topology == more["topology"]


def test_the_order_of_the_file_is_kept():
    found = cluster_of({"current_host": "b", "hosts": ["c", "b", "a"]})
    assert (found.hosts, found.host.names, found.master) == (("c", "b", "a"), ("c", "b", "a"), "c")


# -- groups ------------------------------------------------------------------------------------


def test_the_chosen_groups_are_the_distribution_and_its_first_host_the_master():
    found = cluster_of(ON_GPU, CHOSEN)
    assert found.hosts == ("algo-1", "algo-2", "algo-3")
    assert (found.host.names, found.host.master, found.host.rank) == (("algo-2", "algo-3"), "algo-2", 1)
    assert (found.master, found.distribution_hosts) == ("algo-2", ("algo-2", "algo-3"))


def test_a_host_outside_of_the_distribution_works_alone_and_knows_the_master():
    found = cluster_of(ON_CPU, CHOSEN)
    assert (found.host.names, found.host.rank) == (("algo-1",), 0)
    assert (found.master, found.master_address) == ("algo-2", "algo-2")


def test_the_groups_come_in_the_order_of_the_file():
    found = cluster_of(ON_CPU, {"sagemaker_distribution_instance_groups": ["cpu", "gpu"]})
    assert found.distribution_groups == ("cpu", "gpu")
    assert found.host.names == ("algo-2", "algo-3", "algo-1")
    assert list(found.groups) == ["gpu", "cpu"]


@pytest.mark.parametrize(
    "switch",
    [
        "sagemaker_mpi_enabled",
        "sagemaker_parameter_server_enabled",
        "sagemaker_distributed_dataparallel_enabled",
        "sagemaker_pytorch_ddp_enabled",
        "sagemaker_pytorch_xla_multi_worker_enabled",
        "sagemaker_multi_worker_mirrored_strategy_enabled",
        "sagemaker_torch_distributed_enabled",
    ],
)
def test_a_distribution_that_names_no_groups_is_that_of_the_hosts_own(switch):
    assert cluster_of(ON_GPU, {switch: True}).distribution_groups == ("gpu",)
    assert cluster_of(ON_GPU, {switch: True}).host.names == ("algo-2", "algo-3")
    assert cluster_of(ON_GPU, {switch: False}).distribution_groups == ()


def test_without_a_distribution_all_hosts_are_one_job():
    found = cluster_of(ON_GPU)
    assert (found.distribution_hosts, found.master) == ((), "algo-1")
    assert found.host.names == ("algo-1", "algo-2", "algo-3")


# -- addresses ---------------------------------------------------------------------------------


def test_addresses_are_in_the_order_of_the_file():
    found = cluster_of(TWO, MODELYARD_HOST_ADDRESSES="127.3.7.1, 127.3.7.2")
    assert found.host.addresses == ("127.3.7.1", "127.3.7.2")
    assert (found.host.address, found.master_address) == ("127.3.7.2", "127.3.7.1")


def test_addresses_follow_the_hosts_of_the_distribution():
    found = cluster_of(ON_GPU, CHOSEN, MODELYARD_HOST_ADDRESSES="a,b,c")
    assert [found.host.address_of(name) for name in found.host.names] == ["b", "c"]
    outside = cluster_of(ON_CPU, CHOSEN, MODELYARD_HOST_ADDRESSES="a,b,c")
    assert (outside.host.addresses, outside.master_address) == (("a",), "b")


@pytest.mark.parametrize("told", ["127.0.0.1", "a,b,c", "a,", ",", "a, ,"])
def test_addresses_that_do_not_fit_the_hosts(told):
    with pytest.raises(InvalidPlanError, match=r"MODELYARD_HOST_ADDRESSES=.*2 hosts in /the/resourceconfig"):
        cluster_of(TWO, MODELYARD_HOST_ADDRESSES=told)


def test_the_masters_address():
    found = cluster_of(TWO, MASTER_ADDR="10.0.0.9")
    assert (found.master_address, found.host.master_address) == ("10.0.0.9", "10.0.0.9")
    assert found.host.address_of("algo-1") == "algo-1"
    among = cluster_of(TWO, MASTER_ADDR="10.0.0.9", MODELYARD_HOST_ADDRESSES="a,b")
    assert (among.host.master_address, among.host.address_of("algo-1")) == ("10.0.0.9", "a")
    assert cluster_of(TWO, MASTER_ADDR="").host.master_address == "algo-1"


def test_a_host_outside_of_the_distribution_is_told_where_others_meet_and_meets_nobody():
    found = cluster_of(ON_CPU, CHOSEN, MASTER_ADDR="10.0.0.9")
    assert (found.master_address, found.host.master_address) == ("10.0.0.9", "algo-1")


def test_the_masters_port():
    assert cluster_of(TWO).host.master_port == 7777
    assert cluster_of(TWO, MASTER_PORT="1234").host.master_port == 1234
    assert cluster_of(TWO, MASTER_PORT="", MODELYARD_HOST_ADDRESSES="").host.master_port == 7777


@pytest.mark.parametrize("port", ["http", "0", "-1", "1.5", "65535", " "])
def test_a_port_that_is_none(port):
    with pytest.raises(InvalidPlanError, match="MASTER_PORT must be a port from 1 to 65534, not"):
        cluster_of(TWO, MASTER_PORT=port)


# -- a file that makes no sense ----------------------------------------------------------------


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"hosts": []},
        {"hosts": ["algo-1"]},
        {"current_host": "algo-9", "hosts": ["algo-1"]},
        {"current_host": None, "hosts": ["algo-1"]},
        {"current_host": "algo-1", "hosts": "algo-1"},
        {"current_host": "algo-1", "hosts": ["algo-1", 2]},
        {"current_host": "", "hosts": [""]},
        {"current_host": "algo-1", "hosts": ["algo-1", "algo-1"]},
        {"current_host": ["algo-1"], "hosts": ["algo-1"]},
    ],
)
def test_hosts_that_make_no_sense_are_an_error_with_an_example(resources):
    with pytest.raises(InvalidPlanError, match=r"/the/resourceconfig.json must name the hosts .* as in {"):
        cluster_of(resources)


@pytest.mark.parametrize("name", ["network_interface_name", "current_instance_type", "current_group_name"])
def test_a_name_that_is_no_string(name):
    with pytest.raises(InvalidPlanError, match=rf"resourceconfig.json: {name} must be a string, not 5"):
        cluster_of(TWO | {name: 5})


@pytest.mark.parametrize(
    "groups",
    [
        None,
        {"gpu": ["algo-1"]},
        ["gpu"],
        [{"hosts": ["algo-1"]}],
        [{"instance_group_name": 1, "hosts": ["algo-1"]}],
        [{"instance_group_name": "gpu"}],
        [{"instance_group_name": "gpu", "hosts": "algo-1"}],
        [{"instance_group_name": "gpu", "hosts": ["algo-9"]}],
        [{"instance_group_name": "gpu", "hosts": ["algo-1"]}, {}],
    ],
)
def test_groups_that_make_no_sense_are_an_error_with_an_example(groups):
    with pytest.raises(InvalidPlanError, match=r"resourceconfig.json: instance_groups must be .* as in \[{"):
        cluster_of(TWO | {"instance_groups": groups})


def test_a_chosen_group_that_is_not_there():
    with pytest.raises(InvalidPlanError, match="is called 'gpus'; did you mean 'gpu'"):
        cluster_of(ON_GPU, {"sagemaker_distribution_instance_groups": ["gpus"]})


@pytest.mark.parametrize("chosen", ["gpu", None, [1], {"gpu": 1}])
def test_chosen_groups_that_are_no_list_of_names(chosen):
    with pytest.raises(InvalidPlanError, match="sagemaker_distribution_instance_groups must be a list"):
        cluster_of(ON_GPU, {"sagemaker_distribution_instance_groups": chosen})


def test_chosen_groups_mean_all_hosts_where_the_file_has_no_groups():
    assert cluster_of(TWO, CHOSEN).host.names == ("algo-1", "algo-2")
