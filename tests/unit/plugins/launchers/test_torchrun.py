from pathlib import Path
from string import Template

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.contracts import DiagnosingLauncher, EntryForm, EntryPoint, Host, ProfiledLauncher
from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.launchers.torchrun import TorchrunLauncher
from modelyard.testing.stand_in import StandInHardware

ONE = ("algo-1",)
TWO = ("algo-1", "algo-2")
ENTRY = EntryPoint("train.py", ("--epochs", "3"), Path("/code"), interpreter="/env/bin/python")


def command(name="algo-1", names=TWO, entry=ENTRY, hardware=None, **options):
    addresses = tuple(f"127.3.7.{number + 1}" for number in range(len(names)))
    host = Host(name, names, "lo", addresses, 23456)
    return TorchrunLauncher(**options).command(entry, host, hardware or StandInHardware(1))


def settings(argv):
    """Return torchrun's own options: those before --no_python, by name."""
    own = argv[argv.index("torch.distributed.run") + 1 : argv.index("--no_python")]
    pairs = [token for token in own if token != "--standalone"]
    found = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {**found, "--standalone": True} if "--standalone" in own else found


# -- how many processes ------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "processes"), [(8, 8), (1, 1), (0, 1)])
def test_one_process_per_device(devices, processes):
    made = command(hardware=StandInHardware(devices))
    assert settings(made.argv)["--nproc_per_node"] == str(processes)
    assert made.ranks == processes


def test_processes_per_host_goes_before_what_there_is():
    made = command(hardware=StandInHardware(8), processes_per_host=3)
    assert settings(made.argv)["--nproc_per_node"] == "3"
    assert made.ranks == 3


# -- where the hosts meet ----------------------------------------------------------------------


@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_a_host_alone_needs_no_address_of_the_job(rendezvous):
    own = settings(command(names=ONE, rendezvous=rendezvous).argv)
    assert own["--standalone"]
    assert own["--nnodes"] == "1"
    assert own["--local_addr"] == "127.0.0.1"
    assert not {"--master_addr", "--rdzv_endpoint"} & set(own)


@pytest.mark.parametrize(("name", "rank"), [("algo-1", "0"), ("algo-2", "1")])
def test_static_hosts_meet_at_the_masters_address_with_their_own_rank(name, rank):
    own = settings(command(name, rendezvous_timeout=20).argv)
    assert own == {
        "--nnodes": "2",
        "--nproc_per_node": "1",
        "--master_addr": "127.3.7.1",
        "--master_port": "23456",
        "--node_rank": rank,
        "--rdzv_conf": "timeout=20",
        "--max_restarts": "0",
    }


@pytest.mark.parametrize(
    ("name", "is_host", "address"), [("algo-1", "true", "127.3.7.1"), ("algo-2", "false", "127.3.7.2")]
)
def test_c10d_hosts_are_told_who_keeps_the_store_and_their_own_address(name, is_host, address):
    own = settings(command(name, rendezvous="c10d", rendezvous_timeout=20, last_call_timeout=5).argv)
    assert own == {
        "--nnodes": "2",
        "--nproc_per_node": "1",
        "--rdzv_backend": "c10d",
        "--rdzv_endpoint": "127.3.7.1:23456",
        "--rdzv_conf": f"is_host={is_host},join_timeout=20,read_timeout=20,last_call_timeout=5",
        "--local_addr": address,
        "--max_restarts": "0",
    }


def test_hosts_without_addresses_are_found_by_name():
    made = TorchrunLauncher().command(ENTRY, Host("algo-2", TWO), StandInHardware())
    assert settings(made.argv)["--master_addr"] == "algo-1"
    assert settings(made.argv)["--master_port"] == "7777"


@pytest.mark.parametrize("options", [{"nodes": "1:2"}, {"max_restarts": 2}])
def test_what_starts_processes_again_meets_by_c10d_with_a_store_for_each_start(options):
    made = command(**options)
    assert settings(made.argv)["--rdzv_backend"] == "c10d"
    assert made.environ == {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def test_nothing_is_set_for_processes_that_start_once():
    assert command().environ == command(rendezvous="c10d").environ == {}


def test_nodes_and_restarts_are_torchruns_own():
    own = settings(command(nodes="1:2", max_restarts=3).argv)
    assert own["--nnodes"] == "1:2"
    assert own["--max_restarts"] == "3"


@pytest.mark.parametrize("nodes", ["1:3", "1:1"])
def test_nodes_for_another_number_of_hosts_are_refused(nodes):
    with pytest.raises(InvalidPlanError, match=f"nodes='{nodes}' is not for a job of 2 hosts.*'MIN:2'"):
        command(nodes=nodes)


# -- what a process runs -----------------------------------------------------------------------


@pytest.mark.parametrize("form", EntryForm)
def test_a_process_runs_the_entry_point_through_the_shim(form):
    entry = attrs.evolve(ENTRY, form=form)
    argv = command(entry=entry).argv
    program = argv[argv.index("--no_python") + 1 :]
    assert program[0] == "/bin/sh"
    assert Path(program[1]).is_file()
    assert program[2:] == entry.argv


def test_torchrun_is_that_of_the_jobs_python_and_not_of_its_files():
    assert command().argv[:4] == ("/env/bin/python", "-P", "-m", "torch.distributed.run")
    assert command().cwd == Path("/code")


@given(st.lists(st.sampled_from(["$", "{", "}", "local_rank", "LOCAL_RANK", "HOME", " ", "_"])).map("".join))
def test_what_torchrun_would_replace_in_an_argument_arrives_as_it_was(argument):
    token = command(entry=attrs.evolve(ENTRY, arguments=(argument,))).argv[-1]
    # What torchrun does to each of the tokens after --no_python.
    assert Template(token).safe_substitute(local_rank="0") == argument


def test_an_argument_without_anything_to_replace_is_its_own_token():
    arguments = ("$HOME `id`", "${HOME}", "costs 5$", "", "--", "one\ntwo")
    assert command(entry=attrs.evolve(ENTRY, arguments=arguments)).argv[-6:] == arguments


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes_per_host": 0}, "processes_per_host must be a whole number of at least 1, not 0"),
        ({"processes_per_host": "2"}, "processes_per_host must be a whole number of at least 1, not '2'"),
        ({"processes_per_host": True}, "processes_per_host must be a whole number of at least 1, not True"),
        ({"max_restarts": -1}, "max_restarts must be a whole number of at least 0, not -1"),
        ({"nodes": "2"}, "nodes must be 'MIN:MAX', .*, not '2'"),
        ({"nodes": 2}, "nodes must be 'MIN:MAX', .*, not 2"),
        ({"nodes": "2:1"}, "nodes must be 'MIN:MAX', .*, not '2:1'"),
        ({"nodes": "0:1"}, "nodes must be 'MIN:MAX', .*, not '0:1'"),
        ({"rendezvous": "etcd"}, "rendezvous must be 'static' or 'c10d', not 'etcd'"),
        ({"rendezvous": None}, "rendezvous must be 'static' or 'c10d', not None"),
        ({"rendezvous_timeout": 0}, "rendezvous_timeout must be a whole number of at least 1, not 0"),
        ({"last_call_timeout": 1.5}, "last_call_timeout must be a whole number of at least 1, not 1.5"),
        ({"profile": ""}, "profile must be 'toolkit' or 'drivers', not ''"),
        ({"rendezvous": "static", "max_restarts": 1}, "'static' knows neither nodes nor max_restarts"),
        ({"rendezvous": "static", "nodes": "1:2"}, "'static' knows neither nodes nor max_restarts"),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(options, message):
    with pytest.raises(InvalidPlanError, match=message):
        TorchrunLauncher(**options)


def test_it_has_a_profile_and_reads_torchruns_report():
    assert isinstance(TorchrunLauncher(profile="drivers"), ProfiledLauncher)
    assert isinstance(TorchrunLauncher(), DiagnosingLauncher)
