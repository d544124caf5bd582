"""A client's hold on a guard: let go in good order, once, and by nobody else."""

import os
import signal
import subprocess
import sys

import pytest

from modelyard.plugins.backends.local import owner
from modelyard.plugins.backends.local.backend import LocalBackend
from modelyard.plugins.backends.local.guard import DETACH


@pytest.fixture
def hold():
    """Return holds and the guards' ends of them, which are closed at the end of the test."""
    held = []

    def take():
        theirs, number = owner.hold()
        os.set_blocking(theirs, False)
        held.append((theirs, number))
        return theirs, number

    yield take
    for theirs, number in held:
        owner.release(number)
        os.close(theirs)


def said(theirs):
    """Return what a guard reads: None while its owner is silent, nothing when it is dead."""
    try:
        return os.read(theirs, 10)
    except BlockingIOError:
        return None


def test_an_owner_is_silent_until_it_says_goodbye(hold):
    theirs, number = hold()
    assert said(theirs) is None
    owner.release(number)
    assert said(theirs) == DETACH
    assert said(theirs) == b""


def test_a_second_release_lets_nothing_else_go(hold):
    """The numbers of the pipe's descriptors are used again by the next one."""
    gone, first = owner.hold()
    owner.release(first)
    os.close(gone)
    theirs, _ = hold()
    owner.release(first)
    assert said(theirs) is None


def test_what_was_never_held_is_not_released():
    owner.release(-1)


def test_a_guard_that_has_ended_is_no_error():
    theirs, number = owner.hold()
    os.close(theirs)
    owner.release(number)


def test_a_forked_child_has_no_hold(hold):
    theirs, number = hold()
    child = os.fork()
    if child == 0:
        owner.release(number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert said(theirs) is None


@pytest.mark.parametrize(("ending", "last_word"), [("exit", DETACH), ("kill", b"")])
def test_the_end_of_a_client_is_told_from_its_death(modelyard_home, ending, last_word):
    program = """
import os, sys
from modelyard.plugins.backends.local import owner
theirs, number = owner.hold()
if os.fork() == 0:  # A guard, for this test: it has no hold, and reads what its owner says.
    os.write(1, b"held\\n")
    said = os.read(theirs, 1)
    os.write(1, repr(said).encode())
    os._exit(0)
os.close(theirs)
sys.stdin.read()
"""
    client = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with client:
        assert client.stdout.readline() == "held\n"
        if ending == "kill":
            client.send_signal(signal.SIGKILL)
        else:
            client.stdin.close()
        assert client.stdout.read() == repr(last_word)


def test_a_home_is_the_same_for_processes_in_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert LocalBackend(home="here").home == str(tmp_path / "here")
    assert LocalBackend(home="~/there").home == "/home/someone/there"
    monkeypatch.setenv("MODELYARD_HOME", "configured")
    assert LocalBackend().home == str(tmp_path / "configured")
