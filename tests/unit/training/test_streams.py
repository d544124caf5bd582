"""Ranks with streams of their own: named pipes that their tool's processes write to, in the real thing."""

import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from modelyard.training.tails import LINE_BYTES, TAIL_BYTES

RANK = """
import os, sys, time

def rank(local, number=None):
    # What a launcher's shim does before it becomes the rank.
    for name, fd in (("out", 1), ("err", 2)):
        pipe = os.open(f"{os.environ['MODELYARD_STREAMS']}/{local}.{name}", os.O_WRONLY)
        os.dup2(pipe, fd)
        os.close(pipe)
        if number is not None:
            os.write(fd, b"\\x01rank %d\\n" % number)

def ranks(body, numbers):
    pids = []
    for local, number in enumerate(numbers):
        pid = os.fork()
        if not pid:
            rank(local, number)
            body(number)
            sys.stdout.flush()
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
"""


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_the_lines_of_each_rank_bear_its_number(supervise):
    source = (
        RANK + "print('tool', flush=True)\nranks(lambda n: [print('step', i) for i in range(500)], [0, 1])"
    )
    run = supervise(source, ranks=2)
    assert run.outcome.exit_code == 0
    assert run.process.stdout.startswith("tool\n")
    for number in (0, 1):
        expected = [f"[rank {number}] step {i}" for i in range(500)]
        assert lines_of(run.process.stdout, f"[rank {number}] ") == expected


def test_the_number_is_the_one_that_the_rank_announces(supervise):
    source = RANK + "ranks(lambda n: print('a\\n\\nb'), [6, 7])"
    run = supervise(source, ranks=2, relay={"host": "algo-4"})
    assert run.outcome.exit_code == 0
    assert sorted(run.process.stdout.splitlines()) == [
        "[algo-4 rank 6] ",
        "[algo-4 rank 6] a",
        "[algo-4 rank 6] b",
        "[algo-4 rank 7] ",
        "[algo-4 rank 7] a",
        "[algo-4 rank 7] b",
    ]


def test_until_then_it_is_the_number_on_its_host(supervise):
    run = supervise(RANK + "ranks(lambda n: print('a'), [None, None])", ranks=2)
    assert run.outcome.exit_code == 0
    assert sorted(run.process.stdout.splitlines()) == ["[rank 0] a", "[rank 1] a"]


def test_of_one_process_on_one_host_the_lines_bear_nothing(supervise):
    run = supervise(RANK + "ranks(lambda n: print('a'), [0])", ranks=1)
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "a\n"


def test_of_several_hosts_each_line_bears_the_host(supervise):
    source = RANK + "print('tool', flush=True)\nranks(lambda n: print('a'), [1])"
    run = supervise(source, ranks=1, relay={"host": "algo-2"})
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "[algo-2] tool\n[algo-2 rank 1] a\n"


def test_standard_error_of_each_rank_is_remembered_apart(supervise):
    before = time.time()
    source = RANK + "ranks(lambda n: print('error of', n, file=sys.stderr), [4, 5])"
    run = supervise(source, ranks=2, relay={"host": "algo-3"})
    outcome = run.outcome
    assert [(said.rank, said.host, said.text) for said in outcome.ranks] == [
        (4, "algo-3", "error of 4\n"),
        (5, "algo-3", "error of 5\n"),
    ]
    for said in outcome.ranks:
        assert before < said.read_at(0) <= said.ended <= time.time()
    assert outcome.stderr_tail == ""
    assert run.process.stdout == ""


@pytest.mark.parametrize("ranks", [0, 1])
def test_a_long_line_leaves_what_was_said_before_it_in_memory(supervise, ranks):
    source = (
        RANK
        + """
if "MODELYARD_STREAMS" in os.environ:
    rank(0, 0)
print("before", file=sys.stderr)
print("RuntimeError: " + "x" * 300_000, file=sys.stderr)
print("after", file=sys.stderr)
"""
    )
    outcome = supervise(source, ranks=ranks).outcome
    (said,) = outcome.ranks or (outcome.stderr,)
    before, message, after = said.text.splitlines()
    assert (before, after) == ("before", "after")
    assert message == "RuntimeError: " + "x" * (LINE_BYTES - len("RuntimeError: ")) + "..."
    assert len(said.text) < TAIL_BYTES


def test_a_line_as_long_as_what_is_remembered_is_not_lost(supervise):
    outcome = supervise(f"import sys; print('x' * {TAIL_BYTES - 1} + 'y', file=sys.stderr)").outcome
    assert outcome.stderr_tail == "x" * LINE_BYTES + "...\n"


@pytest.mark.skipif(sys.platform != "linux", reason="what is asked about other processes is Linux's")
def test_a_broken_line_of_a_rank_that_died_does_not_hide_what_its_successor_says(supervise):
    source = (
        RANK
        + """
def reading():
    # The end of a life has been read where the pipe has been opened anew for the next one.
    folder, found = f"/proc/{os.getppid()}/fd", []
    for fd in os.listdir(folder):
        try:
            found += [fd] * (os.readlink(f"{folder}/{fd}") == f"{os.environ['MODELYARD_STREAMS']}/0.err")
        except FileNotFoundError:
            pass
    return found

for text in ("x" * 100_000, "Error: of the second life\\n"):
    before = reading()
    if not (pid := os.fork()):
        rank(0)
        os.write(2, text.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    while (now := reading()) == before or len(now) != 1:
        time.sleep(0.01)
"""
    )
    (said,) = supervise(source, ranks=1).outcome.ranks
    assert said.text.endswith("...\nError: of the second life\n")


def test_a_rank_that_is_started_again_writes_to_the_same_pipes(supervise):
    source = (
        RANK
        + """
for life in range(20):
    if not (pid := os.fork()):
        rank(0, 3)
        print("life", life)
        print("failed", life, file=sys.stderr)
        os.write(1, b"torn")
        os._exit(0)
    os.waitpid(pid, 0)
"""
    )
    run = supervise(source, ranks=2)
    outcome = run.outcome
    assert outcome.exit_code == 0
    (said,) = outcome.ranks
    assert said.text == "failed 19\n", "what the lives before said is forgotten"
    assert lines_of(run.process.stdout, "[rank 3] life") == [f"[rank 3] life {i}" for i in range(20)]
    assert run.process.stdout.count("[rank 3] torn\n") == 20
    assert "\x01" not in run.process.stdout


def test_a_rank_that_has_gone_costs_nothing(supervise):
    source = RANK + "ranks(lambda n: print('a'), [0, 1])\ntime.sleep(1.5)\nprint(time.process_time())"
    run = supervise(source, ranks=2)
    run.process.wait_for("[rank 1] a")
    pid = run.process.popen.pid
    used = _cpu_seconds(pid)
    time.sleep(1)
    assert _cpu_seconds(pid) - used < 0.2
    assert run.outcome.exit_code == 0


def _cpu_seconds(pid):
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_ranks_that_never_open_their_pipes(supervise):
    run = supervise("print('tool'); raise SystemExit(3)", ranks=8)
    outcome = run.outcome
    assert (outcome.exit_code, outcome.ranks) == (3, ())
    assert run.process.stdout == "tool\n"


def test_a_rank_that_is_killed_in_a_line(supervise):
    source = (
        RANK
        + """
def body(number):
    os.write(2, b"half a line")
    os.kill(os.getpid(), 9)
ranks(body, [0, 1])
"""
    )
    run = supervise(source, ranks=2)
    assert [said.text for said in run.outcome.ranks] == ["half a line\n", "half a line\n"]
    assert sorted(run.process.stderr.splitlines()) == ["[rank 0] half a line", "[rank 1] half a line"]


def test_what_holds_a_ranks_pipe_open_does_not_hang_it(supervise):
    source = (
        RANK
        + """
def body(number):
    if not os.fork():
        os.setsid()
        time.sleep(60)
    print("done")
ranks(body, [0, 1])
"""
    )
    run = supervise(source, ranks=2)
    assert run.outcome.exit_code == 0
    assert sorted(run.process.stdout.splitlines()) == ["[rank 0] done", "[rank 1] done"]


def test_a_job_that_removes_its_pipes_goes_on(supervise):
    source = (
        RANK
        + """
import shutil
rank(0, 0)
print("a", flush=True)
shutil.rmtree(os.environ["MODELYARD_STREAMS"])
os.close(1)
time.sleep(0.5)
"""
    )
    run = supervise(source, ranks=2)
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "[rank 0] a\n"


def test_the_folder_of_the_pipes_is_private_and_removed(supervise, tmp_path):
    source = "import os, time; print(os.environ['MODELYARD_STREAMS'], flush=True); time.sleep(60)"
    run = supervise(source, ranks=2, env=os.environ | {"TMPDIR": str(tmp_path)})
    folder = Path(run.process.wait_for("\n").strip())
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["0.err", "0.out", "1.err", "1.out"]
    assert all(path.is_fifo() for path in folder.iterdir())
    run.process.terminate()
    assert run.outcome.signal == signal.SIGTERM
    assert not folder.exists()


def test_a_command_without_ranks_has_no_pipes(supervise):
    run = supervise("import os; print('MODELYARD_STREAMS' in os.environ)")
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "False\n"


def test_lines_of_a_hundred_ranks_stay_whole(supervise):
    source = (
        RANK + "ranks(lambda n: [os.write(1, b'%03d ' % n * 500 + b'\\n') for _ in range(5)], range(100))"
    )
    run = supervise(source, ranks=100)
    assert run.outcome.exit_code == 0
    expected = sorted(f"[rank {n}] {f'{n:03} ' * 500}" for n in range(100) for _ in range(5))
    assert sorted(run.process.stdout.splitlines()) == expected


@pytest.mark.parametrize("ranks", [0, 1])
def test_a_bar_is_seen_while_it_runs_and_does_not_flood_the_log(supervise, ranks):
    source = (
        RANK
        + """
if "MODELYARD_STREAMS" in os.environ:
    rank(0, 0)
for step in range(250):
    sys.stderr.write(f"\\r{step:3}%|###| {step}/250")
    sys.stderr.flush()
    time.sleep(0.01)
sys.stderr.write("\\r100%|###| 250/250\\n")
"""
    )
    began = time.monotonic()
    run = supervise(source, ranks=ranks)
    assert run.outcome.exit_code == 0
    lines = run.process.stderr.splitlines()
    assert 2 <= len(lines) <= 2 + (time.monotonic() - began), "one a second, and the last"
    assert lines[-1] == "100%|###| 250/250"


def test_a_prompt_is_shown_before_its_line_ends(supervise):
    run = supervise("import time; print('waiting', end='', flush=True); time.sleep(300)")
    run.process.wait_for("waiting\n")
    run.process.terminate()
    assert run.outcome.stopped
    assert run.process.stdout == "waiting\n"


def test_secrets_are_masked_in_the_log_and_in_what_is_remembered(supervise):
    source = "import os, sys\nprint('key', os.environ['KEY'])\nsys.exit('bad key ' + os.environ['KEY'])"
    environ = os.environ | {"KEY": "sesame-open"}
    run = supervise(source, relay={"secrets": ["sesame-open"]}, env=environ)
    assert run.outcome.stderr_tail == "bad key ********\n"
    assert (run.process.stdout, run.process.stderr) == ("key ********\n", "bad key ********\n")


def test_settings_do_not_show_secrets():
    from modelyard.training.streams import RelaySettings

    assert "sesame" not in repr(RelaySettings(secrets=("sesame-open",)))
