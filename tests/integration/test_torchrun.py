"""Real torchrun, by the launcher's commands: DDP over gloo, restarts, fewer hosts, reports of failures."""

import json
import os
import re
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from modelyard.core.contracts import EntryForm, EntryPoint, Host, RankFailure
from modelyard.core.listening import free_port
from modelyard.hardware.cpu import CpuHardware
from modelyard.plugins.launchers.torchrun import TorchrunLauncher

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

SCRIPTS = Path(__file__).with_name("scripts")
SECONDS = 100

# In one write: the ranks share their streams here.
TELL = 'import json, os, sys; sys.stdout.write(json.dumps([os.environ["RANK"], *sys.argv[1:]]) + "\\n")'
END = """
import os, sys, time
if os.environ["RANK"] == "1":
    {end}
time.sleep(300)
"""


@pytest.fixture
def launch(tmp_path):
    """Run an entry point on the hosts of a job, all on this machine; return them once they have ended."""

    def run(entry, hosts=1, *, present=None, **options):
        names = tuple(f"algo-{number + 1}" for number in range(hosts))
        addresses = tuple(f"127.77.0.{number + 1}" for number in range(hosts))
        port = free_port(count=2)
        with ExitStack() as stack:
            started = []
            for name in names[:present]:
                host = Host(name, names, "lo", addresses, port)
                command = TorchrunLauncher(**options).command(entry, host, CpuHardware())
                environ = {**CpuHardware().environ(host), **command.environ}
                started.append(stack.enter_context(running(command, environ, tmp_path)))
            return [finished(process) for process in started]

    return run


@contextmanager
def running(command, environ, out):
    process = subprocess.Popen(
        command.argv,
        cwd=command.cwd,
        # torchrun leaves folders in TMPDIR.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OUT": str(out), "TMPDIR": str(out), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def finished(process):
    stdout, stderr = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def ddp(*arguments):
    return EntryPoint("ddp.py", arguments, SCRIPTS)


def trained(ended, out, world):
    """Return the parameters that all ranks ended with, which are not those that they began with."""
    assert [host.returncode for host in ended] == [0] * len(ended), ended[-1].stderr[-3000:]
    ranks = [json.loads(path.read_text("utf-8")) for path in sorted(out.glob("rank-*.json"))]
    assert [(found["rank"], found["world"]) for found in ranks] == [(rank, world) for rank in range(world)]
    assert all(found["after"] == ranks[0]["after"] for found in ranks)
    assert ranks[0]["after"] != ranks[0]["before"]
    return ranks[0]["after"]


# -- training ----------------------------------------------------------------------------------


def test_two_processes_and_two_hosts_train_the_same_model(launch, tmp_path):
    one_host = trained(launch(ddp(), processes_per_host=2), tmp_path, 2)
    for left in tmp_path.glob("rank-*.json"):
        left.unlink()
    two_hosts = trained(launch(ddp(), 2, rendezvous="static"), tmp_path, 2)
    assert two_hosts == pytest.approx(one_host)


@pytest.mark.parametrize(("hosts", "each"), [(1, 2), (2, 1)])
def test_training_goes_on_where_a_killed_rank_left_it(launch, tmp_path, hosts, each):
    arguments = ("--kill-rank", "1", "--fail-step", "2", "--checkpoint-dir", str(tmp_path))

    ended = launch(ddp(*arguments), hosts, processes_per_host=each, max_restarts=1)

    trained(ended, tmp_path, 2)
    assert (tmp_path / "killed").exists()
    told = "".join(host.stdout for host in ended)
    for rank in (0, 1):
        assert re.findall(rf"rank {rank} of 2 starts at step (\d+),", told) == ["0", "2"]


def test_fewer_hosts_than_all_train_where_nodes_lets_them(launch, tmp_path):
    ended = launch(ddp(), 2, present=1, nodes="1:2", last_call_timeout=1)
    trained(ended, tmp_path, 1)


# -- entry points ------------------------------------------------------------------------------


@pytest.fixture
def code(tmp_path):
    """One program in each form, beside a file with the name of a module that torchrun imports."""
    folder = tmp_path / "code"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text(TELL, "utf-8")
    (folder / "run.sh").write_text('echo "[\\"$RANK\\", \\"$1\\", \\"$2\\"]"', "utf-8")
    tool = folder / "tool"
    tool.write_text('#!/bin/sh\nexec /bin/sh run.sh "$@"\n', "utf-8")
    tool.chmod(0o755)
    (folder / "queue.py").write_text("raise ImportError('this is a file of the user')", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("program", "form"),
    [
        ("package/module.py", EntryForm.SCRIPT),
        ("package.module", EntryForm.MODULE),
        ("run.sh", EntryForm.SHELL),
        ("tool", EntryForm.EXECUTABLE),
    ],
)
def test_every_form_of_entry_point_is_run_once_per_rank(launch, code, program, form):
    arguments = ("two words", "$$ ${local_rank}")
    [ended] = launch(EntryPoint(program, arguments, code, form), processes_per_host=2)
    assert ended.returncode == 0, ended.stderr
    told = sorted(map(json.loads, ended.stdout.splitlines()))
    assert told == [["0", *arguments], ["1", *arguments]]


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", 3),
        ("raise ValueError('bad batch 17')", 1),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM),
    ],
)
def test_the_report_says_which_rank_failed_and_how(launch, tmp_path, end, status):
    (tmp_path / "train.py").write_text(END.format(end=end), "utf-8")
    [ended] = launch(EntryPoint("train.py", (), tmp_path), processes_per_host=2)
    assert ended.returncode == 1
    assert TorchrunLauncher().first_failure(ended.stderr) == RankFailure(1, status)


def test_a_rank_that_lost_its_peer_is_never_called_the_first(launch, tmp_path):
    [ended] = launch(ddp("--fail-rank", "1"), processes_per_host=2)
    assert ended.returncode == 1
    assert "ValueError: bad batch 17" in ended.stderr
    # None where both had ended when torchrun looked: their tracebacks tell.
    assert TorchrunLauncher().first_failure(ended.stderr) in {RankFailure(1, 1), None}
