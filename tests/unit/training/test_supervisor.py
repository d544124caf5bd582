"""The supervisor takes over signals and reaps children: it runs in a process of its own here."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.processes import has_ended

from modelyard.training.lines import LONGEST

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


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


def test_lines_of_several_supervisors_stay_whole_in_one_pipe(supervise):
    source = "import sys\nfor _ in range(200): print(sys.argv[1] * 1000, flush=True)"
    reading, writing = os.pipe()
    shared = f"import os; os.dup2({writing}, 1)"
    runs = [
        supervise([sys.executable, "-c", source, letter], before=shared, pass_fds=[writing])
        for letter in "ab"
    ]
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    assert [run.outcome.exit_code for run in runs] == [0, 0]
    assert sorted(lines) == ["a" * 1000] * 200 + ["b" * 1000] * 200


def test_ten_megabytes_without_a_newline_come_out_in_bounded_lines_and_are_not_kept(supervise, tmp_path):
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
    lines = run.process.stdout.splitlines()
    assert "".join(lines) == "x" * 65536 * 160
    assert max(map(len, lines)) <= LONGEST + 65536
    # An interpreter with our imports has some 30 MB; ten more would be the output.
    quiet = supervise("import psutil; print(psutil.Process().parent().memory_info().rss // 1024)")
    assert quiet.outcome.exit_code == 0
    assert int(measured.read_text()) - int(quiet.process.stdout) < 5000


def test_bytes_that_are_not_utf8_pass_unchanged(supervise):
    run = supervise(
        "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.buffer.write(b'\\xff\\xfe')"
    )
    assert run.outcome.stderr_tail == "\ufffd\ufffd\n"
    # But for what a carriage return starts over.
    assert run.process.out.read_bytes() == bytes(range(11)) + bytes(range(256))[14:] + b"\n"


def test_the_tail_is_the_end_and_at_most_64_kib(supervise):
    run = supervise("import sys\nfor i in range(20000): print(f'line {i:05}', file=sys.stderr)")
    tail = run.outcome.stderr_tail
    assert tail.endswith("line 19999\n")
    assert 64 * 1024 - len("line 12345\n") < len(tail) <= 64 * 1024
    assert tail.startswith("line ")
    assert run.process.stderr.endswith(tail)


def test_sigterm_reaches_the_script_whose_own_exit_code_counts(supervise):
    source = """
import signal, sys, time
def stop(*_):
    print("saving", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""
    run = supervise(source)
    run.process.wait_for("ready")
    run.process.terminate()
    outcome = run.outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (7, 0, True)
    assert run.process.stdout == "ready\nsaving\n"


def test_sigint_is_a_keyboard_interrupt_in_the_script(supervise):
    run = supervise("import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.1)")
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
while True:
    time.sleep(0.1)
"""
    run = supervise(source)
    run.process.wait_for("ready\nready")
    run.process.terminate()
    assert run.outcome.stopped
    assert "script stops" in run.process.stdout


SAVER = """
import os, signal, sys, time
def save(*_):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""

CALL = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, sys.argv[1]]))"
LEAVE = (
    "import subprocess, sys; subprocess.Popen([sys.executable, sys.argv[1]], start_new_session=True).wait()"
)


@pytest.fixture
def wrapped(supervise, tmp_path):
    """Start a program behind another one, which SIGTERM ends at once, and wait until it is ready."""
    wrappers = {
        "shell": ["/bin/sh", "-c", f'"{sys.executable}" "$1"; true', "train.sh"],
        "call": [sys.executable, "-c", CALL],
        "session": [sys.executable, "-c", LEAVE],
    }

    def make(wrapper, source, **options):
        program = tmp_path / "program.py"
        program.write_text(source)
        run = supervise([*wrappers[wrapper], str(program)], **options)
        run.process.wait_for("ready")
        return run

    return make


@linux_only
@pytest.mark.parametrize("wrapper", ["shell", "call", "session"])
def test_a_program_behind_a_wrapper_that_dies_of_sigterm_at_once_has_its_time_to_save(wrapped, wrapper):
    run = wrapped(wrapper, SAVER)
    run.process.terminate()
    outcome = run.outcome
    assert (outcome.exit_code, outcome.signal, outcome.stopped) == (143, signal.SIGTERM, True)
    assert run.process.stdout == "ready\nsaved\n"


@linux_only
def test_a_program_behind_a_wrapper_is_told_to_stop_once(wrapped):
    run = wrapped("shell", SAVER.replace("time.sleep(1)", 'print("told", flush=True); time.sleep(1)'))
    run.process.terminate()
    assert run.outcome.stopped
    assert run.process.stdout == "ready\ntold\nsaved\n"


@linux_only
def test_a_program_behind_a_wrapper_is_killed_after_its_time(wrapped):
    stubborn = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    run = wrapped("shell", stubborn + "print('ready', os.getpid(), flush=True)\ntime.sleep(60)", grace=0.5)
    pid = int(run.process.wait_for("\n").split()[1])
    run.process.terminate()
    assert run.outcome.signal == signal.SIGTERM
    assert not psutil.pid_exists(pid)


def test_a_terminal_that_hangs_up_stops_the_script_as_sigterm_does(supervise):
    run = supervise(SAVER)
    run.process.wait_for("ready")
    run.process.popen.send_signal(signal.SIGHUP)
    outcome = run.outcome
    assert (outcome.exit_code, outcome.stopped) == (0, True)
    assert run.process.stdout == "ready\nsaved\n"


def test_under_nohup_a_terminal_that_hangs_up_changes_nothing(supervise, tmp_path):
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    run = supervise(
        "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)",
        before=nohup,
    )
    run.process.wait_for("ready")
    run.process.popen.send_signal(signal.SIGHUP)
    (tmp_path / "supervised-0" / "go").touch()
    outcome = run.outcome
    assert (outcome.exit_code, outcome.stopped) == (0, False)


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
    time.sleep(0.1)
"""
    run = supervise(source, grace=1.0)
    run.process.wait_for("ready")
    for _ in range(3):
        run.process.terminate()
        run.process.wait_for("again")
    assert run.outcome.signal == signal.SIGKILL


def test_a_signal_that_comes_while_the_child_starts_is_passed_on(supervise):
    early = """
import signal, subprocess
started = subprocess.Popen
def late(*arguments, **options):
    child = started(*arguments, **options)
    signal.raise_signal(signal.SIGTERM)
    return child
subprocess.Popen = late
"""
    outcome = supervise("import time; time.sleep(60)", before=early).outcome
    assert (outcome.signal, outcome.stopped) == (signal.SIGTERM, True)


def test_a_signal_that_comes_before_the_command_leaves_it_unstarted(start, tmp_path):
    source = """
import os, signal, sys
from pathlib import Path
from modelyard.core.contracts import Command
from modelyard.training import supervisor

with supervisor.signals() as stop:
    assert not stop.pending
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert stop.pending
    touch = Command((sys.executable, "-c", "open('started', 'w')"), {}, Path.cwd())
    print(supervisor.run(touch, os.environ, stop=stop))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    process = start("-c", source, cwd=tmp_path)
    assert process.wait() == 0, process.stderr
    said, restored = process.stdout.splitlines()
    assert said.startswith("Outcome(exit_code=130, signal=2, stopped=True,")
    assert said.endswith("started=False)")
    assert restored == "True"
    assert not (tmp_path / "started").exists()


INTERRUPTING = """
import os, signal, sys, time
from pathlib import Path
from modelyard.core.contracts import Command
from modelyard.training import supervisor

def run(source):
    return supervisor.run(Command((sys.executable, "-c", source), {}, Path.cwd()), os.environ, stop=stop)

with supervisor.signals() as stop:
"""


@pytest.fixture
def interrupting(start, tmp_path):
    """Run indented source with the `Stop` of this process, up to when it prints ``ready``."""

    def make(source):
        process = start("-c", INTERRUPTING + source, cwd=tmp_path)
        process.wait_for("ready")
        return process

    return make


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_what_is_no_command(interrupting, sig):
    process = interrupting("""
    try:
        with stop.interrupting():
            print("ready", flush=True)
            while True:
                time.sleep(0.1)
    except supervisor.Interrupted as error:
        print(error.signal, stop.signal, error)
""")
    process.popen.send_signal(sig)
    assert process.wait() == 0, process.stderr
    assert process.stdout == f"ready\n{int(sig)} {int(sig)} told to stop by {sig.name}\n"


def test_a_signal_that_has_come_before_interrupts_at_once(interrupting):
    process = interrupting("""
    signal.raise_signal(signal.SIGTERM)
    print("ready")
    try:
        with stop.interrupting():
            print("done what was not to be")
    except supervisor.Interrupted as error:
        print(error.signal)
""")
    assert process.wait() == 0, process.stderr
    assert process.stdout == "ready\n15\n"


def test_a_second_signal_does_not_interrupt_what_the_first_one_has_set_going(interrupting):
    process = interrupting("""
    try:
        with stop.interrupting():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
                print("ready")
    except supervisor.Interrupted as error:
        signal.raise_signal(signal.SIGTERM)
        print(error.signal, stop.signal)
""")
    assert process.wait() == 0, process.stderr
    assert process.stdout == "ready\n15 15\n"


def test_a_command_that_is_stopped_does_not_interrupt_who_runs_it(interrupting):
    process = interrupting("""
    with stop.interrupting():
        outcome = run("import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)")
        print(outcome.stopped, outcome.started, outcome.signal)
        outcome = run("print('not to be started')")
        print("ready", outcome.stopped, outcome.started)
""")
    assert process.wait() == 0, process.stderr
    assert process.stdout == "True True 15\nready True False\n"


def test_after_a_command_a_signal_interrupts_again(interrupting):
    process = interrupting("""
    try:
        with stop.interrupting():
            print(run("pass").exit_code)
            print("ready", flush=True)
            while True:
                time.sleep(0.1)
    except supervisor.Interrupted as error:
        print(error.signal)
""")
    process.terminate()
    assert process.wait() == 0, process.stderr
    assert process.stdout == "0\nready\n15\n"


def test_several_commands_run_under_the_same_signals(start, tmp_path):
    source = """
import os, sys
from pathlib import Path
from modelyard.core.contracts import Command
from modelyard.training import supervisor

with supervisor.signals() as stop:
    for code in (0, 3):
        command = Command((sys.executable, "-c", f"print({code}); raise SystemExit({code})"), {}, Path.cwd())
        print(supervisor.run(command, os.environ, stop=stop).exit_code, file=sys.stderr)
"""
    process = start("-c", source, cwd=tmp_path)
    assert process.wait() == 0
    assert (process.stdout, process.stderr) == ("0\n3\n", "0\n3\n")


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
def is_zombie(process):
    try:
        return process.status() == "zombie"
    except psutil.NoSuchProcess:  # It was reaped just now.
        return False
def zombies():
    return [p for p in psutil.Process(os.getppid()).children() if is_zombie(p)]
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
    eventually(lambda: has_ended(script), "the script's end")


def test_a_program_that_closes_its_streams_and_goes_on_is_waited_for(supervise):
    run = supervise("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.3)\nos._exit(5)")
    assert run.outcome.exit_code == 5


@pytest.mark.parametrize("argv", [["/nowhere/program"], ["./program-that-is-not-there"]])
def test_a_program_that_is_not_there_is_named(supervise, argv):
    run = supervise(argv)
    assert run.process.wait() == 1
    assert f"No such file or directory: '{argv[0]}'" in run.process.stderr


def test_a_reader_that_has_gone_does_not_stop_the_script(supervise):
    source = "import sys\nfor i in range(20000): print('x' * 100)\nsys.exit(4)"
    reading, writing = os.pipe()
    run = supervise(source, before=f"import os; os.dup2({writing}, 1)", pass_fds=[writing])
    os.close(reading)
    os.close(writing)
    assert run.outcome.exit_code == 4


def test_a_stream_that_was_never_open_does_not_stop_the_script(supervise):
    run = supervise("print('x'); raise SystemExit(4)", before="import os; os.close(1)")
    assert run.outcome.exit_code == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_does_not_stop_the_script(supervise):
    source = "import sys\nfor i in range(20000): print('x' * 100)\nsys.exit(4)"
    full = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    assert supervise(source, before=full).outcome.exit_code == 4


def test_a_terminal_that_was_made_non_blocking_loses_nothing(supervise):
    source = "for i in range(5000): print('x' * 99)"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    run = supervise(source, before=f"import os; os.dup2({writing}, 1)", pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == (b"x" * 99 + b"\n") * 5000
    assert run.outcome.exit_code == 0


STALLED = """
import os, signal, sys, time
def stop(*_):
    open("stopped", "w").close()
    os._exit(7)
signal.signal(signal.SIGTERM, stop)
os.set_blocking(1, False)
written = 0
while written < 3_000_000:
    try:
        written += os.write(1, b"x" * 99 + b"\\n")
    except BlockingIOError:
        if written > 1_000_000 and not os.path.exists("held"):
            open("held", "w").write(str(written))
        time.sleep(0.01)
os._exit(3)
"""


@pytest.fixture
def stalled(supervise, eventually, tmp_path):
    """A script whose output nobody reads any more, and the end to read it from."""
    reading, writing = os.pipe()
    run = supervise(STALLED, before=f"import os; os.dup2({writing}, 1)", pass_fds=[writing])
    os.close(writing)
    eventually((tmp_path / "supervised-0" / "held").exists, "the script's pipe is full")
    yield run, reading
    os.close(reading)


def test_a_reader_that_comes_back_has_lost_nothing(stalled):
    run, reading = stalled
    with os.fdopen(os.dup(reading), "rb") as pipe:
        assert pipe.read() == (b"x" * 99 + b"\n") * 30_000
    assert run.outcome.exit_code == 3


def test_what_nobody_reads_is_held_back_and_not_kept(stalled):
    run, _ = stalled
    assert psutil.Process(run.process.popen.pid).memory_info().rss < 100_000_000
    run.process.popen.kill()


@linux_only
def test_signals_are_passed_on_and_orphans_reaped_while_nobody_reads(stalled, eventually, tmp_path):
    run, _ = stalled
    (script,) = psutil.Process(run.process.popen.pid).children()
    run.process.terminate()
    eventually((tmp_path / "supervised-0" / "stopped").exists, "SIGTERM arrives")
    eventually(lambda: not script.is_running(), "the script is reaped")
    assert run.outcome.exit_code == 7


def test_a_failure_of_the_supervisor_leaves_nothing_running(supervise, tmp_path):
    broken = """
from modelyard.training import streams
class Broken(streams.Lines):
    def feed(self, chunk):
        raise OSError("no")
streams.Lines = Broken
"""
    source = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint(flush=True)\ntime.sleep(60)"
    run = supervise(source, before=broken)
    assert run.process.wait() == 1
    assert not psutil.pid_exists(int(Path(tmp_path, "supervised-0", "pid").read_text()))


def test_an_idle_supervisor_does_nothing(supervise, tmp_path):
    source = "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
    run = supervise(source)
    run.process.wait_for("ready")
    process = psutil.Process(run.process.popen.pid)
    before = process.num_ctx_switches().voluntary
    time.sleep(1)
    assert process.num_ctx_switches().voluntary - before < 5
    (tmp_path / "supervised-0" / "go").touch()
    assert run.outcome.exit_code == 0


def test_a_program_that_is_not_here_is_named(supervise):
    process = supervise(["a-tool-that-is-not-here", "train.py"]).process
    assert process.wait() == 1
    assert "InvalidPlanError: a-tool-that-is-not-here is not here: install it, or put it on" in process.stderr
