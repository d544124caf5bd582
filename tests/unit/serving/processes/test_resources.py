"""What one worker takes of the machine."""

import os
import subprocess
import sys
import threading

import pytest

from modelyard.core.cores import cores
from modelyard.serving.processes.resources import give_way, share_cores


def test_workers_share_the_cores():
    environ = {}
    share_cores(1, environ)
    assert environ["OMP_NUM_THREADS"] == environ["MKL_NUM_THREADS"] == str(cores())
    environ = {}
    share_cores(1000, environ)
    assert environ["OMP_NUM_THREADS"] == "1"


def test_what_the_user_has_said_is_left_alone():
    environ = {"MKL_NUM_THREADS": "5"}
    share_cores(2, environ)
    assert environ == {"MKL_NUM_THREADS": "5"}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is on data of all kinds on Linux only")
def test_memory_beyond_the_limit_is_an_error_of_the_one_who_asks():
    code = """
from modelyard.serving.processes.resources import keep_freed_memory, limit_memory
keep_freed_memory()
limit_memory(300 * 1024 * 1024)
small = bytearray(10 * 1024 * 1024)
try:
    bytearray(400 * 1024 * 1024)
except MemoryError:
    print("refused")
limit_memory(0)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout == "refused\n"


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has it")
def test_a_thread_gives_way_and_those_before_it_do_not():
    policies = {}

    def note(name):
        policies[name] = os.sched_getscheduler(0)

    def gives_way():
        give_way()
        note("one")

    for target in (gives_way, lambda: note("another")):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert policies == {"one": os.SCHED_BATCH, "another": os.SCHED_OTHER}


def test_a_sandbox_may_forbid_to_give_way(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden, raising=False)
    give_way()
