"""What ends processes: each test has a small supervisor of its own, for these calls reap all children."""

import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from tests.processes import ends

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

PREAMBLE = """
import os, signal, subprocess, sys, time
import psutil
from modelyard.core.processes import become_subreaper, die_with_parent, end_descendants
from modelyard.core.processes import reap_orphans, signal_descendants

def start(code, **options):
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)
    child.stdout.readline()
    return child

def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

WAIT = "import time; print(1, flush=True); time.sleep(300)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT
TALKATIVE = "import signal; signal.signal(signal.SIGTERM, print); " + WAIT
"""


@pytest.fixture
def supervise(modelyard_home):
    """Run code in a process of its own and return what it prints; what it leaves behind is an error."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


def test_without_children_it_returns_at_once(supervise):
    assert supervise("end_descendants(60); print('ended')") == ["ended"]


def test_a_child_is_killed_and_reaped(supervise):
    assert supervise("""
        child = start(WAIT)
        end_descendants()
        print(psutil.pid_exists(child.pid))
    """) == ["False"]


def test_children_that_have_ended_are_reaped(supervise):
    assert supervise("""
        children = [start("print(1)") for _ in range(5)]
        for child in children:
            child.stdout.read()
        end_descendants()
        print([child.pid for child in children if psutil.pid_exists(child.pid)])
    """) == ["[]"]


def test_grace_lets_a_child_end_by_itself(supervise):
    assert supervise("""
        child = start('''
        import signal, sys, time
        def end(*_):
            print("goodbye", flush=True)
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print(1, flush=True)
        while True:
            time.sleep(0.1)
        ''')
        end_descendants(60)
        print(child.stdout.read())
    """) == ["goodbye"]


def test_without_grace_nobody_is_asked(supervise):
    assert supervise("""
        child = start(TALKATIVE)
        end_descendants()
        print(repr(child.stdout.read()), alive(child.pid))
    """) == ["''", "False"]


def test_what_ignores_sigterm_is_killed_when_the_grace_is_over(supervise):
    assert supervise("""
        child = start(STUBBORN)
        before = time.monotonic()
        end_descendants(0.5)
        print(alive(child.pid), time.monotonic() - before >= 0.5)
    """) == ["False", "True"]


def test_a_signal_reaches_children_of_children_in_sessions_of_their_own(supervise):
    """The child ends by itself once its own one, which is in another session, was killed."""
    assert supervise("""
        child = start('''
        import signal, subprocess, sys
        signal.signal(signal.SIGTERM, lambda *_: None)
        wait = [sys.executable, "-c", "import time; time.sleep(300)"]
        own = subprocess.Popen(wait, stdout=subprocess.DEVNULL, start_new_session=True)
        print(1, flush=True)
        sys.exit(own.wait() + 20)
        ''')
        signal_descendants(signal.SIGTERM)
        print(child.wait())
    """) == ["5"]


def test_a_signal_can_leave_out_a_process_group(supervise):
    assert supervise("""
        inside = start(WAIT, start_new_session=True)
        outside = start(WAIT)
        signal_descendants(signal.SIGTERM, but_of=inside.pid)
        print(outside.wait(), inside.poll())
        end_descendants()
    """) == ["-15", "None"]


def test_reaping_tells_whether_children_are_left(supervise):
    assert supervise("""
        child = start(WAIT)
        print(reap_orphans(child.pid), reap_orphans())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        print(reap_orphans(child.pid), reap_orphans())
    """) == ["True", "True", "True", "False"]


@LINUX_ONLY
def test_orphans_in_sessions_of_their_own_are_ended_too(supervise):
    assert supervise("""
        become_subreaper()
        child = start('''
        import subprocess, sys
        print(1, flush=True)
        wait = [sys.executable, "-c", "import time; time.sleep(300)"]
        print(subprocess.Popen(wait, stdout=subprocess.DEVNULL, start_new_session=True).pid)
        ''')
        orphan = int(child.stdout.read())
        child.wait()
        assert alive(orphan), "it has lost its parent"
        assert psutil.Process(orphan).ppid() == os.getpid(), "and got this one"
        end_descendants()
        print(psutil.pid_exists(orphan))
    """) == ["False"]


@LINUX_ONLY
def test_a_child_that_forks_while_it_is_ended_does_not_escape(supervise):
    assert supervise("""
        become_subreaper()
        child = start('''
        import os, time
        print(1, flush=True)
        for _ in range(200):
            if os.fork():
                time.sleep(0.005)
                os._exit(0)
        time.sleep(300)
        ''')
        end_descendants()
        print(psutil.Process().children(recursive=True))
    """) == ["[]"]


@LINUX_ONLY
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL], ids=lambda sig: sig.name)
def test_a_child_dies_with_its_parent(modelyard_home, sig):
    code = PREAMBLE + textwrap.dedent(f"""
        parent = os.getpid()
        child = start(WAIT, preexec_fn=lambda: die_with_parent(signal.{sig.name}, parent))
        print(child.pid, flush=True)
        time.sleep(300)
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert ends(child)


@LINUX_ONLY
def test_a_parent_that_is_dead_already_counts(supervise):
    """The pid is that of no parent: as if it had died between the fork and the call."""
    assert supervise("""
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(300)"],
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, 1 if os.getppid() != 1 else 2),
        )
        print(child.wait())
    """) == ["-9"]
