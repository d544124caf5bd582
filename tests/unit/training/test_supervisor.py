"""The supervisor takes over signals and reaps children: it runs in a process of its own here."""

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.training import supervisor
from modelyard.training.supervisor import _Lines, _parts

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

DRIVER = """
import json, os, sys
from pathlib import Path
from modelyard.core.contracts import Command
from modelyard.training import supervisor

argv, grace, outcome = json.loads(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
found = supervisor.run(Command(tuple(argv), {"FROM": "command"}, outcome.parent), os.environ, grace=grace)
outcome.write_text(json.dumps([found.exit_code, found.signal, found.stopped, found.stderr_tail]))
"""


class Supervised:
    def __init__(self, process, outcome):
        self.process = process
        self._outcome = outcome

    @property
    def outcome(self):
        assert self.process.wait() == 0, self.process.stderr
        return supervisor.Outcome(*json.loads(self._outcome.read_text()))


@pytest.fixture
def supervise(start, tmp_path):
    """Run Python source (or an argv) under a supervisor, in a process of its own."""

    def make(source, *, grace=30.0, **options):
        argv = [sys.executable, "-c", source] if isinstance(source, str) else source
        outcome = tmp_path / "outcome.json"
        return Supervised(start("-c", DRIVER, json.dumps(argv), str(grace), str(outcome), **options), outcome)

    return make


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_scripts(supervise, code):
    outcome = supervise(f"raise SystemExit({code})").outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (code, 0, False)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
def test_a_death_by_signal_is_128_and_its_number(supervise, sig):
    outcome = supervise(f"import os; os.kill(os.getpid(), {int(sig)})").outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (128 + sig, sig, False)


def test_the_two_streams_are_kept_apart(supervise):
    run = supervise("import sys; print('out'); print('err', file=sys.stderr)")
    assert run.outcome.stderr_tail == "err\n"
    assert (run.process.stdout, run.process.stderr) == ("out\n", "err\n")


def test_the_commands_environment_is_added_and_wins(supervise):
    source = "import os; print(os.environ['FROM'], os.environ['KEPT'])"
    run = supervise(source, env=os.environ | {"FROM": "job", "KEPT": "kept"})
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "command kept\n"


def test_standard_input_is_at_its_end(supervise):
    run = supervise("import sys; print(repr(sys.stdin.read()))")
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "''\n"


def test_a_last_line_without_a_newline_gets_one(supervise):
    run = supervise("import sys; sys.stdout.write('no newline'); sys.stderr.write('none here')")
    assert run.outcome.stderr_tail == "none here\n"
    assert run.process.stdout == "no newline\n"


def test_silence_stays_silence(supervise):
    run = supervise("pass")
    assert run.outcome.stderr_tail == ""
    assert run.process.stdout == ""


def test_lines_of_many_writers_stay_whole(supervise):
    # Each line is written in one go and is longer than what a pipe writes in one piece.
    source = """
import os, sys
children = []
for letter in "abcd":
    pid = os.fork()
    if not pid:
        for _ in range(50):
            os.write(1, letter.encode() * 3000 + b"\\n")
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
"""
    run = supervise(source)
    assert run.outcome.exit_code == 0
    lines = run.process.stdout.splitlines()
    assert len(lines) == 200
    assert {(line[0], len(line), len(set(line))) for line in lines} == {
        (letter, 3000, 1) for letter in "abcd"
    }


def test_lines_of_several_supervisors_stay_whole_in_one_pipe(start, tmp_path):
    source = "import sys\nfor _ in range(200): print(sys.argv[1] * 1000, flush=True)"
    reading, writing = os.pipe()
    runs = []
    for letter in "ab":
        (tmp_path / letter).mkdir()
        argv = json.dumps([sys.executable, "-c", source, letter])
        shared = f"import os; os.dup2({writing}, 1)\n{DRIVER}"
        runs.append(start("-c", shared, argv, "1", str(tmp_path / letter / "outcome"), pass_fds=[writing]))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    assert [run.wait() for run in runs] == [0, 0]
    assert sorted(lines) == ["a" * 1000] * 200 + ["b" * 1000] * 200


def test_ten_megabytes_without_a_newline_come_out_unchanged_and_are_not_kept(supervise, tmp_path):
    measured = tmp_path / "kilobytes"
    source = f"""
import sys, psutil
chunk = b"x" * 65536
for _ in range(160):
    sys.stdout.buffer.write(chunk)
sys.stdout.flush()
open({str(measured)!r}, "w").write(str(psutil.Process().parent().memory_info().rss // 1024))
"""
    run = supervise(source)
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "x" * 65536 * 160 + "\n"
    # An interpreter with our imports has some 30 MB; ten more would be the output.
    quiet = supervise("import psutil; print(psutil.Process().parent().memory_info().rss // 1024)")
    assert quiet.outcome.exit_code == 0
    assert int(measured.read_text()) - int(quiet.process.stdout) < 5000


def test_bytes_that_are_not_utf8_pass_unchanged(supervise):
    run = supervise(
        "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.buffer.write(b'\\xff\\xfe')"
    )
    assert run.outcome.stderr_tail == "\ufffd\ufffd\n"
    assert run.process.out.read_bytes() == bytes(range(256)) + b"\n"


def test_the_tail_is_the_end_and_at_most_64_kib(supervise):
    run = supervise("import sys\nfor i in range(20000): print(f'line {i:05}', file=sys.stderr)")
    tail = run.outcome.stderr_tail
    assert tail.endswith("line 19999\n")
    assert len(tail) == 64 * 1024
    assert run.process.stderr.endswith(tail)


def test_sigterm_reaches_the_script_whose_own_exit_code_counts(supervise):
    source = """
import signal, sys, time
def stop(*_):
    print("saving", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    run = supervise(source)
    run.process.wait_for("ready")
    run.process.terminate()
    outcome = run.outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (7, 0, True)
    assert run.process.stdout == "ready\nsaving\n"


def test_sigint_is_a_keyboard_interrupt_in_the_script(supervise):
    run = supervise("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    run.process.wait_for("ready")
    run.process.popen.send_signal(signal.SIGINT)
    outcome = run.outcome
    assert (outcome.signal, outcome.stopped) == (signal.SIGINT, True)
    assert "KeyboardInterrupt" in outcome.stderr_tail


def test_sigterm_reaches_the_whole_group(supervise):
    source = """
import os, signal, time
def stop(*_):
    os.write(1, b"worker stops\\n" if not worker else b"script stops\\n")
    os._exit(0)
worker = os.fork()
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")
if worker:
    os.waitpid(worker, 0)
time.sleep(60)
"""
    run = supervise(source)
    run.process.wait_for("ready\nready")
    run.process.terminate()
    assert run.outcome.stopped
    assert "script stops" in run.process.stdout


def test_a_script_that_ignores_sigterm_is_killed_after_its_time(supervise):
    source = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
    run = supervise(source, grace=0.2)
    run.process.wait_for("ready")
    run.process.terminate()
    outcome = run.outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (137, signal.SIGKILL, True)


def test_a_second_sigterm_does_not_prolong_the_time(supervise):
    source = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("again", flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""
    run = supervise(source, grace=1.0)
    run.process.wait_for("ready")
    for _ in range(3):
        run.process.terminate()
        run.process.wait_for("again")
    assert run.outcome.signal == signal.SIGKILL


def test_a_signal_that_comes_before_the_child_is_passed_on(start, tmp_path):
    early = """
import signal
from modelyard.training import supervisor
started = supervisor._started
def late(*arguments):
    signal.raise_signal(signal.SIGTERM)
    return started(*arguments)
supervisor._started = late
"""
    outcome = tmp_path / "outcome.json"
    argv = json.dumps([sys.executable, "-c", "import time; time.sleep(60)"])
    run = Supervised(start("-c", early + DRIVER, argv, "30", str(outcome)), outcome).outcome
    assert (run.signal, run.stopped) == (signal.SIGTERM, True)


@linux_only
def test_what_the_script_leaves_behind_is_killed(supervise):
    source = """
import os, signal, time
reading, writing = os.pipe()
if not os.fork():
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(writing, b"x")
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(60)
os.read(reading, 1)
"""
    run = supervise(source)
    assert run.outcome.exit_code == 0
    assert not psutil.pid_exists(int(run.process.stdout))


@linux_only
def test_what_holds_the_pipe_open_does_not_hang_it(supervise):
    source = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("done", flush=True)
"""
    run = supervise(source)
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "done\n"


@linux_only
def test_orphans_are_reaped_while_the_script_runs(supervise):
    source = """
import os, psutil, subprocess, sys, time
for _ in range(5):
    subprocess.run([sys.executable, "-S", "-c", "import os; os.fork()"])
deadline = time.monotonic() + 20
def zombies():
    return [p for p in psutil.Process(os.getppid()).children() if p.status() == "zombie"]
while (left := zombies()) and time.monotonic() < deadline:
    time.sleep(0.05)
print(len(left))
"""
    run = supervise(source)
    assert run.outcome.exit_code == 0
    assert run.process.stdout == "0\n"


@linux_only
def test_the_script_dies_with_its_supervisor(supervise, eventually):
    run = supervise("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    script = psutil.Process(int(run.process.wait_for("\n")))
    run.process.popen.kill()
    eventually(lambda: not script.is_running() or script.status() == "zombie", "the script's end")


def test_a_program_that_closes_its_streams_and_goes_on_is_waited_for(supervise):
    run = supervise("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.3)\nos._exit(5)")
    assert run.outcome.exit_code == 5


@pytest.mark.parametrize("argv", [["/nowhere/program"], ["./program-that-is-not-there"]])
def test_a_program_that_is_not_there_is_named(supervise, argv):
    run = supervise(argv)
    assert run.process.wait() == 1
    assert f"No such file or directory: '{argv[0]}'" in run.process.stderr


def test_a_reader_that_has_gone_does_not_stop_the_script(start, tmp_path):
    source = "import sys\nfor i in range(20000): print('x' * 100)\nsys.exit(4)"
    reading, writing = os.pipe()
    outcome = tmp_path / "outcome.json"
    broken = f"import os; os.dup2({writing}, 1)\n{DRIVER}"
    process = start(
        "-c", broken, json.dumps([sys.executable, "-c", source]), "1", str(outcome), pass_fds=[writing]
    )
    os.close(reading)
    os.close(writing)
    assert Supervised(process, outcome).outcome.exit_code == 4


def test_a_terminal_that_was_made_non_blocking_loses_nothing(start, tmp_path):
    source = "for i in range(5000): print('x' * 99)"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    outcome = tmp_path / "outcome.json"
    shared = f"import os; os.dup2({writing}, 1)\n{DRIVER}"
    process = start(
        "-c", shared, json.dumps([sys.executable, "-c", source]), "1", str(outcome), pass_fds=[writing]
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == (b"x" * 99 + b"\n") * 5000
    assert Supervised(process, outcome).outcome.exit_code == 0


def test_a_failure_of_the_supervisor_leaves_nothing_running(start, tmp_path):
    broken = """
from modelyard.training import supervisor
def fail(*_):
    raise OSError("no")
supervisor._read = fail
"""
    source = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint(flush=True)\ntime.sleep(60)"
    argv = json.dumps([sys.executable, "-c", source])
    process = start("-c", broken + DRIVER, argv, "1", str(tmp_path / "outcome"))
    assert process.wait() == 1
    assert not psutil.pid_exists(int(Path(tmp_path, "pid").read_text()))


# -- lines -------------------------------------------------------------------------------------

CHUNKS = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\n", b"x" * 40_000, b"y" * 70_000 + b"\n"]))
)


@given(CHUNKS)
def test_lines_lose_and_add_nothing_but_a_last_newline(chunks):
    emitted = []
    lines = _Lines(emitted.append)
    for chunk in chunks:
        lines.feed(chunk)
        assert len(lines._partial) <= supervisor._TAIL_BYTES
    lines.flush()
    whole = b"".join(chunks)
    ended = whole if whole.endswith(b"\n") or not whole else whole + b"\n"
    assert b"".join(emitted) == ended
    assert all(part.endswith(b"\n") or len(part) > supervisor._TAIL_BYTES for part in emitted)
    assert lines.tail() == ended[-supervisor._TAIL_BYTES :].decode("utf-8", "replace")


@given(CHUNKS)
def test_what_is_remembered_is_bounded(chunks):
    lines = _Lines(lambda _: None)
    for chunk in chunks * 5:
        lines.feed(chunk)
    longest = max(map(len, chunks), default=0)
    assert sum(map(len, lines._seen)) <= 2 * supervisor._TAIL_BYTES + longest


@given(st.lists(st.sampled_from([b"\n", b"x" * 1000, b"y" * 4095, b"z" * 5000, b"a\n"])).map(b"".join))
def test_parts_are_whole_lines_that_a_pipe_takes_in_one_piece(data):
    parts = list(_parts(data))
    assert b"".join(parts) == data
    assert all(part.endswith(b"\n") for part in parts[:-1])
    assert all(len(part) <= 4096 or part.find(b"\n") in (-1, len(part) - 1) for part in parts)
